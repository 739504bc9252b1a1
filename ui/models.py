"""The detector behind the Detect tab: loaded in the background, again whenever its file changes.

Imports torch only when it loads. Knows nothing of the page.
"""

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medvae.errors import CheckpointError, MedVAEError
from medvae.workspace import Workspace

if TYPE_CHECKING:
    from medvae.engine.detector import AnomalyDetector

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class ModelView:
    """What there is to say of the active model without waiting for it."""

    status: Literal["absent", "loading", "ready", "damaged"]
    run: str = ""
    device: str = ""
    threshold: float = float("nan")
    target_fpr: float = float("nan")
    validation_images: int = 0
    phantoms: bool = False  # trained on drawn images only
    metrics: dict[str, Any] = field(default_factory=dict)  # empty: never evaluated
    message: str = ""  # why it is damaged


ABSENT = ModelView("absent")


class ActiveModel:
    """The promoted model; one for all pages."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.promoted
        self._loading = threading.Lock()
        self._warming = threading.Lock()  # held by the one thread that loads in the background
        self._stamp: _Stamp | None = None
        self._detector: AnomalyDetector | None = None
        self._view = ABSENT
        self._device = ""

    def detector(self) -> "AnomalyDetector":
        """The detector of the file as it is now; waits while it loads. Raises `MedVAEError`."""
        with self._loading:
            if self._stamp != self._stamp_on_disk():
                self._load()
        if self._detector is None:
            none = "there is no model yet: train one first, or wait for the one in training"
            raise CheckpointError(self._view.message or none)
        return self._detector

    def look(self) -> ModelView:
        """The state of the model; never waits, but starts to load a file that is new."""
        stamp = self._stamp_on_disk()
        if stamp is None:
            return ABSENT
        if stamp == self._stamp:
            return self._view
        self.warm_up()
        return ModelView("loading", device=self._device)

    def warm_up(self) -> None:
        """Load torch and the model in the background, so that the first image need not wait."""
        if self._warming.acquire(blocking=False):
            threading.Thread(target=self._warm_up, name="load model", daemon=True).start()

    @property
    def device(self) -> str:
        """Name of this machine's device; empty until torch is there to ask."""
        return self._device

    def _warm_up(self) -> None:
        try:
            from medvae.device import choose_compute

            self._device = choose_compute("auto", "fp32").name
            if self._stamp_on_disk() is not None:
                detector = self.detector()
                detector.detect([np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)])
        except MedVAEError as error:
            logger.warning("%s", error)
        finally:
            self._warming.release()

    def _load(self) -> None:
        """Replace detector and view by those of the file; a damaged file is tried only once."""
        from medvae.engine.detector import AnomalyDetector

        stamp = self._stamp_on_disk()
        self._detector, view = None, ABSENT
        if stamp is not None:
            try:
                self._detector = AnomalyDetector.load(self._path)
                view = describe(self._detector)
            except MedVAEError as error:
                view = ModelView("damaged", message=str(error))
        self._view, self._stamp = view, stamp

    def _stamp_on_disk(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def describe(detector: "AnomalyDetector") -> ModelView:
    """What a loaded detector says of itself."""
    from medvae.engine.scores import DEFAULT_SCORE

    target_fpr = detector.config.detection.target_fpr
    return ModelView(
        status="ready",
        run=detector.card.run,
        device=detector.compute.name,
        threshold=detector.calibration.threshold(DEFAULT_SCORE, target_fpr),
        target_fpr=target_fpr,
        validation_images=detector.card.validation_images,
        phantoms=detector.config.data.root is None,
        metrics=detector.card.metrics,
    )
