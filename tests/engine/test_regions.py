"""Regions of a map: how many, how large, how strong, and what is too small to be one."""

import numpy as np
import pytest

from medvae.engine.regions import find_regions


def _map() -> np.ndarray:
    z = np.zeros((64, 64), np.float32)
    z[10:20, 10:20] = 5.0
    z[12, 13] = 9.0
    z[40:44, 40:50] = -4.0
    z[60, 60] = 8.0  # a speck
    return z


def test_brighter_and_darker_regions_are_told_apart_strongest_first() -> None:
    brighter, darker = find_regions(_map(), 3.0)
    assert brighter.area == pytest.approx(100 / 64**2)
    assert brighter.mean_z == pytest.approx(5.04)
    assert brighter.peak == (12, 13)
    assert darker.area == pytest.approx(40 / 64**2)
    assert darker.mean_z == pytest.approx(-4.0)


def test_neighbours_of_opposite_sign_are_two_regions() -> None:
    z = np.zeros((32, 32), np.float32)
    z[8:16, 8:16], z[8:16, 16:24] = 4.0, -4.0
    assert [region.area for region in find_regions(z, 3.0)] == [64 / 32**2, 64 / 32**2]


def test_a_calm_map_has_no_region() -> None:
    assert find_regions(np.full((32, 32), 2.9, np.float32), 3.0) == []
