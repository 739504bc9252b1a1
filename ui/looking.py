"""Images in, what the model says of them out, with the pictures that show it.

The same way for uploads and for test images. Knows nothing of HTML; needs torch only once a
detector is there to be asked.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medvae.data.decode import decode
from medvae.data.transform import read_model_input
from medvae.engine.overlay import heat_overlay
from medvae.errors import DataError, ImageError
from medvae.workspace import Workspace
from ui.pictures import CARD_SIDE, preview, stretched

if TYPE_CHECKING:
    from medvae.data.catalog import Record
    from medvae.engine.detector import AnomalyDetector, Detection

MOST_IMAGES = 200  # in one go: as many as a page can show

OnProgress = Callable[[int, int, str], None]  # done, total, what


@dataclass(frozen=True)
class Look:
    """One image; the pictures are uint8, at most CARD_SIDE long, in the original's proportions."""

    detection: "Detection"
    truth: str | None  # "normal" or "sick" where it is known
    original: np.ndarray  # (H, W)
    counterpart: np.ndarray  # (H, W)
    heat: np.ndarray  # (H, W, 3)


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be looked at, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Source:
    name: str
    truth: str | None
    read: Callable[[], bytes]


def look_at_files(
    detector: "AnomalyDetector", files: Sequence[Path], on_progress: OnProgress
) -> list[Look | Unreadable]:
    """Look at image files; one that cannot be read does not stop the others."""
    if len(files) > MOST_IMAGES:
        raise DataError(f"{len(files)} files at once; expected at most {MOST_IMAGES}")
    sources = [_Source(file.name, None, file.read_bytes) for file in files]
    return list(_look(detector, sources, on_progress))


def look_at_test_images(
    detector: "AnomalyDetector",
    workspace: Workspace,
    which: str,
    number: int,
    seed: int,
    on_progress: OnProgress,
) -> list[Look | Unreadable]:
    """Look at images of the model's own test split, which it never learnt from.

    which: normal, sick or both (then half of them are sick). Drawn by the seed alone.
    """
    from medvae.engine.experiment import load_test_set

    images, split = load_test_set(
        detector, workspace, lambda event: _tell(event, on_progress), lambda: None
    )
    root = images.catalog.root
    drawn = draw_records(split.test, which, min(number, MOST_IMAGES), seed)
    sources = [_Source(r.path, r.label, (root / r.path).read_bytes) for r in drawn]
    return list(_look(detector, sources, on_progress))


def draw_records(test: Sequence["Record"], which: str, number: int, seed: int) -> list["Record"]:
    """Records drawn by the seed, sick and healthy in turn where both are wanted."""
    wanted = ("sick", "normal") if which == "both" else (which,)
    piles = []
    for label in wanted:
        records = [record for record in test if record.label == label]
        order = np.random.default_rng(seed).permutation(len(records))
        piles.append([records[i] for i in order])
    if not any(piles):
        raise DataError("the test set of this model holds no such images")
    longest = max(len(pile) for pile in piles)
    mixed = [pile[i] for i in range(longest) for pile in piles if i < len(pile)]
    return mixed[:number]


def _look(
    detector: "AnomalyDetector", sources: Iterable[_Source], on_progress: OnProgress
) -> Iterator[Look | Unreadable]:
    listed = list(sources)
    size = detector.config.model.image_size
    for done, source in enumerate(listed):
        on_progress(done, len(listed), "Looking at images")
        try:
            data = source.read()
            pixels = read_model_input(data, source.name, size)  # as in training and evaluation
            original = preview(decode(data, source.name, smallest=CARD_SIDE))
        except (ImageError, OSError) as error:
            reason = str(error).removeprefix(f"{source.name}: ")
            yield Unreadable(source.name, reason)
            continue
        [detection] = detector.detect_inputs([pixels], [source.name])
        heat = heat_overlay(original, detection.anomaly_map, detection.pixel_threshold)
        counterpart = stretched(detection.reconstruction, original.shape)
        yield Look(detection, source.truth, original, counterpart, heat)
    on_progress(len(listed), len(listed), "Looking at images")


def _tell(event: object, on_progress: OnProgress) -> None:
    from medvae.engine.events import Preparing

    if isinstance(event, Preparing):
        on_progress(event.done, event.total, event.stage)
