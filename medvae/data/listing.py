"""Which files to look at: all images below a folder, or those named in a text or CSV file.

A stream, so that any number will do; opens no image.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from medvae.data.decode import SUFFIXES
from medvae.errors import DataError

COLUMNS = ("path", "file")  # of a CSV; the first one that it has


def list_images(source: Path) -> Iterator[str]:
    """Absolute paths: of a folder by name, hidden ones left out; of a list in its own order.

    A list names one path a line, or is a `.csv` with a column `path` or `file`; relative paths
    start at the list's own folder, and nothing is left out. Raises `DataError` when there is no
    such folder or list, or the list cannot be read.
    """
    if source.is_dir():
        return _below(source.resolve())
    if source.is_file():
        return _listed(source.resolve())
    raise DataError(f"{source}: no such folder or file; expected images, or a list of paths")


def _below(folder: Path) -> Iterator[str]:
    for directory, subfolders, names in os.walk(folder, onerror=_refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield str(Path(directory, name))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check its rights")


def _listed(source: Path) -> Iterator[str]:
    try:
        # Names that are not UTF-8 pass through unchanged; a byte order mark does not.
        with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            names = _column(source, lines) if source.suffix.lower() == ".csv" else lines
            for name in names:
                if name.strip():
                    yield str(source.parent / name.strip("\r\n"))
    except (OSError, csv.Error) as error:
        raise DataError(f"{source}: not a list that can be read ({error})") from None


def _column(source: Path, lines: Iterator[str]) -> Iterator[str]:
    table = csv.DictReader(lines)
    column = next((name for name in COLUMNS if name in (table.fieldnames or ())), None)
    if column is None:
        raise DataError(
            f"{source}: no column {' or '.join(COLUMNS)} (found: "
            f"{', '.join(table.fieldnames or ()) or 'nothing'}); add a first line that names it"
        )
    return (row[column] or "" for row in table)
