"""Where a data set's files lie: a folder, a ZIP, a TAR or a NumPy archive, all read in place.

Knows names and bytes, not labels or pixels. An archive is checked against the limits when it is
opened, before anything of it is unpacked.
"""

import contextlib
import io
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image

from medvae.data.headers import BoundedZip, ShortHeaders
from medvae.errors import DataError
from medvae.limits import MB, Limits

LISTS = (".csv", ".json")
ARCHIVES = (".zip", ".tar", ".npz")
PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
RATIO_FROM = 10 * MB  # bytes; a table of zeros is no bomb
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python bounds these while it unpacks
_OUTSIDE = re.compile(r"^(?:/|\\|[A-Za-z]:)|(?:^|[/\\])\.\.(?:[/\\]|$)|[\x00-\x1f]")


@dataclass(frozen=True)
class StoredFile:
    """`path` is relative to the store and has slashes; `stamp` differs when the content may."""

    path: str
    size: int
    stamp: int


class Store(Protocol):
    """Read-only, from any thread."""

    def folders(self, below: str = "") -> list[str]:
        """Names of the folders in a folder, sorted."""

    def files(self, below: str = "") -> Iterator[StoredFile]:
        """All files in a folder and the folders in it; hidden ones left out."""

    def stat(self, path: str) -> StoredFile:
        """What `files` says of one file; a size of 0 where it is not there."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def read(self, path: str) -> bytes:
        """Raises `DataError` or `OSError`."""


def open_store(root: Path, meant: Collection[str] = (), limits: Limits | None = None) -> Store:
    """The files of a folder, of an archive, or around a list of files.

    Folders of an archive that hold nothing but one other are looked through, down to one of the
    names in `meant` (lower case). `limits` are the workspace's by default. Raises `DataError` for
    what is none of these or beyond a limit.
    """
    if root.is_dir():
        return Folder(root)
    suffix, bounds = root.suffix.lower(), limits or Limits.current()
    try:
        if root.is_file() and suffix in LISTS:
            return Folder(root.parent)
        if root.is_file() and suffix == ".zip":
            return ZipArchive(root, meant, bounds)
        if root.is_file() and suffix == ".tar":
            return TarArchive(root, meant, bounds)
        if root.is_file() and suffix == ".npz":
            return NumpyArchive(root, bounds)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, ValueError, KeyError, EOFError,
            NotImplementedError, RuntimeError, MemoryError) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise DataError(f"{root}: not an archive that can be read ({reason})") from None
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; expected a data set")
    raise DataError(f"{root}: expected a folder, a ZIP or TAR, a CSV or JSON list, or an NPZ")


class Folder:
    """Files on disk, where they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folders(self, below: str = "") -> list[str]:
        return sorted(entry.name for entry in (self.root / below).iterdir() if entry.is_dir())

    def files(self, below: str = "") -> Iterator[StoredFile]:
        for directory, subfolders, names in os.walk(self.root / below):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for name in names:
                if not name.startswith("."):
                    yield self.stat(Path(directory, name).relative_to(self.root).as_posix())

    def stat(self, path: str) -> StoredFile:
        try:
            found = (self.root / path).stat()
        except OSError:  # a link may lead nowhere
            return StoredFile(path, 0, 0)
        return StoredFile(path, found.st_size, found.st_mtime_ns)

    def has(self, path: str) -> bool:
        return (self.root / path).is_file()

    def read(self, path: str) -> bytes:
        file = self.root / path
        Limits.current().check_bytes(file.stat().st_size)
        return file.read_bytes()


