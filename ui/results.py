"""What was looked at last, kept in memory for the viewer and for downloads.

A page holds only a key. Nothing is written; a few minutes later, or after a restart, it is gone.
"""

import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medvae.errors import DataError
from ui.looking import Look, Unreadable
from ui.models import ModelView

KEPT_IMAGES = 200  # about a megabyte each: what many visitors leave must stay bounded
KEPT_SECONDS = 30 * 60.0


@dataclass(frozen=True)
class Results:
    """Images in the order of the page, the model that looked at them, and when (since 1970).

    score: the one behind the verdicts. healthy: score → its values on the healthy validation
    images, ascending.
    """

    looks: Sequence[Look | Unreadable]
    model: ModelView
    score: str = ""
    healthy: Mapping[str, Sequence[float]] = field(default_factory=dict)
    made: float = field(default_factory=time.time)

    def look(self, index: int) -> Look:
        """One image that could be read. Raises `DataError`."""
        found = self.looks[index] if 0 <= index < len(self.looks) else None
        if not isinstance(found, Look):
            raise DataError("there is no such image among these results")
        return found

    def threshold(self, target_fpr: float) -> float:
        """The score that this share of healthy images exceeds; infinite where there are too few."""
        healthy = self.healthy.get(self.score, ())
        allowed = math.floor(target_fpr * (len(healthy) + 1) + 1e-9)
        return healthy[-allowed] if 0 < allowed <= len(healthy) else math.inf

    def picked(self, indices: Sequence[int]) -> list[Look]:
        """The chosen images, or all that could be read when none is chosen."""
        if indices:
            return [self.look(index) for index in indices]
        return [look for look in self.looks if isinstance(look, Look)]


def judged(unusual: bool, threshold: float) -> tuple[str, str]:
    """Style and words of a verdict, as in assets/detect.js; an infinite threshold allows none."""
    if math.isinf(threshold):
        return "undecided", "No verdict"
    return ("unusual", "Unusual") if unusual else ("usual", "Within the healthy range")


class RecentResults:
    """A bounded memory of results, shared by all pages; keys cannot be guessed."""

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
        images = sum(len(results.looks) for _, results in self._kept.values())
        while self._kept:
            key, (kept_at, results) = next(iter(self._kept.items()))
            if kept_at > oldest and (images <= KEPT_IMAGES or len(self._kept) == 1):
                return
            images -= len(results.looks)
            del self._kept[key]
