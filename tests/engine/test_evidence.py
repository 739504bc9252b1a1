"""Scores against healthy statistics, their way through a checkpoint, and the common scale."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medvae.config import Config
from medvae.device import choose_compute
from medvae.engine.calibration import Calibration
from medvae.engine.detector import AnomalyDetector, calibrate_model
from medvae.engine.gaussian import Gaussian
from medvae.engine.labels import LABELS
from medvae.engine.scores import (
    COMBINED,
    DEFAULT_SCORE,
    NEED_PATCH_HEAD,
    SCORES,
    View,
    _towards_equal,
    combine,
    common_scale,
)
from medvae.model.vae import VAE, VAEOutput

TINY = {"model.image_size": 32, "model.width": 4, "model.latent_size": 8}


def _batches(seed: int, count: int = 24) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    yield from torch.rand((count, 1, 32, 32), generator=generator).split(16)


def _detector(patch_head: bool) -> AnomalyDetector:
    config = Config().override({**TINY, "model.patch_head": patch_head, "model.refine": patch_head})
    torch.manual_seed(0)
    weights = copy.deepcopy(VAE(config.model).state_dict())
    compute = choose_compute("cpu", "fp32")
    calibration = calibrate_model(
        config, weights, lambda: _batches(1), lambda: _batches(2), compute
    )
    content = {"calibration": calibration.to_content(), "weights": weights}
    return AnomalyDetector(content, config, Path("tiny"), compute)


def test_distance_is_smallest_at_the_mean():
    cloud = torch.randn((200, 3), generator=torch.Generator().manual_seed(0))
    gaussian = Gaussian.fit(cloud)
    near, far = gaussian.log_distance(torch.stack([cloud.mean(0), torch.full((3,), 5.0)]))
    assert near < far


@pytest.mark.parametrize("patch_head", [False, True])
def test_every_score_the_network_can_give_is_finite(patch_head):
    pixels = (torch.cat(list(_batches(3)))[:, 0] * 255).byte().numpy()
    scores = _detector(patch_head).score_inputs(pixels)
    expected = {n for n in SCORES if patch_head or n not in NEED_PATCH_HEAD} | {DEFAULT_SCORE}
    assert set(scores) == expected
    assert all(np.isfinite(values).all() for values in scores.values())


def test_combined_is_the_weighted_sum_on_the_healthy_scale():
    detector = _detector(True)
    pixels = (torch.cat(list(_batches(3)))[:, 0] * 255).byte().numpy()
    scores = detector.score_inputs(pixels)
    scale = detector.calibration.healthy.common_scale
    assert set(scale) == set(COMBINED)
    by_hand = sum(s.weight * (scores[n] - s.mean) / s.spread for n, s in scale.items())
    assert np.allclose(scores[DEFAULT_SCORE], by_hand, atol=1e-4)


def test_weights_make_healthy_images_as_alike_as_can_be():
    draws = torch.randn((500, 3), generator=torch.Generator().manual_seed(0))
    steady, shared = draws[:, 0], draws[:, 1]
    values = {"residual": steady, "latent": shared, "features": shared + 0.1 * draws[:, 2]}
    scale = common_scale({name: 5 + 2 * score for name, score in values.items()})
    weights = {name: share.weight for name, share in scale.items()}
    assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) >= 0
    # What two kinds say alike counts about once.
    assert weights["residual"] == pytest.approx(0.5, abs=0.06)
    combined = combine({name: 5 + 2 * score for name, score in values.items()}, scale)
    plain = torch.stack([(score - score.mean()) / score.std() for score in values.values()]).mean(0)
    assert float(combined.var()) < float(plain.var())


def test_few_images_bring_the_weights_near_to_equal_ones():
    """By the published share, for weights that vary a quarter less than equal ones do."""
    covariance = np.diag([1.0, 2.0, 4.0, 8.0])
    best = np.array([8, 4, 2, 1]) / 15
    doubts = []
    for images in (4, 10, 50, 1000):
        found = _towards_equal(best, covariance, images)
        assert found.sum() == pytest.approx(1)
        shares = (found - best) / (0.25 - best)
        assert np.allclose(shares, shares[0])
        doubts.append(shares[0])
    more = (15 / 16) / (8 / 15) - 1
    expected = [1.0, 1 / 8 / more, 1 / 48 / more, 1 / 998 / more]
    assert np.allclose(doubts, expected)


def test_statistics_survive_a_checkpoint(tmp_path):
    calibration = _detector(True).calibration
    torch.save(calibration.to_content(), tmp_path / "c.pth")
    content = torch.load(tmp_path / "c.pth", weights_only=True)
    again = Calibration.from_content(content)
    images, logits = torch.randn((2, 1, 32, 32)), torch.randn((2, 1, 8, 8))
    output = VAEOutput(torch.zeros_like(images), images, images, logits)
    first, second = (View(images, output, each.healthy, 1.0) for each in (calibration, again))
    assert torch.equal(first.z_map, second.z_map)
    assert not torch.equal(first.z_map, first.residual_z)
    assert again.healthy.common_scale == calibration.healthy.common_scale


def test_a_model_of_an_older_version_keeps_its_map_of_one_scale():
    content = _detector(True).calibration.to_content()
    content["healthy"]["residual"] = dict(content["healthy"]["residual"][0])
    del content["healthy"]["residual"]["smoothing"], content["healthy"]["patch_map"]
    healthy = Calibration.from_content(content).healthy
    [scale] = healthy.residual
    assert scale.smoothing == 0.02
    assert healthy.patch_map is None
    residual = torch.randn((2, 1, 32, 32))
    assert torch.equal(healthy.residual_z(residual), scale.z(residual))


def test_every_score_has_a_label():
    assert set(LABELS) == {*SCORES, DEFAULT_SCORE}
