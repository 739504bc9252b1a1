"""The detections shown last, kept in memory for the report card drawn from them.

A page holds only a key. Nothing is written; a few minutes later, or after a restart, it is gone.
"""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvae.errors import DataError
from ui.models import ModelView

if TYPE_CHECKING:
    from medvae.engine.detector import Detection

KEPT_RESULTS = 32
KEPT_SECONDS = 30 * 60.0


@dataclass(frozen=True)
class Results:
    """Detections and the model that made them."""

    detections: "list[Detection]"
    model: ModelView


class RecentResults:
    """A bounded memory of detections, shared by all pages; keys cannot be guessed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, Results]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, results: Results) -> str:
        """Returns the key to get them back with."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._kept[key] = (time.monotonic(), results)
            self._forget_old()
        return key

    def get(self, key: str) -> Results:
        """Raises `DataError` when they are no longer held."""
        with self._lock:
            self._forget_old()
            found = self._kept.get(key)
        if found is None:
            raise DataError("these results are no longer held; look at the images again")
        return found[1]

    def _forget_old(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        while self._kept:
            key, (kept_at, _) = next(iter(self._kept.items()))
            if kept_at > oldest and len(self._kept) <= KEPT_RESULTS:
                return
            del self._kept[key]
