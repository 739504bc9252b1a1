"""The healthy training images most like one that was looked at, as pictures.

The codes of the training images are computed once for each model, when somebody first asks.
"""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medvae.workspace import Workspace

if TYPE_CHECKING:
    from medvae.engine.detector import AnomalyDetector
    from medvae.engine.neighbours import HealthyNeighbours

MOST_SEARCHED = 2000  # training images, drawn at random where there are more
SHOWN = 3


@dataclass(frozen=True)
class Alike:
    """A healthy training image (S, S) uint8, and how far its code is from that of the image."""

    pixels: np.ndarray
    distance: float


class Neighbours:
    """One for all pages; only one of them computes at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._busy = threading.Lock()
        self._known: tuple[AnomalyDetector, np.ndarray, HealthyNeighbours] | None = None

    def of(self, detector: "AnomalyDetector", image: np.ndarray) -> list[Alike]:
        """The nearest of an image (S, S) in 0..1, the nearest first.

        Raises `MedVAEError` when the images that the model learnt from are not on this machine.
        """
        with self._busy:
            if self._known is None or self._known[0] is not detector:
                self._known = detector, *self._learn(detector)
            _, training, codes = self._known
            pixels = np.rint(255 * image).astype(np.uint8)
            [found] = codes.find(pixels[None], SHOWN)
        return [Alike(training[each.row], each.distance) for each in found]

    def _learn(self, detector: "AnomalyDetector") -> "tuple[np.ndarray, HealthyNeighbours]":
        from medvae.engine.experiment import load_test_set
        from medvae.engine.neighbours import HealthyNeighbours

        images, split = load_test_set(detector, self._workspace, lambda _: None, lambda: None)
        rows = np.array([record.row for record in split.train])
        if len(rows) > MOST_SEARCHED:
            rows = np.random.default_rng(0).choice(rows, MOST_SEARCHED, replace=False)
        training = images.pixels[np.sort(rows)]
        return training, HealthyNeighbours(detector, training)
