"""What is no frontal chest X-ray is told, and a sick chest is not mistaken for one of those."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from medvae.data.phantom import LESIONS, draw_phantom
from medvae.data.transform import to_model_input
from medvae.engine.chest_gate import ChestGate, layouts_of, learn_gate

SIDE = 64


def _batch(images: list[np.ndarray]) -> torch.Tensor:
    pixels = np.stack([to_model_input(image, SIDE) for image in images])
    return torch.from_numpy(pixels).unsqueeze(1).float() / 255


@pytest.fixture(scope="module")
def gate() -> ChestGate:
    healthy = layouts_of(_batch([draw_phantom(seed, size=SIDE).image for seed in range(60)]))
    return learn_gate(healthy[:40], healthy[40:])


def test_chests_pass_healthy_or_sick(gate: ChestGate) -> None:
    chests = [draw_phantom(900 + i, kind, SIDE).image for i, kind in enumerate([None, *LESIONS])]
    assert gate.passes(_batch(chests)).all()


def test_photographs_noise_and_inverted_or_turned_chests_do_not(gate: ChestGate) -> None:
    chest = draw_phantom(950, size=SIDE).image
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
    photographs = [photo.mean(2) for photo in load_sample_images().images]
    others = [*photographs, noise, 255 - chest, np.rot90(chest), np.flipud(chest)]
    assert not gate.passes(_batch([np.ascontiguousarray(image) for image in others])).any()


def test_exposure_does_not_matter(gate: ChestGate) -> None:
    chest = _batch([draw_phantom(960, size=SIDE).image])
    assert torch.allclose(gate.distance(chest), gate.distance(0.3 * chest + 0.2), atol=1e-4)


def test_a_blank_image_does_not_pass(gate: ChestGate) -> None:
    assert not gate.passes(torch.full((1, 1, SIDE, SIDE), 0.5)).any()
