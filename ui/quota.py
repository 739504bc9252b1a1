"""How much one visitor may upload in an hour, and all of them at once; how long it lies there.

Equal files share one path, whoever sent them, so that none may be removed because one visitor is
done with it: they all go by their age.
"""

import contextlib
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path

from medvae.limits import MB, Limits

HOUR = 3600.0
EMPTY_SECONDS = 60.0  # in which an upload that began has written something
LOOK_SECONDS = 60  # from one look of Gradio for old uploads to the next


class UploadQuota:
    """Counts what each visitor uploads; `folder` is where uploads lie for a while."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self._arriving = 0  # bytes of uploads that are not on the disk yet

    def refusal(self, visitor: str, length: str | None) -> str | None:
        """Why this upload must not be received; None counts it."""
        limits = Limits.current()
        if length is None or not length.isdigit():
            return "an upload must say how long it is"
        size, now = int(length), time.monotonic()
        recent = self._uploads[visitor]
        while recent and now - recent[0][0] > HOUR:
            recent.popleft()
        if size > limits.upload_mb * MB:
            return f"upload of {size / MB:.0f} MB; at most {limits.upload_mb} (limit upload_mb)"
        if len(recent) >= limits.session_files:
            return f"more than {limits.session_files} uploads an hour (limit session_files)"
        if sum(count for _, count in recent) + size > limits.session_mb * MB:
            return f"more than {limits.session_mb} MB an hour (limit session_mb)"
        if _tidy(self._folder) + self._arriving + size > limits.uploads_disk_mb * MB:
            return "the disk for uploads is full; try again in a few minutes (uploads_disk_mb)"
        recent.append((now, size))
        return None

    @contextlib.contextmanager
    def arriving(self, size: int) -> Iterator[None]:
        """While an upload comes in, its room on the disk is taken."""
        self._arriving += size
        try:
            yield
        finally:
            self._arriving -= size


def _tidy(folder: Path) -> int:
    """Remove what is old, and the folders that it was in; returns the bytes that are left.

    Gradio, which removes old uploads too, leaves folders, and empty files beside what it reads.
    """
    total, now = 0, time.time()
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(directory, name)
            with contextlib.suppress(OSError):
                found = file.stat()
                longest = Limits.current().upload_seconds if found.st_size else EMPTY_SECONDS
                if now - found.st_mtime > longest:
                    file.unlink()
                else:
                    total += found.st_size
        place = Path(directory)
        with contextlib.suppress(OSError):  # it is not empty
            if place != folder and now - place.stat().st_mtime > EMPTY_SECONDS:
                place.rmdir()
    return total
