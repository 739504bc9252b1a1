"""The network: shapes, layers, ranges, and what the noise does."""

import pytest
import torch
from torch import nn

from medvae.config import Config, ModelConfig
from medvae.device import Compute
from medvae.model.vae import LOGVAR_RANGE, VAE, reparameterise

SMALL = ModelConfig(image_size=32, width=4, latent_size=8)


def build(config: ModelConfig = SMALL) -> VAE:
    torch.manual_seed(0)
    return VAE(config)


def images(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("latent", [1, 8])
def test_every_image_size_comes_back_in_its_own_shape(size: int, latent: int) -> None:
    model = build(
        ModelConfig.model_validate({"image_size": size, "width": 4, "latent_size": latent})
    )
    output = model(images(2, size))
    assert output.reconstruction.shape == (2, 1, size, size)
    assert output.mu.shape == output.logvar.shape == (2, latent)
    assert model.decode(torch.zeros(5, latent)).shape == (5, 1, size, size)


def test_four_convolutions_go_down_and_four_transposed_ones_up_each_by_half() -> None:
    model = build()
    down = [layer for layer in model.modules() if type(layer) is nn.Conv2d]
    up = [layer for layer in model.modules() if type(layer) is nn.ConvTranspose2d]
    assert len(down) == len(up) == 4
    assert all(layer.stride == (2, 2) for layer in [*down, *up])
    assert [layer.out_channels for layer in down] == [4, 8, 16, 32]
    assert [layer.in_channels for layer in up] == [32, 16, 8, 4]
    assert model.encoder(images()).shape == (3, 32, 2, 2)


def test_the_reference_has_the_latent_size_and_image_size_of_the_design() -> None:
    model = build(Config().model)
    mu, logvar = model.encode(images(2, 128))
    assert mu.shape == logvar.shape == (2, 256)


def test_pixels_come_out_between_0_and_1_whatever_the_latent_vector() -> None:
    model = build()
    wild = torch.randn(4, 8, generator=torch.Generator().manual_seed(2)) * 1000
    pixels = model.decode(wild).detach()
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
    assert isinstance(model.decoder[-1], nn.Sigmoid)


def test_without_noise_the_mean_is_decoded_and_repeats_exactly() -> None:
    model = build().eval()
    first, second = model(images()), model(images())
    assert torch.equal(first.reconstruction, second.reconstruction)
    assert torch.equal(first.reconstruction, model.decode(first.mu))


def test_noise_moves_the_latent_vector_by_its_spread() -> None:
    model = build().eval()
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    output = model(images(), noise)
    z = output.mu + torch.exp(output.logvar / 2) * noise
    torch.testing.assert_close(output.reconstruction, model.decode(z))
    assert not torch.equal(output.reconstruction, model(images()).reconstruction)
    assert torch.equal(
        model(images(), torch.zeros(3, 8)).reconstruction, model(images()).reconstruction
    )


def test_draws_have_the_mean_and_variance_that_were_asked_for() -> None:
    mu, logvar = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, -2.0]])
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(4))
    draws = reparameterise(mu, logvar, noise)
    torch.testing.assert_close(draws.mean(0), mu[0], atol=0.01, rtol=0)
    torch.testing.assert_close(draws.var(0), logvar[0].exp(), atol=0.01, rtol=0.01)


def test_gradients_reach_every_weight() -> None:
    model = build()
    output = model(images(), torch.ones(3, 8))
    (output.reconstruction.mean() + output.mu.mean() + output.logvar.mean()).backward()
    missing = [
        name for name, weight in model.named_parameters() if weight.grad is None
        or not weight.grad.isfinite().all() or not weight.grad.any()
    ]  # fmt: skip
    assert missing == []


def test_extreme_inputs_keep_the_variance_finite() -> None:
    model = build().eval()
    with torch.no_grad():
        model.to_logvar.weight.mul_(1e6)
        _, logvar = model.encode(images())
    assert LOGVAR_RANGE[0] <= float(logvar.min()) <= float(logvar.max()) <= LOGVAR_RANGE[1]
    assert torch.exp(logvar).isfinite().all()


def test_one_image_is_reconstructed_as_it_is_within_a_batch() -> None:
    model = build().eval()
    batch = images(6)
    whole = model(batch).reconstruction
    alone = torch.cat([model(image[None]).reconstruction for image in batch])
    torch.testing.assert_close(alone, whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_placing_on_a_device_changes_the_layout_and_not_the_result(precision: str) -> None:
    plain, placed = build().eval(), build().eval()
    compute = Compute(torch.device("cpu"), precision)
    compute.place(placed)
    with compute.autocast():
        one, other = plain(images()).reconstruction, placed(images()).reconstruction
    torch.testing.assert_close(one.float(), other.float(), atol=0.01, rtol=0.01)
