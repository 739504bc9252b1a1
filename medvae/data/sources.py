"""Where images come from: a folder, an archive, or the built-in phantoms. Ends in a folder."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from medvae.config import DataConfig
from medvae.data.catalog import SOURCE_SPLITS
from medvae.data.phantom_set import write_phantoms
from medvae.errors import DataError
from medvae.workspace import Workspace

OnProgress = Callable[[int, int], None]


def resolve_root(config: DataConfig, workspace: Workspace, on_progress: OnProgress) -> Path:
    """The folder of the configured data set; draws the phantoms when none is named.

    A folder that only wraps another (as unpacked archives do) is looked through. Raises
    `DataError` when there is nothing.
    """
    if config.root is None:
        folder = workspace.raw / f"phantoms-{config.phantoms}"
        return write_phantoms(folder, config.phantoms, on_progress=on_progress)
    root = Path(config.root).expanduser()
    if root.is_file():
        raise DataError(f"{root}: a file, expected a folder; unpack it with: data import {root}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set")
    return _unwrap(root.resolve(), config)


def unpack_zip(archive: Path, workspace: Workspace, on_progress: OnProgress) -> Path:
    """Unpack a ZIP below the workspace, whole or not at all; returns the folder."""
    target = workspace.raw / archive.stem
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not m.filename.startswith("__MACOSX")]
            if not members:
                raise DataError(f"{archive}: an empty ZIP; expected a data set")
            for done, member in enumerate(members, start=1):
                opened.extract(member, partial)  # drops drive letters and `..` by itself
                on_progress(done, len(members))
        partial.replace(target)
    except FileNotFoundError:
        raise DataError(f"{archive}: no such file or folder; expected a data set") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive}: not a ZIP that can be unpacked ({error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _unwrap(root: Path, config: DataConfig) -> Path:
    """Step into folders that hold nothing but one other folder, unless that one is a class."""
    meant = {config.normal.lower(), config.sick.lower(), *SOURCE_SPLITS}
    entries = [e for e in root.iterdir() if not e.name.startswith((".", "__MACOSX"))]
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name.lower() not in meant:
        return _unwrap(entries[0], config)
    return root
