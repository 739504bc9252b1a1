"""A little movement and exposure, and nothing that would turn a healthy chest into another."""

import numpy as np
import torch

from medvae.data.augment import augment
from tests.data.drawn import chest


def batch(count: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.stack([chest(i) for i in range(count)])).unsqueeze(1).float() / 255


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def test_shape_type_and_range_stay() -> None:
    changed = augment(batch(), drawn(0))
    assert changed.shape == batch().shape
    assert changed.dtype == torch.float32
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1


def test_the_generator_alone_decides() -> None:
    assert torch.equal(augment(batch(), drawn(1)), augment(batch(), drawn(1)))
    assert not torch.equal(augment(batch(), drawn(1)), augment(batch(), drawn(2)))


def test_images_of_one_batch_are_changed_differently() -> None:
    same = batch(1).repeat(6, 1, 1, 1)
    changed = augment(same, drawn(3))
    assert len({bytes(image.numpy()) for image in changed}) == 6


def test_a_chest_stays_the_same_chest_the_same_way_round() -> None:
    images = batch()
    changed = augment(images, drawn(4))
    alike = [correlation(image, moved) for image, moved in zip(images, changed, strict=True)]
    turned = [correlation(i.flip(-1), moved) for i, moved in zip(images, changed, strict=True)]
    assert min(alike) > 0.6 and max(alike) < 1
    assert np.mean(alike) > np.mean(turned) + 0.03


def test_what_lies_beyond_the_border_is_black_in_half_of_the_images() -> None:
    white = torch.ones(200, 1, 32, 32)
    dark = (augment(white, drawn(6)) == 0).flatten(1).any(1)
    assert 0.3 < float(dark.float().mean()) < 0.7


def test_the_images_handed_in_are_not_changed() -> None:
    images = batch()
    augment(images, drawn(5))
    assert torch.equal(images, batch())
