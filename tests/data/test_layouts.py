"""Small sets in every public layout, made here, end as the same kind of catalogue."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medvae.config import DataConfig
from medvae.data.cache import import_images
from medvae.data.card import write_card
from medvae.data.catalog import FoundImage, find_images
from medvae.data.splits import split
from medvae.data.survey import make_survey, read_survey
from medvae.errors import DataError
from medvae.workspace import Workspace
from tests.data.dicoms import dicom
from tests.data.drawn import chest, sick_chest, write

HEALTHY, SICK = 40, 12


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def lines(*rows: str) -> bytes:
    return "\n".join(rows).encode() + b"\n"


def write_nih(root: Path) -> Path:
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age"]
    boxes = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    for i in range(HEALTHY + SICK):
        name, sick = f"{i:08d}_000.png", i >= HEALTHY
        pixels = sick_chest(3000 + i) if sick else chest(i)
        write(root / f"images_{i % 2:03d}/images/{name}", pixels)
        rows.append(f"{name},{'Nodule|Mass' if sick else 'No Finding'},0,{i // 2},057Y")
        if sick:
            boxes.append(f"{name},Mass,256,512,128,64,,,")
    rows.append("99999999_000.png,No Finding,0,9999,057Y")  # listed, but not among the files
    write(root / "Data_Entry_2017.csv", lines(*rows))
    write(root / "BBox_List_2017.csv", lines(*boxes))
    return root


def write_rsna(root: Path) -> Path:
    labels, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    kinds = ["Normal"] * HEALTHY + ["Lung Opacity"] * (SICK - 2)
    for i, kind in enumerate([*kinds, *["No Lung Opacity / Not Normal"] * 2]):
        pixels = chest(i) if kind == "Normal" else sick_chest(3000 + i)
        write(root / f"stage_2_train_images/p{i}.dcm", dicom(pixels.astype(np.uint16) * 16))
        is_opaque = kind == "Lung Opacity"
        labels.append(f"p{i},256.0,512.0,128.0,64.0,1" if is_opaque else f"p{i},,,,,0")
        classes.append(f"p{i},{kind}")
    write(root / "stage_2_train_labels.csv", lines(*labels))
    write(root / "stage_2_detailed_class_info.csv", lines(*classes))
    return root


def write_chexpert(root: Path) -> Path:
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pneumonia,Support Devices"
    rows = [head]
    for i in range(HEALTHY + SICK):
        sick = i >= HEALTHY
        path = f"train/patient{i:05d}/study1/view1_frontal.jpg"
        write(root / path, sick_chest(3000 + i) if sick else chest(i))
        marks = ",,1.0,1.0" if sick else "1.0,,,1.0"
        rows.append(f"CheXpert-v1.0-small/{path},Male,60,Frontal,AP,{marks}")
    lateral, doubtful = (f"CheXpert-v1.0-small/train/patient9{i}/study1/x.jpg" for i in range(2))
    rows.append(f"{lateral},Male,60,Lateral,,1.0,,,")
    rows.append(f"{doubtful},Male,60,Frontal,AP,,,-1.0,")
    write(root / "train.csv", lines(*rows))
    return root


def write_manifest(root: Path) -> Path:
    rows = ["path,label,patient,split"]
    for i in range(HEALTHY + SICK):
        sick = i >= HEALTHY
        write(root / f"all/{i}.png", sick_chest(3000 + i) if sick else chest(i))
        rows.append(f"all/{i}.png,{'Pneumonia' if sick else 'normal'},p{i},")
    write(root / "manifest.csv", lines(*rows))
    return root


def write_json_list(root: Path) -> Path:
    write_manifest(root)
    (root / "manifest.csv").unlink()
    rows = [
        {"path": f"all/{i}.png", "label": "SICK" if i >= HEALTHY else "NORMAL", "patient": f"p{i}"}
        for i in range(HEALTHY + SICK)
    ]
    return write(root / "images.json", json.dumps(rows).encode())


def write_kaggle(root: Path) -> Path:
    """As Kaggle packs it: twice, and with what macOS adds."""
    for folder in ("chest_xray", "chest_xray/chest_xray", "chest_xray/__MACOSX"):
        for i in range(HEALTHY):
            write(root / folder / f"train/NORMAL/IM-{i:04d}-0001.jpeg", chest(i))
        for i in range(SICK):
            name = f"train/PNEUMONIA/person{i}_bacteria_{i}.jpeg"
            write(root / folder / name, sick_chest(3000 + i))
    return root / "chest_xray"


def write_medmnist(root: Path) -> Path:
    root.mkdir()
    healthy = np.stack([chest(i) for i in range(HEALTHY)])
    sick = np.stack([sick_chest(3000 + i) for i in range(SICK)])
    marks = np.array([[0]] * HEALTHY + [[1]] * SICK, np.uint8)
    file = root / "pneumoniamnist_64.npz"
    np.savez(file, train_images=np.concatenate([healthy, sick]), train_labels=marks)
    return file


LAYOUTS = {
    "NIH ChestX-ray14": write_nih,
    "RSNA pneumonia": write_rsna,
    "CheXpert": write_chexpert,
    "manifest": write_manifest,
    "list": write_json_list,
    "label folders": write_kaggle,
    "label folders (npz)": write_medmnist,
}


WITHOUT_SOURCE = {"manifest", "list", "label folders"}


def found(root: Path) -> list[FoundImage]:
    return find_images(DataConfig(), root)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_ends_in_a_catalogue_a_split_without_leaks_and_a_card(
    name: str, tmp_path: Path, workspace: Workspace
) -> None:
    root = LAYOUTS[name](tmp_path / "set")
    config = DataConfig(root=str(root))
    images = import_images(config, root, 32, workspace, silent)
    assert len(images.catalog.of("normal")) == HEALTHY
    assert len(images.catalog.of("sick")) == SICK
    assert not images.catalog.unreadable
    assert split(images.catalog, config, 0).train
    folder = make_survey(config, images, workspace, 0, silent)
    survey = read_survey(folder)
    card = write_card(survey, folder).read_text()
    assert f"Layout: {name.partition(' (')[0]}" in card
    assert "leak audit: passed" in card
    assert f"normal: {HEALTHY} images" in card
    assert survey.fingerprint in card
    boxed = {"NIH ChestX-ray14": SICK, "RSNA pneumonia": SICK - 2}.get(name, 0)
    assert (survey.boxed, f"boxes around findings: {boxed} images" in card) == (boxed, boxed > 0)
    assert ("not stated" in card) == (name in WITHOUT_SOURCE)


def test_boxes_are_shares_of_the_image(tmp_path: Path) -> None:
    for writer in (write_nih, write_rsna):
        images = found(writer(tmp_path / writer.__name__))
        boxes = {image.boxes for image in images if image.boxes}
        assert boxes == {((0.25, 0.5, 0.125, 0.0625),)}
        assert all(image.label == "sick" for image in images if image.boxes)


def test_patients_come_from_the_table(tmp_path: Path) -> None:
    assert {i.patient for i in found(write_nih(tmp_path / "nih"))} == {str(i) for i in range(26)}
    names = {image.patient for image in found(write_chexpert(tmp_path / "chexpert"))}
    assert "patient00007" in names


def test_every_image_of_medmnist_is_a_patient_of_its_own(tmp_path: Path) -> None:
    parts, marks = ("train", "val", "test"), np.array([[0], [0], [1]], np.uint8)
    arrays = {f"{part}_images": np.zeros((3, 32, 32), np.uint8) for part in parts}
    file = tmp_path / "pneumoniamnist_32.npz"
    np.savez(file, **arrays, **{f"{part}_labels": marks for part in parts})
    images = found(file)
    assert len({image.patient for image in images}) == len(images) == 9
    assert "train/PNEUMONIA/train-00002.bmp" in {image.path for image in images}


def test_the_official_test_of_nih_is_kept_apart(tmp_path: Path) -> None:
    root = write_nih(tmp_path / "nih")
    write(root / "test_list.txt", b"00000001_000.png\n")
    splits = {image.path.rpartition("/")[2]: image.source_split for image in found(root)}
    assert splits.pop("00000001_000.png") == "test"
    assert set(splits.values()) == {"train"}


def test_rsna_without_the_table_that_tells_healthy_is_refused(tmp_path: Path) -> None:
    root = write_rsna(tmp_path / "rsna")
    (root / "stage_2_detailed_class_info.csv").unlink()
    with pytest.raises(DataError, match="detailed_class_info"):
        found(root)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"path,label\nx.png,tired\n", "row 1 .*'tired'"),
        (b"file,label\nx.png,normal\n", "row 1 .*'path'"),
        (b"path,label,split\nx.png,normal,\ny.png,normal,testing\n", "row 2 .*'testing'.*train"),
        (b"path,label\nx.png,normal\nx.png,sick\n", "x.png is listed twice"),
        (b"path,label\n", "no image file"),
        (b"path,label\nx.png,sick\n", "no normal one"),
        ("path,label\nä.png,normal\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_bad_list_is_refused_by_row(tmp_path: Path, table: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        found(write(tmp_path / "list.csv", table))


def test_blanks_and_capitals_in_a_list_change_no_split_and_no_patient(tmp_path: Path) -> None:
    rows = ("a,normal,p1,Test", "b,normal,p1 , test ", "c,normal, p1,TRAIN", "d,normal, , ",
            "e,normal,p1,valid", "f,normal,p1,Validation ")  # fmt: skip
    images = found(write(tmp_path / "list.csv", lines("path,label,patient,split", *rows)))
    assert [image.source_split for image in images] == ["test", "test", "train", None, "val", "val"]
    assert [image.patient for image in images] == ["p1", "p1", "p1", "d", "p1", "p1"]


def test_patient_0_of_a_list_is_a_patient_and_null_is_none(tmp_path: Path) -> None:
    rows = [
        {"path": f"{name}.png", "label": "normal", "patient": patient}
        for name, patient in (("a", 0), ("b", 0), ("c", None), ("d", ""))
    ]
    images = found(write(tmp_path / "list.json", json.dumps(rows).encode()))
    assert [image.patient for image in images] == ["0", "0", "c", "d"]


def test_a_listed_file_that_is_not_there_is_unreadable(
    tmp_path: Path, workspace: Workspace
) -> None:
    write(tmp_path / "a.png", chest(1))
    table = write(tmp_path / "list.csv", b"path,label\na.png,normal\ngone.png,normal\n")
    images = import_images(DataConfig(), table, 32, workspace, silent)
    assert len(images.catalog.records) == 1
    assert list(images.catalog.unreadable) == ["gone.png"]


def by_a_dot(folder: Path) -> str:
    return "./"


def by_its_whole_path(folder: Path) -> str:
    return f"{folder}/"


def from_another_folder(folder: Path) -> str:
    return f"../{folder.name}/"


@pytest.mark.parametrize("named", [by_a_dot, by_its_whole_path, from_another_folder])
def test_a_listed_file_that_changed_or_went_is_noticed_however_it_is_named(
    tmp_path: Path, workspace: Workspace, named: Callable[[Path], str]
) -> None:
    folder = tmp_path / "set"
    for i in range(3):
        write(folder / f"{i}.png", chest(i))
    rows = [f"{named(folder)}{i}.png,normal" for i in range(3)]
    table = write(folder / "list.csv", lines("path,label", *rows))
    config = DataConfig(root=str(table))
    first = import_images(config, table, 32, workspace, silent).catalog
    write(folder / "0.png", chest(50))
    (folder / "1.png").unlink()
    images = import_images(config, table, 32, workspace, silent)
    assert list(images.catalog.unreadable) == [f"{named(folder)}1.png"]
    changed = {record.path for record in images.catalog.records if record not in first.records}
    assert f"{named(folder)}0.png" in changed
    (folder / "2.png").unlink()  # after it was decoded
    survey = read_survey(make_survey(config, images, workspace, 0, silent))
    assert (survey.unreadable, survey.sizes) == (1, {"64 × 64": 1, "unknown": 1})


def damage_wrong_kind(file: Path) -> None:
    np.savez(file, train_images=np.zeros((2, 8, 8, 3), np.uint8), train_labels=np.zeros((2, 1)))


def damage_objects(file: Path) -> None:
    labels = np.array([0, 1], dtype=object)
    np.savez(file, train_images=np.zeros((2, 8, 8), np.uint8), train_labels=labels)


@pytest.mark.parametrize("damage", [damage_wrong_kind, damage_objects])
def test_a_numpy_archive_of_something_else_is_refused(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "other.npz"
    damage(file)
    with pytest.raises(DataError, match="npz"):
        found(file)
