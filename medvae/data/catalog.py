"""What images there are: label, patient, place in the folder, and content hash of each.

Reads folder and file names, and the hashes it is handed; decodes nothing itself.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medvae.config import DataConfig
from medvae.data.decode import EXPECTED, SUFFIXES
from medvae.data.layouts import NIH_BOXES, Box, Label, Layout, Listed, find_layout, nih_boxes
from medvae.data.stores import Store, open_store
from medvae.errors import DataError

SOURCE_SPLITS = ("train", "val", "test")

# "person12_virus_3" → person12, "NORMAL2-IM-0383-0001" → NORMAL2-IM-0383, "00000013_005" →
# 00000013: everything up to the first number, a name without one stands for itself.
_PATIENT = re.compile(r"(?:NORMAL\d*-)?\D*\d+")


@dataclass(frozen=True)
class FoundImage:
    """A labelled image file, not opened yet. `path` is relative to the root."""

    path: str
    label: Label
    source_split: str | None
    size: int
    modified_ns: int
    stated_patient: str = ""  # by the data set's own table
    boxes: tuple[Box, ...] = ()
    label_folder: str = ""

    @property
    def patient(self) -> str:
        if self.stated_patient:
            return self.stated_patient
        stem = Path(self.path).stem
        match = _PATIENT.match(stem)
        return match.group() if match else stem


@dataclass(frozen=True)
class Record:
    """A readable image of the data set; `row` is its place in the pixel array.

    boxes: where the data set's own table marks a finding, as shares of the image's sides.
    label_folder: the beginning of the path that gave the label; empty where a table gave it.
    """

    path: str
    label: Label
    patient: str
    sha256: str
    source_split: str | None
    row: int
    boxes: tuple[Box, ...] = ()
    label_folder: str = ""


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
    """List the labelled images of a folder, archive or list, without opening one.

    Labels, patients and boxes come from the table of a known layout (`medvae.data.layouts`), else
    from folders `{train,val,test}/{NORMAL,PNEUMONIA}` or just the two, with the names from the
    config, upper or lower case. Raises `DataError` when there is nothing of the kind.
    """
    store = open_data(config, root)
    layout = find_layout(config, root, store)
    images = _listed(store, layout) if layout else _in_label_folders(config, root, store)
    found = sorted(images, key=lambda image: image.path)
    if not found:
        raise DataError(f"{root}: no image file in its label folders or lists; expected {EXPECTED}")
    for image in found:
        if image.path.encode("utf-8", "replace").decode() != image.path:
            raise DataError(f"{root}: the name {image.path!r} is not UTF-8; rename it")
    if not any(image.label == "normal" for image in found):
        raise DataError(
            f"{root}: {len(found)} sick images and no normal one; the model learns from normal "
            f"images, expected in a folder {config.normal}"
        )
    return found


def open_data(config: DataConfig, root: Path) -> Store:
    """The data set's files. Raises `DataError`."""
    return open_store(root, {config.normal.lower(), config.sick.lower(), *SOURCE_SPLITS})


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
        Record(
            image.path,
            image.label,
            image.patient,
            digest,
            image.source_split,
            row,
            image.boxes,
            image.label_folder,
        )
        for row, (digest, image) in enumerate(kept.items())
    )
    return Catalog(root, records, tuple(duplicates), unreadable)


def fingerprint(hashes: Iterable[str]) -> str:
    """One SHA-256 over a set of content hashes, whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _listed(store: Store, layout: Layout) -> Iterable[FoundImage]:
    """Rows of a table, and of each how its file is now; one that is gone is reported when read."""
    rows: dict[str, Listed] = {}
    for row in layout.listed():
        first = rows.setdefault(row.path, row)  # a path listed twice counts once
        if (first.label, first.source_split) != (row.label, row.source_split):
            raise DataError(f"{row.path} is listed twice, unlike in label or split; keep one")
    for path, row in rows.items():
        file = store.stat(path)
        yield FoundImage(
            path, row.label, row.source_split, file.size, file.stamp, row.patient, row.boxes
        )


def _in_label_folders(config: DataConfig, root: Path, store: Store) -> Iterable[FoundImage]:
    folders = list(_label_folders(config, store))
    if not folders:
        present = ", ".join(store.folders()) or "none"
        raise DataError(
            f"{root}: no folder {config.normal} or {config.sick} in it or in its train, val and "
            f"test folders (found: {present}); name yours with data.normal and data.sick"
        )
    boxes = nih_boxes(store) if store.has(NIH_BOXES) else {}
    for folder, label, split in folders:
        for file in store.files(folder):
            if _is_image(file.path):
                marked = tuple(boxes.get(PurePosixPath(file.path).stem, ()))
                yield FoundImage(file.path, label, split, file.size, file.stamp, "", marked, folder)


def _label_folders(config: DataConfig, store: Store) -> Iterable[tuple[str, Label, str | None]]:
    labels: dict[str, Label] = {config.normal.lower(): "normal", config.sick.lower(): "sick"}
    top = store.folders()
    places: list[tuple[str, str | None]] = [("", None)]
    places += [(name, name.lower()) for name in top if name.lower() in SOURCE_SPLITS]
    for place, split in places:
        for name in store.folders(place) if place else top:
            if name.lower() in labels:
                yield f"{place}/{name}".lstrip("/"), labels[name.lower()], split


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES
