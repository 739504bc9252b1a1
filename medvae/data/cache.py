"""Every image decoded once: a memory-mapped uint8 array and an index beside it.

The index knows each file's content hash, size and time, so that only what changed is read
again. What could not be read is tried at every opening: a limit may have been lifted, or a disk
answer again. Both files are replaced whole: an interrupted import leaves what was there before.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medvae.atomic import replacing
from medvae.config import DataConfig
from medvae.data import transform
from medvae.data.catalog import (
    Catalog,
    FoundImage,
    build_catalog,
    find_images,
    fingerprint,
    open_data,
)
from medvae.data.stores import Store
from medvae.errors import DataError
from medvae.limits import Limits
from medvae.workspace import Workspace

OnProgress = Callable[[int, int], None]
INDEX = "index.json"
SLICE = 256  # files in flight: bounds memory, and how long an interrupt waits


@dataclass(frozen=True)
class ImageSet:
    """A catalogue and its pixels: `pixels[record.row]` is (size, size) uint8, 0..255."""

    catalog: Catalog
    pixels: np.ndarray


def import_images(
    config: DataConfig, root: Path, size: int, workspace: Workspace, on_progress: OnProgress
) -> ImageSet:
    """Open the cache of a data set, decoding with all cores whatever is new or changed.

    `on_progress(done, total)` counts files. Raises `DataError` when nothing is readable.
    """
    found = find_images(config, root)
    folder = cache_folder(root, config, size, workspace)
    known = _Index.read(folder, size)
    if known is None or not _is_current(known, config, root, found, size, folder):
        known = _decode_all(root, open_data(config, root), found, size, folder, known, on_progress)
    on_progress(len(found), len(found))
    catalog = build_catalog(root, found, known.hashes, known.unreadable)
    return ImageSet(catalog, np.load(folder / known.array, mmap_mode="r"))


def cache_folder(root: Path, config: DataConfig, size: int, workspace: Workspace) -> Path:
    """Where the decoded images of this folder, these labels and this transform live."""
    identity = json.dumps([str(root.resolve()), config.normal, config.sick, size])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    return workspace.processed / f"{root.resolve().name}-{size}px-{digest}"


def imported_roots(workspace: Workspace) -> list[Path]:
    """Data sets imported before that are still there: folders, archives and lists."""
    roots = set()
    for file in workspace.processed.glob(f"*/{INDEX}"):
        try:
            roots.add(Path(json.loads(file.read_text(encoding="utf-8"))["root"]))
        except (OSError, ValueError, KeyError):
            continue  # a damaged index is rebuilt by the next import
    return sorted(root for root in roots if root.exists())


@dataclass(frozen=True)
class _Index:
    """What was decoded: per file [size, modified_ns, sha256], or the reason why not."""

    root: str
    transform: list[int]
    array: str
    files: dict[str, tuple[int, int, str]]
    unreadable: dict[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {path: entry[2] for path, entry in self.files.items()}

    @classmethod
    def read(cls, folder: Path, size: int) -> "_Index | None":
        try:
            index = cls(**json.loads((folder / INDEX).read_text(encoding="utf-8")))
            whole = len(np.load(folder / index.array, mmap_mode="r")) == len(index.files)
        except (OSError, ValueError, TypeError, EOFError):
            return None
        return index if whole and index.transform == [transform.VERSION, size] else None

    def write(self, folder: Path) -> None:
        with replacing(folder / INDEX) as partial:
            partial.write_text(json.dumps(self.__dict__), encoding="utf-8")

    def holds(self, image: FoundImage) -> bool:
        """Whether the file is as it was."""
        size, modified_ns, _ = self.files.get(image.path, (-1, -1, ""))
        return (size, modified_ns) == (image.size, image.modified_ns)

    def matches(self, found: list[FoundImage]) -> bool:
        return len(found) == len(self.files) and all(map(self.holds, found))


def _is_current(
    known: _Index,
    config: DataConfig,
    root: Path,
    found: list[FoundImage],
    size: int,
    folder: Path,
) -> bool:
    """Whether no file changed, and what could not be read still cannot be, for the same reason."""
    if not known.matches(found):
        return False
    failed = [image for image in found if image.path in known.unreadable]
    return not failed or all(
        (digest, reason) == (known.files[image.path][2], known.unreadable[image.path])
        for image, digest, _, reason in _decoded(
            open_data(config, root), failed, size, folder, known
        )
    )


def _decode_all(
    root: Path,
    store: Store,
    found: list[FoundImage],
    size: int,
    folder: Path,
    previous: _Index | None,
    on_progress: OnProgress,
) -> _Index:
    """Fill a new array, taking over unchanged rows, and swap it in together with its index."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"pixels.{os.getpid()}.partial"
    files: dict[str, tuple[int, int, str]] = {}
    unreadable: dict[str, str] = {}
    rows: dict[str, int] = {}
    try:
        with partial.open("wb") as file:  # written, not mapped: a full disk is an error, no signal
            _write_header(file, (len(found), size, size))
            for done, (image, digest, pixels, reason) in enumerate(
                _decoded(store, found, size, folder, previous), start=1
            ):
                files[image.path] = (image.size, image.modified_ns, digest)
                if pixels is None:
                    unreadable[image.path] = reason
                elif digest not in rows:  # the same rows, in the same order, as build_catalog's
                    rows[digest] = len(rows)
                    file.write(pixels.tobytes())
                on_progress(done, len(found))
            file.truncate(file.tell() + (len(found) - len(rows)) * size**2)
        if not rows:
            raise DataError(
                f"{root}: none of {len(found)} files can be read; the first: "
                f"{next(iter(unreadable.values()))}"
            )
        name = (
            f"pixels-{fingerprint(f'{path} {entry[2]}' for path, entry in files.items())[:16]}.npy"
        )
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    index = _Index(str(root.resolve()), [transform.VERSION, size], name, files, unreadable)
    index.write(folder)
    for stale in folder.glob("pixels-*.npy"):
        if stale.name != name:
            stale.unlink()
    return index


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Of a `.npy` file of bytes."""
    plain = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, plain)


_Decoded = tuple[FoundImage, str, np.ndarray | None, str]


def _decoded(
    store: Store, found: list[FoundImage], size: int, folder: Path, previous: _Index | None
) -> Iterator[_Decoded]:
    """Decode in threads (Pillow and hashlib release the lock), in order, a slice at a time."""
    old_pixels, old_rows = _previous_rows(folder, previous)
    limits = Limits.current()

    def read(image: FoundImage) -> _Decoded:
        if previous is not None and previous.holds(image) and image.path in old_rows:
            digest = previous.files[image.path][2]
            return image, digest, old_pixels[old_rows[image.path]], ""
        digest = ""
        try:
            data = store.read(image.path)
            digest = hashlib.sha256(data).hexdigest()
            return image, digest, transform.read_model_input(data, image.path, size, limits), ""
        except (DataError, OSError) as error:
            return image, digest, None, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(found), SLICE):
            yield from pool.map(read, found[start : start + SLICE])


def _previous_rows(folder: Path, previous: _Index | None) -> tuple[np.ndarray, dict[str, int]]:
    if previous is None:
        return np.empty(0), {}
    rows: dict[str, int] = {}
    row_of_path = {
        path: rows.setdefault(digest, len(rows))
        for path, (_, _, digest) in previous.files.items()
        if path not in previous.unreadable
    }
    return np.load(folder / previous.array, mmap_mode="r"), row_of_path
