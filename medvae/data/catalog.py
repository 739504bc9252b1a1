"""What images there are: label, patient, place in the folder, and content hash of each.

Reads folder and file names, and the hashes it is handed; decodes nothing itself.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medvae.config import DataConfig
from medvae.data.decode import SUFFIXES
from medvae.errors import DataError

Label = Literal["normal", "sick"]
SOURCE_SPLITS = ("train", "val", "test")

# "person12_virus_3" → person12, "NORMAL2-IM-0383-0001" → NORMAL2-IM-0383, "00000013_005" →
# 00000013: everything up to the first number, a name without one stands for itself.
_PATIENT = re.compile(r"(?:NORMAL\d*-)?\D*\d+")


@dataclass(frozen=True)
class FoundImage:
    """An image file in a labelled folder, not opened yet. `path` is relative to the root."""

    path: str
    label: Label
    source_split: str | None
    size: int
    modified_ns: int

    @property
    def patient(self) -> str:
        stem = Path(self.path).stem
        match = _PATIENT.match(stem)
        return match.group() if match else stem


@dataclass(frozen=True)
class Record:
    """A readable image of the data set; `row` is its place in the pixel array."""

    path: str
    label: Label
    patient: str
    sha256: str
    source_split: str | None
    row: int


@dataclass(frozen=True)
class Catalog:
    """All distinct readable images below `root`, and what was set aside."""

    root: Path
    records: tuple[Record, ...]
    duplicates: tuple[tuple[str, str], ...] = ()  # (dropped, kept)
    unreadable: dict[str, str] = field(default_factory=dict)  # path → reason

    def of(self, label: Label) -> list[Record]:
        return [record for record in self.records if record.label == label]

    def summary(self) -> str:
        """One line: counts of images, patients, dropped duplicates, unreadable files."""
        patients = len({record.patient for record in self.records})
        return (
            f"{len(self.of('normal'))} normal and {len(self.of('sick'))} sick images of "
            f"{patients} patients; {len(self.duplicates)} duplicates dropped, "
            f"{len(self.unreadable)} unreadable"
        )


def find_images(config: DataConfig, root: Path) -> list[FoundImage]:
    """List the images below `root`: `{train,val,test}/{NORMAL,PNEUMONIA}` or just the two.

    The names of the two label folders come from the config, upper or lower case. Raises
    `DataError` when the folder is missing, or holds no images in folders of these names.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a data set (--data PATH)")
    folders = list(_label_folders(config, root))
    if not folders:
        present = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "none"
        raise DataError(
            f"{root}: no folder {config.normal} or {config.sick} in it or in its train, val and "
            f"test folders (found: {present}); name yours with data.normal and data.sick"
        )
    found = [
        image
        for folder, label, split in folders
        for image in _images_below(root, folder, label, split)
    ]
    if not found:
        raise DataError(f"{root}: no image file in its label folders; expected JPEG, PNG or TIFF")
    if not any(image.label == "normal" for image in found):
        raise DataError(
            f"{root}: {len(found)} sick images and no normal one; the model learns from normal "
            f"images, expected in a folder {config.normal}"
        )
    return sorted(found, key=lambda image: image.path)


def build_catalog(
    root: Path, found: Iterable[FoundImage], hashes: dict[str, str], unreadable: dict[str, str]
) -> Catalog:
    """Turn files and their hashes into records, dropping byte-identical duplicates.

    Rows follow the order of the kept files. Raises `DataError` when the same bytes stand
    under both labels.
    """
    kept: dict[str, FoundImage] = {}
    duplicates = []
    for image in found:
        if image.path in unreadable:
            continue
        first = kept.setdefault(hashes[image.path], image)
        if first is image:
            continue
        if first.label != image.label:
            raise DataError(
                f"{first.path} and {image.path} are the same image under two labels; remove one"
            )
        duplicates.append((image.path, first.path))
    records = tuple(
        Record(image.path, image.label, image.patient, digest, image.source_split, row)
        for row, (digest, image) in enumerate(kept.items())
    )
    return Catalog(root, records, tuple(duplicates), unreadable)


def fingerprint(hashes: Iterable[str]) -> str:
    """One SHA-256 over a set of content hashes, whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _label_folders(config: DataConfig, root: Path) -> Iterable[tuple[Path, Label, str | None]]:
    labels: dict[str, Label] = {config.normal.lower(): "normal", config.sick.lower(): "sick"}
    places: list[tuple[Path, str | None]] = [(root, None)]
    places += [
        (folder, folder.name.lower())
        for folder in sorted(root.iterdir())
        if folder.is_dir() and folder.name.lower() in SOURCE_SPLITS
    ]
    for place, split in places:
        for folder in sorted(place.iterdir()):
            if folder.is_dir() and folder.name.lower() in labels:
                yield folder, labels[folder.name.lower()], split


def _images_below(
    root: Path, folder: Path, label: Label, split: str | None
) -> Iterable[FoundImage]:
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                continue
            file = Path(directory) / name
            stat = file.stat() if file.exists() else file.lstat()  # a link may lead nowhere
            path = file.relative_to(root).as_posix()
            yield FoundImage(path, label, split, stat.st_size, stat.st_mtime_ns)
