"""Outlines of the regions of an anomaly map, numbered, to lay over a picture of any size.

Pure functions from arrays to SVG and HTML. Positions are shares of the picture, so that an
outline fits whatever proportions the original has.
"""

from collections.abc import Sequence

import numpy as np
from contourpy import contour_generator

from medvae.engine.regions import Region


def contours(anomaly_map: np.ndarray, level: float, regions: Sequence[Region]) -> str:
    """The regions of a signed z-map (S, S) where |z| passes `level`, as an SVG and its numbers."""
    if not regions:
        return ""
    side = anomaly_map.shape[0]
    paths = "".join(
        f'<path class="{_style(region)}" d="{outline(anomaly_map, level, region)}"/>'
        for region in regions
    )
    numbers = "".join(_number(region, n, side) for n, region in enumerate(regions, 1))
    return (
        f'<div class="contours"><svg viewBox="0 0 {side} {side}" preserveAspectRatio="none" '
        f'aria-hidden="true">{paths}</svg>{numbers}</div>'
    )


def outline(anomaly_map: np.ndarray, level: float, region: Region) -> str:
    """The closed lines around one region as SVG path data, in pixels of the map."""
    strength = np.abs(anomaly_map)
    alone = np.where(region.mask, strength, np.minimum(strength, 0.98 * level))
    framed = np.pad(alone, 1)  # what touches the border is closed there
    lines = contour_generator(z=framed).lines(level)
    return "".join(
        "M" + " ".join(f"{x - 0.5:.1f},{y - 0.5:.1f}" for x, y in np.asarray(line)) + "Z"
        for line in lines
    )


def _number(region: Region, number: int, side: int) -> str:
    row, column = region.peak
    at = f"left:{100 * (column + 0.5) / side:.1f}%;top:{100 * (row + 0.5) / side:.1f}%"
    return f'<b class="{_style(region)}" style="{at}">{number}</b>'


def _style(region: Region) -> str:
    return "brighter" if region.mean_z > 0 else "darker"
