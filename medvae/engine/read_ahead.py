"""Reads image files in threads while the model looks at those before; a bad file is a reason.

Knows nothing of models beyond the size of their input.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvae.data.transform import read_model_input
from medvae.errors import ImageError
from medvae.limits import MB, Limits

AHEAD = 2  # batches that are read while the model looks at one
READERS = min(8, os.cpu_count() or 1)  # threads; each may hold one large image


@dataclass(frozen=True)
class ReadImage:
    """One file: its hash, and what the model is to see, (S, S) uint8, or why there is nothing."""

    path: str
    sha256: str | None  # None: not even the bytes could be read
    pixels: np.ndarray | None
    error: str | None = None


def read_image(path: str, size: int) -> ReadImage:
    """Read one file for a model of `size` × `size` pixels; never raises."""
    file, digest = Path(path), None
    try:
        largest = Limits.current().file_mb  # every reader may hold one
        if file.stat().st_size > largest * MB:
            raise ImageError(f"{file.name}: larger than {largest} MB (limit file_mb)")
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return ReadImage(path, digest, read_model_input(data, file.name, size))
    except ImageError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{file.name}: {error.strerror or error}"
    except Exception as error:  # one strange file must not end the scoring of a million
        reason = f"{file.name}: cannot be decoded ({error!r})"
    return ReadImage(path, digest, None, reason)


def read_ahead(paths: Sequence[str], size: int, batch: int) -> Iterator[list[ReadImage]]:
    """The files in batches, in order. Pillow and hashlib let go of the interpreter lock."""
    pending: deque[list[Future[ReadImage]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(paths), batch):
            chunk = paths[start : start + batch]
            pending.append([pool.submit(read_image, path, size) for path in chunk])
            if len(pending) > AHEAD:
                yield [future.result() for future in pending.popleft()]
        while pending:
            yield [future.result() for future in pending.popleft()]
