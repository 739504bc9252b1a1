"""What healthy images say of a score: p-values, thresholds, and maps in units of their spread."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medvae.data.smoothing import smooth
from medvae.engine import checkpoint
from medvae.engine.calibration import PIXEL_QUANTILE, Calibration, calibrate
from medvae.engine.chest_gate import ChestGate, layouts_of
from medvae.engine.healthy import COARSE, FINE, Healthy, learn_healthy
from medvae.engine.scores import DEFAULT_SCORE, View, measure
from medvae.model.vae import VAEOutput

Passes = Callable[[], Iterable[tuple[Tensor, VAEOutput]]]
SIZE = 32
CHEST = torch.ones(SIZE, SIZE)  # everywhere, so that nothing is attenuated


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def anything_healthy() -> Healthy:
    return learn_healthy(healthy_passes(8)(), CHEST)


def of_scores(*values: float) -> Calibration:
    gate = ChestGate(torch.eye(4), limit=1.0)
    scores = {"elbo": torch.tensor(values).sort().values}
    return Calibration(scores, anything_healthy(), 3.0, gate)


def calibrated(learnt: Passes, validation: Passes | None = None) -> Calibration:
    healthy = learn_healthy(learnt(), CHEST)

    layouts = torch.cat([layouts_of(images) for images, _ in learnt()])
    views = (View(*one, healthy, beta=1.0) for one in (validation or learnt)())
    return calibrate(views, healthy, layouts)


def a_pass(residual: Tensor, seed: int = 0) -> tuple[Tensor, VAEOutput]:
    """A forward pass that leaves this residual (B, 1, S, S)."""
    mu = torch.randn(len(residual), 3, generator=seeded(seed))
    flat = torch.zeros_like(residual)
    stages = (torch.randn(len(residual), 2, 4, 4, generator=seeded(seed + 1)),)
    return residual, VAEOutput(flat, mu, torch.zeros_like(mu), stages=stages)


def z_map(healthy: Healthy, residual: Tensor) -> Tensor:
    return View(*a_pass(residual), healthy, beta=1.0).z_map


def healthy_mean() -> Tensor:
    """(S, S): rising from left to right."""
    return torch.linspace(-0.2, 0.2, SIZE)[None, :].expand(SIZE, SIZE)


def healthy_passes(count: int = 64, seed: int = 0, batch: int = 10) -> Passes:
    """Residuals with a mean and a spread that differ from pixel to pixel."""
    rows = torch.linspace(0.5, 2.0, SIZE)[:, None]
    draws = torch.randn(count, 1, SIZE, SIZE, generator=seeded(seed))
    residuals = smooth(draws, 0.04) * rows + healthy_mean()
    everything, whole = a_pass(residuals, seed + 1)

    def passes() -> Iterable[tuple[Tensor, VAEOutput]]:
        for start in range(0, count, batch):
            part = slice(start, start + batch)
            output = VAEOutput(
                whole.reconstruction[part],
                whole.mu[part],
                whole.logvar[part],
                stages=(whole.stages[0][part],),
            )
            yield everything[part], output

    return passes


# --- Scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-10.0, 1.0, 1.5, 2.0, 2.0001, 7.0, 8.0, math.inf])
def test_a_p_value_is_a_count_of_healthy_images_at_or_above(value: float) -> None:
    healthy = [1.0, 2.0, 2.0, 3.0, 7.0]
    counted = (1 + sum(other >= value for other in healthy)) / (len(healthy) + 1)
    assert of_scores(*healthy).p_value("elbo", value) == counted


def test_p_values_of_healthy_images_are_uniform() -> None:
    calibration = of_scores(*torch.randn(999, generator=seeded(1)).tolist())
    draws = torch.randn(4000, generator=seeded(2)).tolist()
    p = torch.tensor([calibration.p_value("elbo", value) for value in draws]).sort().values
    assert float((p - torch.linspace(0, 1, 4000)).abs().max()) < 0.06  # Kolmogorov–Smirnov
    assert 0 < float(p.min()) <= float(p.max()) <= 1


@pytest.mark.parametrize("count", [5, 19, 40, 200])
@pytest.mark.parametrize("target", [0.01, 0.05, 0.1, 0.3])
def test_healthy_images_are_called_unusual_at_most_as_often_as_asked(
    count: int, target: float
) -> None:
    called, trials = 0, 2000
    draws = torch.randn(trials, count + 1, generator=seeded(count))
    for row in draws:
        calibration = of_scores(*row[:count].tolist())
        called += calibration.p_value("elbo", float(row[count])) <= target
    assert called / trials <= target + 3 * math.sqrt(target / trials)


@pytest.mark.parametrize("target", [0.001, 0.01, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.49])
@pytest.mark.parametrize("count", [4, 19, 20, 99, 100])
def test_above_the_threshold_is_where_the_p_value_is_small_enough(
    count: int, target: float
) -> None:
    healthy = torch.randint(0, 30, (count,), generator=seeded(count)).float()  # with ties
    calibration = of_scores(*healthy.tolist())
    threshold = calibration.threshold("elbo", target)
    for value in [*healthy.tolist(), *(healthy + 0.5).tolist(), -1.0, 100.0]:
        assert (value > threshold) == (calibration.p_value("elbo", value) <= target)


def test_too_few_healthy_images_allow_no_verdict() -> None:
    assert of_scores(1.0, 2.0, 3.0).threshold("elbo", 0.05) == math.inf
    assert of_scores(*range(19)).threshold("elbo", 0.05) == 18


# --- Maps ----------------------------------------------------------------------------------------


def test_scores_are_collected_from_all_batches_in_ascending_order() -> None:
    passes = healthy_passes(33)
    calibration = calibrated(passes)
    views = [View(*one, calibration.healthy, beta=1.0) for one in passes()]
    for name in ("mse", "latent", DEFAULT_SCORE):
        everything = torch.cat([measure(view)[name] for view in views])
        torch.testing.assert_close(calibration.scores[name], everything.sort().values)


def test_mean_and_spread_are_those_of_the_smoothed_residuals_pixel_by_pixel() -> None:
    passes = healthy_passes(400)
    for found, scale in zip(calibrated(passes).healthy.residual, (FINE, COARSE), strict=True):
        smoothed = torch.cat([smooth(residual, scale) for residual, _ in passes()]).squeeze(1)
        torch.testing.assert_close(found.mean, smoothed.mean(0), atol=1e-4, rtol=1e-3)
        ratio = found.spread / smoothed.std(0)
        assert float(ratio.mean()) == pytest.approx(1, abs=0.03)
        assert float((ratio - 1).abs().max()) < 0.3  # it is smoothed over neighbours


@pytest.mark.parametrize("seed", [0, 50])
def test_z_maps_of_healthy_images_are_standard_normal(seed: int) -> None:
    calibration = calibrated(healthy_passes(400))
    residuals = torch.cat([residual for residual, _ in healthy_passes(400, seed)()])
    for scale in calibration.healthy.residual:
        z = scale.z(residuals)
        assert z.shape == (400, SIZE, SIZE)
        assert float(z.mean()) == pytest.approx(0, abs=0.03)
        assert float(z.std()) == pytest.approx(1, abs=0.05)
        assert float(z.mean(0).abs().max()) < 0.35  # everywhere, not only on average
        assert float((z.std(0) - 1).abs().max()) < 0.3


def test_each_place_shows_the_scale_at_which_it_stands_out_most() -> None:
    healthy = calibrated(healthy_passes(400)).healthy
    residual = next(iter(healthy_passes(10, seed=3)()))[0]
    fine, coarse = (scale.z(residual) for scale in healthy.residual)
    found = z_map(healthy, residual)
    assert torch.equal(found.abs(), torch.maximum(fine.abs(), coarse.abs()))
    assert ((found == fine) | (found == coarse)).all()


def test_the_pixel_threshold_holds_the_stated_share_of_healthy_validation_pixels() -> None:
    validation = healthy_passes(64, seed=9)
    calibration = calibrated(healthy_passes(64), validation)
    z = torch.cat([z_map(calibration.healthy, residual) for residual, _ in validation()]).abs()
    share = float((z <= calibration.pixel_threshold).float().mean())
    assert share == pytest.approx(PIXEL_QUANTILE, abs=1e-4)


def test_a_brighter_spot_is_positive_and_a_darker_one_negative() -> None:
    calibration = calibrated(healthy_passes())
    residual = healthy_mean()[None, None].clone()
    residual[0, 0, 4:10, 4:10] += 1
    residual[0, 0, 20:26, 20:26] -= 1
    z = z_map(calibration.healthy, residual)[0]
    assert float(z[7, 7]) > 1
    assert float(z[23, 23]) < -1
    assert abs(float(z[7, 23])) < 0.1


def test_outside_the_chest_a_difference_counts_less() -> None:
    left = torch.zeros(SIZE, SIZE)
    left[:, : SIZE // 2] = 1
    healthy = learn_healthy(healthy_passes(400)(), left)
    bright = a_pass(torch.ones(1, 1, SIZE, SIZE))
    z = View(*bright, healthy, beta=1.0).anomaly_map[0]
    everywhere = View(*bright, learn_healthy(healthy_passes(400)(), CHEST), beta=1.0).anomaly_map[0]
    assert torch.equal(z[:, :8], everywhere[:, :8])
    assert float(z[:, 24:].abs().mean()) < 0.5 * float(everywhere[:, 24:].abs().mean())


def test_what_the_patch_map_sees_adds_to_the_map_and_what_it_misses_takes_nothing_off() -> None:
    passes = [(x, y._replace(patch_logits=x[:, :, ::4, ::4])) for x, y in healthy_passes()()]
    healthy = learn_healthy(passes, CHEST)
    images, output = a_pass(0.3 + healthy_mean()[None, None])
    logits = torch.full((1, 1, SIZE // 4, SIZE // 4), -20.0)
    logits[..., :4] = 20.0
    alone = View(images, output, healthy, beta=1.0).z_map[0]
    both = View(images, output._replace(patch_logits=logits), healthy, beta=1.0).z_map[0]
    assert torch.equal(both.sign(), alone.sign())
    assert (both[:, :12].abs() > alone[:, :12].abs() + 5).all()
    torch.testing.assert_close(both[:, 24:], alone[:, 24:])


def test_pixels_that_never_change_do_not_turn_noise_into_evidence() -> None:
    calibration = calibrated(lambda: [a_pass(torch.zeros(8, 1, SIZE, SIZE))])
    z = z_map(calibration.healthy, torch.full((1, 1, SIZE, SIZE), 1e-4))
    assert z.isfinite().all()
    assert float(z.abs().max()) < 0.1


def test_the_size_of_the_batches_does_not_matter() -> None:
    whole, parts = calibrated(healthy_passes(40, batch=40)), calibrated(healthy_passes(40))
    for one, other in zip(whole.healthy.residual, parts.healthy.residual, strict=True):
        torch.testing.assert_close(one.mean, other.mean)
        torch.testing.assert_close(one.spread, other.spread)
    assert whole.pixel_threshold == pytest.approx(parts.pixel_threshold, rel=1e-4)


def test_smoothing_keeps_the_mean_and_does_nothing_to_a_flat_image() -> None:
    flat = torch.full((1, 1, SIZE, SIZE), 0.3)
    torch.testing.assert_close(smooth(flat, 0.05), flat)
    dot = torch.zeros(1, 1, SIZE, SIZE)
    dot[0, 0, 16, 16] = 1
    blurred = smooth(dot, 0.05)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-4)
    assert float(blurred.max()) < 0.2


def test_a_calibration_survives_a_checkpoint(tmp_path: Path) -> None:
    calibration = calibrated(healthy_passes())
    checkpoint.save(tmp_path / "c.pth", "model", {"calibration": calibration.to_content()})
    back = Calibration.from_content(checkpoint.load(tmp_path / "c.pth", "model")["calibration"])
    for one, other in zip(back.healthy.residual, calibration.healthy.residual, strict=True):
        assert one.smoothing == other.smoothing
        assert torch.equal(one.spread, other.spread)
    assert torch.equal(back.scores[DEFAULT_SCORE], calibration.scores[DEFAULT_SCORE])
    assert back.healthy.common_scale == calibration.healthy.common_scale
    assert back.pixel_threshold == calibration.pixel_threshold
    view = View(*next(iter(healthy_passes(5, seed=3)())), calibration.healthy, 1.0)
    again = View(view.images, view.output, back.healthy, 1.0)
    assert torch.equal(measure(view)[DEFAULT_SCORE], measure(again)[DEFAULT_SCORE])
