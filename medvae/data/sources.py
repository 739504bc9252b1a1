"""Where images come from: a folder, an archive, a list, or the built-in phantoms.

Archives are read in place; only a compressed TAR, which has no order to read from, is unpacked.
"""

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from lzma import LZMAError
from pathlib import Path

from medvae.config import DataConfig
from medvae.data.catalog import SOURCE_SPLITS
from medvae.data.decode import SUFFIXES
from medvae.data.headers import ShortHeaders
from medvae.data.phantom_set import write_phantoms
from medvae.data.stores import ARCHIVES, LISTS, PACKED_TARS, ArchiveBudget, admitted_members
from medvae.errors import DataError
from medvae.limits import Limits
from medvae.workspace import Workspace

OnProgress = Callable[[int, int], None]
TOLD_EVERY = 100  # files, while a number of files is not known yet


def resolve_root(config: DataConfig, workspace: Workspace, on_progress: OnProgress) -> Path:
    """The folder, archive or list of the configured data set; draws phantoms when none is named.

    A folder that only wraps another (as unpacked archives do) is looked through. Raises
    `DataError` when there is nothing, or something that holds no data set.
    """
    if config.root is None:
        folder = workspace.raw / f"phantoms-{config.phantoms}"
        return write_phantoms(folder, config.phantoms, on_progress=on_progress)
    root = Path(config.root).expanduser()
    if root.name.lower().endswith(PACKED_TARS):
        raise DataError(f"{root}: a compressed TAR; unpack it with: data import {root}")
    if root.is_file() and root.suffix.lower() in (*ARCHIVES, *LISTS):
        return root.resolve()
    if root.is_file():
        raise DataError(
            f"{root}: a file, expected a folder, a ZIP, TAR or NPZ, or a CSV or JSON list"
        )
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set")
    return _unwrap(root.resolve(), config)


def unpack_tar(archive: Path, workspace: Workspace, on_progress: OnProgress) -> Path:
    """Stream a compressed TAR into a folder below the workspace, whole or not at all.

    Images and tables only; the rest is passed over. `on_progress(files, 0)`: how many there will
    be is not known. Another archive of the same name, or a changed one, gets another folder.
    Raises `DataError` for what is none, or beyond a limit.
    """
    if not archive.exists():
        raise DataError(f"{archive}: no such file or folder; expected a data set")
    found = archive.stat()
    digest = hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:10]
    name = archive.name.split(".tar")[0].removesuffix(archive.suffix)
    target = workspace.raw / f"{name}-{digest}"
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        written = _stream(archive, partial, on_progress)
        if not written:
            raise DataError(f"{archive}: no image in it; expected a data set")
        partial.replace(target)
    except (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{archive}: not a TAR that can be unpacked ({reason})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _stream(archive: Path, folder: Path, on_progress: OnProgress) -> int:
    written = 0
    budget = ArchiveBudget(archive, Limits.current())
    with tarfile.open(archive, "r|*", tarinfo=ShortHeaders) as opened:
        for member in admitted_members(opened, budget):
            name = Path(member.name)
            if name.suffix.lower() not in SUFFIXES.union(LISTS, {".txt"}):
                continue
            content = opened.extractfile(member)
            assert content is not None  # it is a plain file
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                shutil.copyfileobj(content, out)
            written += 1
            if written % TOLD_EVERY == 0:
                on_progress(written, 0)
    return written


def _unwrap(root: Path, config: DataConfig) -> Path:
    """Step into folders that hold nothing but one other folder, unless that one is a class."""
    meant = {config.normal.lower(), config.sick.lower(), *SOURCE_SPLITS}
    entries = [e for e in root.iterdir() if not e.name.startswith((".", "__MACOSX"))]
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name.lower() not in meant:
        return _unwrap(entries[0], config)
    return root
