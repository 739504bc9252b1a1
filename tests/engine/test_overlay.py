"""Colours on a scale that never moves: calm where nothing is unusual."""

import numpy as np
import pytest

from medvae.engine.overlay import (
    DIFFERENCE_SCALE,
    SCALE,
    colour_bar,
    difference_layer,
    heat_layer,
    heat_overlay,
)
from tests.data.drawn import chest

THRESHOLD = 2.5


def flat(z: float, size: int = 64) -> np.ndarray:
    return np.full((size, size), z, np.float32)


def gray(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=2)


def test_a_map_of_zeros_leaves_the_image_as_it_is() -> None:
    assert np.array_equal(heat_overlay(chest(1), flat(0), THRESHOLD), gray(chest(1)))
    as_float = chest(1).astype(np.float32) / 255
    assert np.array_equal(heat_overlay(as_float, flat(0), THRESHOLD), gray(chest(1)))


@pytest.mark.parametrize("sign", [1, -1])
def test_ordinary_variation_leaves_the_image_as_it_is(sign: int) -> None:
    shown = heat_overlay(chest(1), flat(sign * THRESHOLD / 2), THRESHOLD)
    assert np.array_equal(shown, gray(chest(1)))


def test_brighter_than_healthy_is_warm_and_darker_is_blue() -> None:
    middle = np.full((64, 64), 128, np.uint8)
    warm = heat_overlay(middle, flat(4), THRESHOLD)[0, 0].astype(int)
    blue = heat_overlay(middle, flat(-4), THRESHOLD)[0, 0].astype(int)
    assert warm[0] > 128 > warm[2]
    assert blue[2] > 128 > blue[0]


def test_one_map_is_painted_the_same_beside_any_other_value() -> None:
    calm = flat(4)
    with_a_peak = calm.copy()
    with_a_peak[60:, 60:] = 400
    one, other = (heat_overlay(chest(1), z, THRESHOLD) for z in (calm, with_a_peak))
    assert np.array_equal(one[:50, :50], other[:50, :50])


def test_the_more_unusual_the_stronger_up_to_the_end_of_the_scale() -> None:
    black = np.zeros((8, 8), np.uint8)
    strengths = [
        int(heat_overlay(black, flat(z, 8), THRESHOLD)[0, 0].sum())
        for z in (0, 1.3, 2, 3, 4, 5, SCALE, 2 * SCALE)
    ]
    assert strengths == sorted(strengths)
    assert strengths[0] == 0
    assert len(set(strengths[1:7])) == 6
    assert strengths[6] == strengths[7]


def test_the_image_shines_through_and_opacity_says_how_much() -> None:
    image = chest(1)
    half = heat_overlay(image, flat(9), THRESHOLD, opacity=0.5)
    none = heat_overlay(image, flat(9), THRESHOLD, opacity=0)
    assert np.array_equal(none, gray(image))
    red = half[..., 0].astype(float)
    assert np.corrcoef(red.ravel(), image.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("shape", [(64, 64), (128, 96), (31, 200)])
def test_the_map_is_stretched_over_an_image_of_any_size(shape: tuple[int, int]) -> None:
    z = np.zeros((32, 32), np.float32)
    z[:, 16:] = 9
    image = np.full(shape, 100, np.uint8)
    shown = heat_overlay(image, z, THRESHOLD)
    assert shown.shape == (*shape, 3)
    assert shown.dtype == np.uint8
    quarter = shape[1] // 4
    assert (shown[:, :quarter] == 100).all()
    assert (shown[:, -quarter:] != 100).any(axis=2).all()


def test_the_difference_has_a_fixed_scale_too() -> None:
    values = np.array([[0, 0.1, 0.3, DIFFERENCE_SCALE, 1.0]], np.float32)
    colours = difference_layer(values, values.shape)[0].astype(int)
    assert colours[0].tolist() == [0, 0, 0, 0]
    assert (np.diff(colours[:4], axis=0).sum(axis=1) > 0).all()
    assert (np.diff(colours[:4, 3]) > 0).all()
    assert colours[3].tolist() == colours[4].tolist()


def test_a_region_beyond_the_threshold_gets_a_rim() -> None:
    z = np.zeros((32, 32), np.float32)
    z[8:24, 8:24] = THRESHOLD * 1.1
    shown = heat_overlay(np.full((32, 32), 100, np.uint8), z, THRESHOLD).astype(int)
    saturation = np.ptp(shown, axis=2)
    assert saturation[8, 12:20].min() > saturation[12:20, 12:20].max()


def test_a_layer_laid_over_the_image_makes_the_overlay() -> None:
    z = np.linspace(-8, 8, 64 * 64, dtype=np.float32).reshape(64, 64)
    layer = heat_layer(z, (64, 64), THRESHOLD).astype(float)
    opacity = 0.65 * layer[..., 3:] / 255
    expected = gray(chest(1, size=64)) * (1 - opacity) + layer[..., :3] * opacity
    assert np.abs(heat_overlay(chest(1, size=64), z, THRESHOLD) - expected).max() <= 1.5


def test_the_colour_bar_runs_from_darker_over_nothing_to_brighter() -> None:
    bar = colour_bar(width=201, height=5)
    assert bar.shape == (5, 201, 3)
    assert (bar == bar[0]).all()
    left, middle, right = bar[0, 0].astype(int), bar[0, 100].astype(int), bar[0, -1].astype(int)
    assert left[2] > left[0]
    assert right[0] > right[2]
    assert np.ptp(middle) < 8
