"""Detection from files to files: one picture an image and one table for all."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medvae.data.decode import decode
from medvae.engine.detector import AnomalyDetector, Detection
from medvae.engine.events import OnEvent, Preparing
from medvae.engine.overlay import heat_overlay
from medvae.engine.scores import SCORES
from medvae.errors import ImageError

TABLE = "scores.csv"
PICTURE_SIDE = 384  # pixels of each of the three panels


@dataclass(frozen=True)
class WrittenDetections:
    table: Path
    lines: list[str]  # one a file, for the terminal
    unreadable: int


def detect_files(
    detector: AnomalyDetector,
    files: Sequence[Path],
    out: Path,
    on_event: OnEvent,
    target_fpr: float | None = None,
) -> WrittenDetections:
    """Detect on image files; writes `NAME_heatmap.png` each and `scores.csv` into `out`.

    A file that cannot be read becomes a row with its reason and does not stop the others.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    lines = []
    for done, file in enumerate(files):
        on_event(Preparing("Detecting", done, len(files)))
        try:
            [detection] = detector.detect([decode(file)], [file.name], target_fpr)
        except ImageError as error:
            rows.append({"file": str(file), "error": str(error)})
            lines.append(f"{file}: {error}")
            continue
        picture = out / f"{file.stem}_heatmap.png"
        Image.fromarray(side_by_side(detection)).save(picture)
        rows.append({"file": str(file), **_row(detection), "heatmap": picture.name})
        lines.append(f"{file}: {describe(detection)} → {picture}")
    on_event(Preparing("Detecting", len(files), len(files)))
    table = out / TABLE
    columns = ["file", "verdict", "p_value", "target_fpr", "threshold", *SCORES, "heatmap", "error"]
    with table.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(rows)
    return WrittenDetections(table, lines, sum("error" in row for row in rows))


def describe(detection: Detection) -> str:
    """'unusual, score 912, more unusual than 98.7 % of healthy validation images'."""
    return (
        f"{verdict(detection)}, score {detection.score:.0f}, more unusual than "
        f"{1 - detection.p_value:.1%} of healthy validation images"
    )


def verdict(detection: Detection) -> str:
    return "unusual" if detection.unusual else "within the healthy range"


def side_by_side(detection: Detection) -> np.ndarray:
    """Input, healthy counterpart and heatmap: (PICTURE_SIDE, 3 · PICTURE_SIDE, 3) uint8."""
    heat = heat_overlay(_enlarge(detection.image), detection.anomaly_map, detection.pixel_threshold)
    gray = [_enlarge(detection.image), _enlarge(detection.reconstruction)]
    return np.concatenate([*(np.repeat(g[..., None], 3, axis=2) for g in gray), heat], axis=1)


def _row(detection: Detection) -> dict[str, object]:
    return {
        "verdict": verdict(detection),
        "p_value": f"{detection.p_value:.4f}",
        "target_fpr": detection.target_fpr,
        "threshold": f"{detection.threshold:.2f}",
        **{name: f"{value:.3f}" for name, value in detection.scores.items()},
    }


def _enlarge(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    return np.asarray(picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC))
