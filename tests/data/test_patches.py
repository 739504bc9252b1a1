"""Patches, acquisition changes and the chest field: ranges, repeatability, no float64."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medvae.config import PatchConfig
from medvae.data import acquisition, patches
from medvae.data.acquisition import reacquire
from medvae.data.chest_field import learn_chest_field, mean_image
from medvae.data.patches import paste_patches

SIDE = 64


class NoDouble(TorchDispatchMode):
    """Fails on any float64 tensor: Apple's GPU has none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        assert not (isinstance(result, torch.Tensor) and result.dtype == torch.float64), func
        return result


def _images(count: int = 6) -> torch.Tensor:
    return torch.rand((count, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))


def _field() -> torch.Tensor:
    field = torch.zeros((SIDE, SIDE))
    field[20:44, 20:44] = 1
    return field


def _paste(share: float, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    config = PatchConfig(share=share)
    draws = torch.rand((6, config.patches, patches.DRAWS), generator=generator)
    return paste_patches(_images(), _images().flip(0), _field(), draws, config)


def _reacquire(strength: float, images: torch.Tensor):
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand((len(images), acquisition.DRAWS), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return reacquire(images, images, draws, noise, strength)


def test_every_image_gets_a_patch_or_none_does():
    everyone, nobody = _paste(1.0), _paste(0.0)
    assert (everyone.changed.flatten(1).amax(1) > 0).all()
    assert torch.equal(nobody.images, _images())
    assert not nobody.changed.any()


def test_an_opaque_patch_is_made_of_pixels_that_were_there():
    """Moved by whole pixels: nothing is resampled, so lost sharpness gives no patch away."""
    image = torch.arange(SIDE * SIDE).view(1, 1, SIDE, SIDE) / SIDE**2
    for seed in range(5):
        draws = torch.rand((1, 1, patches.DRAWS), generator=torch.Generator().manual_seed(seed))
        draws[:, :, 6 + 4] = 1.0  # opacity
        config = PatchConfig(share=1.0, patches=1)
        pasted = paste_patches(image, image, _field(), draws, config).images
        values = (pasted * SIDE**2).flatten()
        whole = (values - values.round()).abs() < 1e-3
        assert whole.float().mean() > 0.5  # all but the rim
        assert (values.round() != image.flatten() * SIDE**2).any()


def test_what_is_not_marked_is_what_it_was():
    pasted = _paste(1.0)
    untouched = pasted.changed == 0
    assert torch.allclose(pasted.images[untouched], _images()[untouched], atol=1e-5)
    assert pasted.images.min() >= 0
    assert pasted.images.max() <= 1


def test_the_same_generator_draws_the_same_patches():
    assert torch.equal(_paste(0.5, 3).images, _paste(0.5, 3).images)
    assert not torch.equal(_paste(0.5, 3).images, _paste(0.5, 4).images)


def test_reacquire_changes_both_versions_alike_and_adds_noise_to_one():
    images = _images()
    seen, clean = _reacquire(1.0, images)
    assert (seen - clean).abs().max() < 0.25  # the noise alone
    assert (clean - images).abs().mean() > 0.01
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


def test_strength_zero_leaves_all_as_it_is():
    seen, clean = _reacquire(0.0, _images())
    assert torch.equal(seen, _images())
    assert torch.equal(clean, _images())


def test_borders_and_letters_come_to_some_images_and_not_to_all():
    gray = torch.full((200, 1, SIDE, SIDE), 0.5)
    _, clean = _reacquire(1.0, gray)
    framed = (clean[:, :, 0] == 0).any(-1) | (clean[..., 0] == 0).any(-1)
    lettered = (clean > 0.94).flatten(1).any(1)
    assert 0.05 < float(framed.float().mean()) < 0.4
    assert 0.05 < float(lettered.float().mean()) < 0.3


def test_nothing_is_computed_in_double():
    with NoDouble():
        pasted = _paste(1.0)
        _reacquire(1.0, pasted.images)


def test_the_field_finds_two_dark_lungs():
    chest = torch.full((64, 64), 0.8)
    chest[16:46, 12:27] = 0.2
    chest[16:46, 37:52] = 0.2
    field = learn_chest_field(chest)
    assert field[30, 20] > 0.8
    assert field[30, 44] > 0.8
    assert field[2, 2] < 0.1
    assert field[62, 32] < 0.3


def test_without_lungs_the_field_is_the_centre():
    field = learn_chest_field(torch.full((32, 32), 0.5))
    assert field[16, 16] > 0.9
    assert field[0, 0] == 0


def test_mean_image_weighs_every_image_alike():
    batches = [torch.zeros((3, 1, 4, 4)), torch.ones((1, 1, 4, 4))]
    assert torch.allclose(mean_image(batches), torch.full((4, 4), 0.25))
