"""Images in, what the model says of them out, with the pictures that show it.

The same way for uploads and for test images. Knows nothing of HTML; needs torch only once a
detector is there to be asked.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medvae.data.catalog import open_data
from medvae.data.sandbox import Seen, see
from medvae.engine.overlay import heat_overlay
from medvae.errors import DataError
from medvae.workspace import Workspace
from ui.pictures import CARD_SIDE, preview, stretched
from ui.uploads import UploadedImage, uploaded_images

if TYPE_CHECKING:
    from medvae.data.catalog import Record
    from medvae.engine.detector import AnomalyDetector, Detection

MOST_IMAGES = 200  # in one go: as many as a page can show

OnProgress = Callable[[int, int, str], None]  # done, total, what
See = Callable[[bytes, str, int, int], Seen]  # content, name, side for the model, for the page


@dataclass(frozen=True)
class Look:
    """One image; the pictures are uint8, at most CARD_SIDE long, in the original's proportions."""

    detection: "Detection"
    truth: str | None  # "normal" or "sick" where it is known
    original: np.ndarray  # (H, W)
    counterpart: np.ndarray  # (H, W)
    heat: np.ndarray  # (H, W, 3)
    facts: dict[str, str] = field(default_factory=dict)  # what the file says of itself


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

    @classmethod
    def of_upload(cls, image: UploadedImage) -> "_Source":
        return cls(image.name, None, image.read)


def look_at_files(
    detector: "AnomalyDetector", files: Sequence[Path], on_progress: OnProgress, see: See = see
) -> list[Look | Unreadable]:
    """Look at image files and those in archives; one that cannot be read stops no other.

    see: decodes one file; the page hands in its sandbox's. Raises `DataError` for too many.
    """
    sources = [_Source.of_upload(image) for image in uploaded_images(files)]
    looks = list(_look(detector, sources, on_progress, see))
    _give_memory_back()
    return looks


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
    store = open_data(detector.config.data, images.catalog.root)
    drawn = draw_records(split.test, which, min(number, MOST_IMAGES), seed)
    sources = [_Source(r.path, r.label, partial(store.read, r.path)) for r in drawn]
    return list(_look(detector, sources, on_progress, see))


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
    detector: "AnomalyDetector", sources: Iterable[_Source], on_progress: OnProgress, see: See
) -> Iterator[Look | Unreadable]:
    listed = list(sources)
    size = detector.config.model.image_size
    for done, source in enumerate(listed):
        on_progress(done, len(listed), "Looking at images")
        try:
            seen = see(source.read(), source.name, size, CARD_SIDE)  # as in training
        except DataError as error:
            yield Unreadable(source.name, str(error).removeprefix(f"{source.name}: "))
            continue
        except OSError as error:  # whose own words name the path
            yield Unreadable(source.name, error.strerror or "cannot be read")
            continue
        original = preview(seen.gray)
        [detection] = detector.detect_inputs([seen.pixels], [source.name])
        heat = heat_overlay(original, detection.anomaly_map, detection.pixel_threshold)
        counterpart = stretched(detection.reconstruction, original.shape)
        yield Look(detection, source.truth, original, counterpart, heat, seen.facts)
    on_progress(len(listed), len(listed), "Looking at images")


def _tell(event: object, on_progress: OnProgress) -> None:
    from medvae.engine.events import Preparing

    if isinstance(event, Preparing):
        on_progress(event.done, event.total, event.stage)


def _give_memory_back() -> None:
    """Let glibc return what was freed: it keeps about a megabyte of each image to itself."""
    with contextlib.suppress(OSError, AttributeError):  # another libc keeps less
        ctypes.CDLL(None).malloc_trim(0)
