"""The blur is the convolution it stands for, borders included."""

import pytest
import torch
import torch.nn.functional as F

from medvae.data.smoothing import smooth


def convolved(images: torch.Tensor, share: float) -> torch.Tensor:
    """Two one-dimensional convolutions of the padded image, tap by tap from the definition."""
    side = images.shape[-1]
    radius = min(max(1, -int(-3 * share * side // 1)), side - 1)
    offsets = torch.arange(-radius, radius + 1).double()
    kernel = torch.exp(-0.5 * (offsets / (share * side)) ** 2)
    kernel = kernel / kernel.sum()
    planes = images.double().flatten(0, 1).unsqueeze(1)
    padded = F.pad(planes, (radius,) * 4, mode="replicate")
    down = F.conv2d(padded, kernel.view(1, 1, -1, 1))
    return F.conv2d(down, kernel.view(1, 1, 1, -1)).view(images.shape)


@pytest.mark.parametrize("side", [32, 128])
@pytest.mark.parametrize("share", [0.008, 0.012, 0.0625, 0.3])
def test_a_blur_is_a_convolution_with_replicated_borders(side: int, share: float) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    blurred = smooth(images, share)
    assert blurred.dtype == torch.float32
    assert torch.allclose(blurred.double(), convolved(images, share), atol=2e-6)


def test_a_flat_image_stays_flat() -> None:
    assert torch.allclose(smooth(torch.full((1, 1, 64, 64), 0.7), 0.05), torch.tensor(0.7))


def test_gradients_pass_even_when_the_width_was_first_used_in_inference() -> None:
    with torch.inference_mode():
        smooth(torch.rand(1, 1, 16, 16), 0.0501)
    images = torch.rand(1, 1, 16, 16, requires_grad=True)
    smooth(images, 0.0501).sum().backward()
    assert images.grad is not None
