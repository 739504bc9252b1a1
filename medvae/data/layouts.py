"""Data sets that say in a table what their images show: our own lists, and the public sets'.

Each layout turns rows into `Listed` images: path, label, patient, split, boxes. Opens no image.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from medvae.config import DataConfig
from medvae.data.stores import Store
from medvae.errors import DataError

Label = Literal["normal", "sick"]
Box = tuple[float, float, float, float]  # left, top, width, height, as shares of the image's sides

MANIFEST = "manifest.csv"
SPLITS = {
    "": None, "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"
}  # fmt: skip
NIH = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
NIH_BOXES, NIH_TEST = "BBox_List_2017.csv", "test_list.txt"
RSNA, RSNA_CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
CHEXPERT = {"train.csv": "train", "valid.csv": "val"}
SIDE = 1024.0  # of the images that the boxes of NIH and RSNA are drawn on


@dataclass(frozen=True)
class Listed:
    """One row: an image and what its table says of it."""

    path: str
    label: Label
    patient: str
    source_split: str | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out, and the licence that its makers give it."""

    name: str
    listed: Callable[[], Iterator[Listed]]
    source: str = ""


def find_layout(config: DataConfig, root: Path, store: Store) -> Layout | None:
    """The table that describes the images, if there is one. Reads nothing yet."""
    if root.is_file() and root.suffix.lower() in (".csv", ".json"):
        return Layout("list", lambda: _manifest(config, store, root.name))
    if store.has(MANIFEST):
        return Layout("manifest", lambda: _manifest(config, store, MANIFEST))
    nih = next((table for table in NIH if store.has(table)), None)
    if nih:
        return Layout("NIH ChestX-ray14", lambda: _nih(store, nih), _NIH_SOURCE)
    if store.has(RSNA):
        return Layout("RSNA pneumonia", lambda: _rsna(store), _RSNA_SOURCE)
    if any(store.has(table) and "Frontal/Lateral" in _head(store, table) for table in CHEXPERT):
        return Layout("CheXpert", lambda: _chexpert(store), _CHEXPERT_SOURCE)
    return None


_NIH_SOURCE = "NIH Clinical Center, ChestX-ray8 (Wang et al., CVPR 2017); free with attribution"
_RSNA_SOURCE = (
    "RSNA Pneumonia Detection Challenge 2018, on images of the NIH Clinical Center; "
    "non-commercial, by the challenge's rules"
)
_CHEXPERT_SOURCE = "Stanford ML Group, CheXpert (Irvin et al., AAAI 2019); its own research licence"


_MEDMNIST_SOURCE = (
    "MedMNIST v2 (Yang et al., Scientific Data 2023), from Kermany et al. 2018; CC BY 4.0"
)
_KAGGLE = "chest-xray-pneumonia"  # the folder that Kaggle's client puts its copy into
_KAGGLE_SOURCE = (
    "Kermany, Zhang, Goldbaum: Chest X-Ray Images, Mendeley Data 2018, through Kaggle; CC BY 4.0"
)


def stated_source(root: Path, layout: Layout | None) -> str:
    """Where a data set is from and under which licence, where its form tells; else empty."""
    if layout:
        return layout.source
    if root.suffix == ".npz" and root.name.startswith("pneumoniamnist"):
        return _MEDMNIST_SOURCE
    return _KAGGLE_SOURCE if _KAGGLE in root.parts else ""


def _manifest(config: DataConfig, store: Store, table: str) -> Iterator[Listed]:
    """Columns `path` and `label`; `patient` and `split` where known."""
    labels: dict[str, Label] = {
        config.normal.lower(): "normal", "normal": "normal",
        config.sick.lower(): "sick", "sick": "sick",
    }  # fmt: skip
    for number, row in enumerate(_rows(store, table), start=1):
        try:
            path, label = str(row["path"]), labels[str(row["label"]).strip().lower()]
        except KeyError as missing:
            raise DataError(
                f"{table}: row {number} has no column or no known label {missing}; expected "
                f"columns path and label, and labels {config.normal} or {config.sick}"
            ) from None
        split = _stated(row, "split").lower()
        if split not in SPLITS:
            raise DataError(
                f"{table}: row {number} has the split {split!r}; expected train, val, test "
                "or nothing"
            )
        yield Listed(path, label, _stated(row, "patient"), SPLITS[split])