class _Archive:
    """What all archives have in common: names that were checked, and folders made of them."""

    def __init__(
        self, sizes: dict[str, int], meant: Collection[str], stamp: int, limits: Limits
    ) -> None:
        self._limits = limits
        self._prefix = _wrapper(sizes, meant)
        self._sizes = {name.removeprefix(self._prefix): size for name, size in sizes.items()}
        self._stamp = stamp

    def folders(self, below: str = "") -> list[str]:
        start = f"{below}/" if below else ""
        inside = (n.removeprefix(start) for n in self._sizes if n.startswith(start))
        return sorted({name.partition("/")[0] for name in inside if "/" in name})

    def files(self, below: str = "") -> Iterator[StoredFile]:
        start = f"{below}/" if below else ""
        return (self.stat(name) for name in self._sizes if name.startswith(start))

    def stat(self, path: str) -> StoredFile:
        return StoredFile(path, self._sizes.get(path, 0), self._stamp)

    def has(self, path: str) -> bool:
        return path in self._sizes

    def _full_name(self, path: str) -> str:
        """The name in the archive of a file that may be read into memory."""
        if path not in self._sizes:
            raise DataError(f"{path}: no such file in the archive")
        self._limits.check_bytes(self._sizes[path])
        return self._prefix + path


class ZipArchive(_Archive):
    """A ZIP; each file is unpacked in memory when it is read."""

    def __init__(self, file: Path, meant: Collection[str], limits: Limits) -> None:
        self._file = file
        self._zip = BoundedZip(file, limits.archive_entries, limits.file_mb * MB)
        try:
            budget = ArchiveBudget(file, limits)
            sizes = {}
            for member in self._zip.infolist():
                if not member.is_dir() and budget.admits(
                    member.filename,
                    member.file_size,
                    stat.S_ISLNK(member.external_attr >> 16),
                    member.compress_size,
                ):
                    _check_packing(file, member)
                    sizes[member.filename] = member.file_size
        except BaseException:
            self._zip.close()
            raise
        super().__init__(sizes, meant, file.stat().st_mtime_ns, limits)

    def read(self, path: str) -> bytes:
        try:
            return self._zip.read(self._full_name(path))
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: damaged in {self._file.name} ({reason})") from None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._zip.close()


class TarArchive(_Archive):
    """A TAR that is not compressed: an index of where each file begins."""

    def __init__(self, file: Path, meant: Collection[str], limits: Limits) -> None:
        self._places = {}
        with tarfile.open(file, "r:", tarinfo=ShortHeaders) as opened:
            for member in admitted_members(opened, ArchiveBudget(file, limits)):
                self._places[member.name] = (member.offset_data, member.size)
        sizes = {name: size for name, (_, size) in self._places.items()}
        super().__init__(sizes, meant, file.stat().st_mtime_ns, limits)
        self._opened = file.open("rb")

    def read(self, path: str) -> bytes:
        offset, size = self._places[self._full_name(path)]
        return os.pread(self._opened.fileno(), size, offset)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._opened.close()


class NumpyArchive:
    """MedMNIST's layout: `{train,val,test}_images` (N, H, W) uint8 and `_labels` (N, 1), 1 = sick.

    Image 12 of the training part is the file `train/PNEUMONIA/train-00012.bmp`: patients are told
    apart by name, and no two images are known to be of one.
    """

    def __init__(self, file: Path, limits: Limits) -> None:
        self._stamp = file.stat().st_mtime_ns
        if file.stat().st_size > limits.archive_mb * MB:
            raise DataError(f"{file}: larger than {limits.archive_mb} MB (limit archive_mb)")
        for array in ZipArchive(file, (), limits).files():  # an NPZ is a ZIP: the same limits
            limits.check_bytes(array.size)
        with np.load(file, allow_pickle=False) as arrays:
            self._images = {
                part: arrays[f"{part}_images"]
                for part in ("train", "val", "test")
                if f"{part}_images" in arrays
            }
            labels = {part: arrays[f"{part}_labels"].ravel() for part in self._images}
        arrays_found = self._images.values()
        if not arrays_found or any(a.ndim != 3 or a.dtype != np.uint8 for a in arrays_found):
            raise DataError(
                f"{file}: expected arrays train_images, val_images and test_images of gray images, "
                "as in MedMNIST's pneumoniamnist_128.npz"
            )
        self._rows = {
            f"{part}/{'PNEUMONIA' if sick else 'NORMAL'}/{part}-{row:05d}.bmp": (part, row)
            for part, marks in labels.items()
            for row, sick in enumerate(marks.tolist())
        }

    def folders(self, below: str = "") -> list[str]:
        depth = below.count("/") + 1 if below else 0
        start = f"{below}/" if below else ""
        parts = (name.split("/") for name in self._rows if name.startswith(start))
        return sorted({part[depth] for part in parts if len(part) > depth + 1})

    def files(self, below: str = "") -> Iterator[StoredFile]:
        start = f"{below}/" if below else ""
        return (self.stat(name) for name in self._rows if name.startswith(start))

    def stat(self, path: str) -> StoredFile:
        part, row = self._rows[path]
        return StoredFile(path, self._images[part][row].size, self._stamp)

    def has(self, path: str) -> bool:
        return path in self._rows

    def read(self, path: str) -> bytes:
        part, row = self._rows[path]
        buffer = io.BytesIO()
        Image.fromarray(self._images[part][row]).save(buffer, "BMP")
        return buffer.getvalue()


