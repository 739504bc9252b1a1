"""The Report Card: five sick images, their healthy counterparts, and where they differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medvae.atomic import replacing
from medvae.engine.detection_files import verdict
from medvae.engine.detector import Detection
from medvae.engine.overlay import SCALE, colour_bar, heat_overlay

IMAGES = 5
INK, MUTED, PAPER = "#e6edf3", "#9aa7b4", "#0b1016"
ROWS = ("Original", "Healthy\ncounterpart", "Difference\nheatmap")
NOTICE = "Research use only. Not a medical device."


def draw_report_card(
    detections: Sequence[Detection], path: Path, model: str, data: str, auroc: str
) -> Path:
    """Write the card of up to five detections as PNG (1800 × 1260 pixels), or PDF by its ending.

    model, data and auroc (with its interval) make the title line. Returns `path`.
    """
    shown = detections[:IMAGES]
    figure = Figure(figsize=(12, 8.4), dpi=150, facecolor=PAPER)
    grid = figure.add_gridspec(
        3, IMAGES, left=0.1, right=0.985, top=0.865, bottom=0.115, wspace=0.04, hspace=0.04
    )
    for column, detection in enumerate(shown):
        pictures = (
            detection.image,
            detection.reconstruction,
            heat_overlay(detection.image, detection.anomaly_map, detection.pixel_threshold),
        )
        for row, picture in enumerate(pictures):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(_caption(detection), fontsize=10, color=INK, pad=7)
    for row, name in enumerate(ROWS):
        figure.text(
            0.05,
            0.74 - row * 0.25,
            name,
            color=MUTED,
            fontsize=11,
            ha="center",
            va="center",
        )
    figure.text(0.1, 0.955, "Report card", color=INK, fontsize=19, weight="bold", va="center")
    title = f"model {model}   ·   {data}   ·   AUROC {auroc}"
    figure.text(0.985, 0.955, title, color=MUTED, fontsize=11, ha="right", va="center")
    _draw_colour_bar(figure, shown[0].pixel_threshold)
    figure.text(0.1, 0.045, NOTICE, color=MUTED, fontsize=9.5, va="center")
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), facecolor=PAPER)
    return path


def _caption(detection: Detection) -> str:
    words = verdict(detection.unusual, detection.threshold).partition(":")[0]
    return f"score {detection.score:.2f}   p = {detection.p_value:.3f}\n{words}"


def _draw_colour_bar(figure: Figure, pixel_threshold: float) -> None:
    axes = figure.add_axes((0.545, 0.058, 0.44, 0.018))
    bar: np.ndarray = colour_bar(512, 8, pixel_threshold)
    axes.imshow(bar, aspect="auto", extent=(-SCALE, SCALE, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-SCALE, -SCALE / 2, 0, SCALE / 2, SCALE])
    axes.tick_params(colors=MUTED, labelsize=9, length=2)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "darker than healthy      z-score against healthy images      brighter than healthy",
        color=MUTED,
        fontsize=9.5,
        pad=4,
    )
