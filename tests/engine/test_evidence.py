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
from medvae.engine.scores import COMBINED, DEFAULT_SCORE, NEED_PATCH_HEAD, SCORES
from medvae.model.vae import VAE

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


def test_combined_is_the_mean_on_the_healthy_scale():
    detector = _detector(True)
    pixels = (torch.cat(list(_batches(3)))[:, 0] * 255).byte().numpy()
    scores = detector.score_inputs(pixels)
    scale = detector.calibration.healthy.common_scale
    by_hand = np.mean([(scores[n] - scale[n][0]) / scale[n][1] for n in COMBINED], axis=0)
    assert np.allclose(scores[DEFAULT_SCORE], by_hand, atol=1e-4)


def test_statistics_survive_a_checkpoint(tmp_path):
    calibration = _detector(True).calibration
    torch.save(calibration.to_content(), tmp_path / "c.pth")
    content = torch.load(tmp_path / "c.pth", weights_only=True)
    again = Calibration.from_content(content)
    residual = torch.randn((2, 1, 32, 32))
    assert torch.equal(calibration.z_map(residual), again.z_map(residual))
    assert again.healthy.common_scale == calibration.healthy.common_scale


def test_every_score_has_a_label():
    assert set(LABELS) == {*SCORES, DEFAULT_SCORE}