class ArchiveBudget:
    """Counts what an archive says it holds; raises `DataError` at the first limit passed."""

    def __init__(self, file: Path, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._packed = max(1, file.stat().st_size)
        self._entries = 0
        self._total = 0

    def admits(self, name: str, size: int, is_link: bool, packed: int | None = None) -> bool:
        """Whether the file is one to be read; hidden files and those of macOS are passed over."""
        limits = self._limits
        self._entries += 1
        self._total += size
        if self._entries > limits.archive_entries:
            self._refuse(f"more than {limits.archive_entries:,} files", "archive_entries")
        if self._total > limits.archive_mb * MB:
            self._refuse(f"unpacks to more than {limits.archive_mb:,} MB", "archive_mb")
        for whole, part in ((self._total, self._packed), (size, packed)):
            if part is not None and whole > max(RATIO_FROM, limits.archive_ratio * part):
                self._refuse(
                    f"unpacks to more than {limits.archive_ratio:g} times its size", "archive_ratio"
                )
        if _OUTSIDE.search(name):
            self._refuse(f"the name {name[:80]!r} leads out of the archive")
        if is_link:
            self._refuse(f"{name[:80]!r} is a link; expected plain files")
        parts = PurePosixPath(name).parts
        if len(parts) > limits.archive_depth:
            self._refuse(f"folders deeper than {limits.archive_depth}", "archive_depth")
        return not any(part.startswith((".", "__MACOSX")) for part in parts)

    def _refuse(self, what: str, limit: str = "") -> None:
        told = f" (limit {limit})" if limit else ""
        raise DataError(f"{self._file.name}: {what}{told}; nothing of it was read")


def admitted_members(opened: tarfile.TarFile, budget: ArchiveBudget) -> Iterator[tarfile.TarInfo]:
    """The plain files of a TAR, one at a time; remembers none of them."""
    while (member := opened.next()) is not None:
        opened.members = []  # type: ignore[attr-defined]  # or half a million stay in memory
        if member.isdir():
            continue
        is_plain = member.isreg() and member.sparse is None
        if budget.admits(member.name, member.size, not is_plain):
            yield member


def _check_packing(file: Path, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1:
        raise DataError(f"{file.name}: encrypted; pack it without a password")
    if member.compress_type not in _METHODS:
        raise DataError(f"{file.name}: packed by an unusual method; pack it as an ordinary ZIP")


def _wrapper(names: Collection[str], meant: Collection[str]) -> str:
    """The folders, with a slash, that hold all there is and are not meant themselves."""
    prefix = ""
    while names:
        tops = {name.removeprefix(prefix).partition("/")[:2] for name in names}
        top, slash = next(iter(tops))
        if len(tops) > 1 or not slash or top.lower() in meant:
            break
        prefix += f"{top}/"
    return prefix
