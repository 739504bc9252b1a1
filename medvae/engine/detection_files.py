"""Detection from files to files: one picture an image and one table for all."""

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medvae.atomic import replacing
from medvae.data.transform import read_model_input
from medvae.engine.detector import AnomalyDetector, Detection
from medvae.engine.events import OnEvent, Preparing
from medvae.engine.labels import LABELS
from medvae.engine.overlay import heat_overlay
from medvae.errors import ImageError

TABLE = "scores.csv"
COLUMNS = [
    "file",
    "verdict",
    "p_value",
    "target_fpr",
    "threshold",
    *LABELS,
    "warning",
    "heatmap",
    "error",
]
UNUSUAL = "unusual"
USUAL = "within the healthy range"
NO_VERDICT = "no verdict: too few healthy validation images for this target"
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
    inputs, errors = _read(files, detector.config.model.image_size, on_event)
    detections = detector.detect_inputs(
        list(inputs.values()), [file.name for file in inputs], target_fpr
    )
    rows: dict[Path, dict[str, object]] = {
        file: {"file": as_text(str(file)), "error": as_text(reason)}
        for file, reason in errors.items()
    }
    lines = dict(errors)
    taken: set[str] = set()
    for done, (file, detection) in enumerate(zip(inputs, detections, strict=True), start=1):
        picture = out / _free_name(as_text(file.stem), taken)
        Image.fromarray(side_by_side(detection)).save(picture)
        rows[file] = {"file": as_text(str(file)), **_row(detection), "heatmap": picture.name}
        lines[file] = f"{file.name}: {describe(detection)} → {picture}"
        on_event(Preparing("Detecting", done, len(inputs)))
    table = out / TABLE
    with replacing(table) as partial, partial.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        writer.writerows(rows[file] for file in files)
    return WrittenDetections(table, [lines[file] for file in files], len(errors))


def describe(detection: Detection) -> str:
    """'unusual, score 2.31, more unusual than 98.7 % of healthy validation images'."""
    if detection.warning:
        return f"warning: {detection.warning}"
    words = verdict(detection.unusual, detection.threshold)
    return (
        f"{words}, score {detection.score:.2f}, more unusual than "
        f"{1 - detection.p_value:.1%} of healthy validation images"
    )


def as_text(name: str) -> str:
    """File names need not be UTF-8; the text of a table must be."""
    return name.encode("utf-8", "backslashreplace").decode()


def verdict(unusual: bool, threshold: float) -> str:
    """In words. Above an infinite threshold there is nothing, so below it is no sign of health."""
    if math.isinf(threshold):
        return NO_VERDICT
    return UNUSUAL if unusual else USUAL


def side_by_side(detection: Detection) -> np.ndarray:
    """Input, healthy counterpart and heatmap: (PICTURE_SIDE, 3 · PICTURE_SIDE, 3) uint8."""
    heat = heat_overlay(_enlarge(detection.image), detection.anomaly_map, detection.pixel_threshold)
    gray = [_enlarge(detection.image), _enlarge(detection.reconstruction)]
    return np.concatenate([*(np.repeat(g[..., None], 3, axis=2) for g in gray), heat], axis=1)


def _read(
    files: Sequence[Path], size: int, on_event: OnEvent
) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Model inputs of the readable files, and the reasons why the others are not."""
    inputs: dict[Path, np.ndarray] = {}
    errors: dict[Path, str] = {}
    for done, file in enumerate(files, start=1):
        try:
            inputs[file] = read_model_input(file.read_bytes(), file.name, size)
        except ImageError as error:
            errors[file] = str(error)
        except OSError as error:
            errors[file] = f"{file}: {os.strerror(error.errno or 0)}"
        on_event(Preparing("Reading", done, len(files)))
    return inputs, errors


def _free_name(stem: str, taken: set[str]) -> str:
    """A picture's name; files of the same name from several folders are numbered."""
    name, count = f"{stem}_heatmap.png", 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}_heatmap.png"
    taken.add(name)
    return name


def _row(detection: Detection) -> dict[str, object]:
    return {
        "verdict": verdict(detection.unusual, detection.threshold),
        "p_value": f"{detection.p_value:.4f}",
        "target_fpr": detection.target_fpr,
        "threshold": f"{detection.threshold:.2f}",
        "warning": detection.warning,
        **{name: f"{value:.3f}" for name, value in detection.scores.items()},
    }


def _enlarge(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    return np.asarray(picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC))