def _stated(row: dict[str, Any], column: str) -> str:
    """A cell without the blanks around it; empty where there is none. 0 is a statement."""
    value = row.get(column)
    return "" if value is None else str(value).strip()


def _nih(store: Store, table: str) -> Iterator[Listed]:
    """Sick is whatever has a finding; healthy is "No Finding"."""
    paths = _paths_by_name(store, ".png", ".jpg", ".jpeg")
    boxes = nih_boxes(store) if store.has(NIH_BOXES) else {}
    test = set(_text(store, NIH_TEST).split()) if store.has(NIH_TEST) else set()
    for row in _rows(store, table):
        name = row["Image Index"]
        path = paths.get(PurePosixPath(name).stem)
        if path:
            healthy = row["Finding Labels"].strip() == "No Finding"
            split = ("test" if name in test else "train") if test else None
            yield Listed(
                path,
                "normal" if healthy else "sick",
                row["Patient ID"],
                split,
                tuple(boxes.get(PurePosixPath(name).stem, ())),
            )


def nih_boxes(store: Store) -> dict[str, list[Box]]:
    """Boxes by file name without its suffix. Raises `DataError`."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    rows = csv.reader(io.StringIO(_text(store, NIH_BOXES)))
    next(rows, None)  # its heading has brackets that differ from copy to copy
    for name, _, *place in rows:
        boxes[PurePosixPath(name).stem].append(_box(place[:4]))
    return boxes


def _rsna(store: Store) -> Iterator[Listed]:
    """A target of 0 is not yet healthy: only the second table tells "Normal" from "Not Normal"."""
    if not store.has(RSNA_CLASSES):
        raise DataError(
            f"{RSNA} without {RSNA_CLASSES}: without it healthy images cannot be told from other "
            "findings; put both beside the images"
        )
    paths = _paths_by_name(store, ".dcm", ".png", ".jpg")
    healthy = {row["patientId"]: row["class"] == "Normal" for row in _rows(store, RSNA_CLASSES)}
    boxes: dict[str, list[Box]] = defaultdict(list)
    for row in _rows(store, RSNA):
        if row["Target"] == "1":
            boxes[row["patientId"]].append(_box([row[k] for k in ("x", "y", "width", "height")]))
    for patient, is_healthy in healthy.items():
        if patient in paths:
            label: Label = "normal" if is_healthy else "sick"
            yield Listed(paths[patient], label, patient, None, tuple(boxes.get(patient, ())))


def _chexpert(store: Store) -> Iterator[Listed]:
    """Frontal views. Sick: a finding is certain. Only uncertain or no statements: left out."""
    for table, split in CHEXPERT.items():
        if not store.has(table):
            continue
        for row in _rows(store, table):
            if row["Frontal/Lateral"] != "Frontal":
                continue
            path = row["Path"].partition("/")[2]  # the first folder is the data set's own name
            findings = {
                name: value for name, value in row.items() if name not in _NO_FINDINGS and value
            }
            certain = any(float(value) == 1 for value in findings.values())
            doubtful = any(float(value) == -1 for value in findings.values())
            healthy = row["No Finding"] not in ("", None) and float(row["No Finding"]) == 1
            if certain or (healthy and not doubtful):
                patient = next(p for p in path.split("/") if p.startswith("patient"))
                yield Listed(path, "sick" if certain else "normal", patient, split)


_NO_FINDINGS = {
    "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Support Devices"
}  # fmt: skip


def _paths_by_name(store: Store, *suffixes: str) -> dict[str, str]:
    """File name without suffix → path; the tables do not say in which folder an image is."""
    paths = (PurePosixPath(file.path) for file in store.files())
    return {path.stem: str(path) for path in paths if path.suffix.lower() in suffixes}


def _rows(store: Store, table: str) -> Iterable[dict[str, Any]]:
    text = _text(store, table)
    if not table.lower().endswith(".json"):
        return csv.DictReader(io.StringIO(text))
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{table}: not JSON ({error})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{table}: expected a list of objects with the keys path and label")
    return rows


def _head(store: Store, table: str) -> str:
    return _text(store, table).partition("\n")[0]


def _text(store: Store, table: str) -> str:
    try:
        return store.read(table).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{table}: not UTF-8 text; export it as CSV in UTF-8") from None


def _box(numbers: Iterable[str]) -> Box:
    left, top, width, height = (float(number) / SIDE for number in numbers)
    return left, top, width, height
