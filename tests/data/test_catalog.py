"""What is found in a folder, who is one patient, and what is set aside."""

from collections import Counter
from pathlib import Path

import pytest

from medvae.config import DataConfig
from medvae.data.cache import ImageSet, import_images
from medvae.data.catalog import FoundImage, find_images, fingerprint
from medvae.data.sources import resolve_root
from medvae.errors import DataError
from medvae.workspace import Workspace
from tests.data.drawn import chest, encoded, sick_chest, write


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def import_at(root: Path, workspace: Workspace, **settings: str) -> ImageSet:
    return import_images(DataConfig.model_validate(settings), root, 32, workspace, silent)


def place(root: Path, *paths: str) -> Path:
    """Files with the given paths; found, but never opened."""
    for path in paths:
        write(root / path, b"not opened")
    return root


def found(root: Path, **settings: str) -> dict[str, tuple[str, str | None]]:
    images = find_images(DataConfig.model_validate(settings), root)
    return {image.path: (image.label, image.source_split) for image in images}


def test_the_public_layout_gives_labels_and_source_splits(tmp_path: Path) -> None:
    splits = ("train", "val", "test")
    place(
        tmp_path,
        *(f"{s}/{label}/{s}1.jpeg" for s in splits for label in ("NORMAL", "PNEUMONIA")),
    )
    assert found(tmp_path) == {
        f"{s}/{folder}/{s}1.jpeg": (label, s)
        for s in splits
        for folder, label in (("NORMAL", "normal"), ("PNEUMONIA", "sick"))
    }


def test_a_flat_layout_has_no_source_splits(tmp_path: Path) -> None:
    place(tmp_path, "NORMAL/a1.png", "PNEUMONIA/b1.tif")
    assert found(tmp_path) == {
        "NORMAL/a1.png": ("normal", None),
        "PNEUMONIA/b1.tif": ("sick", None),
    }


def test_the_label_folders_can_have_any_names(tmp_path: Path) -> None:
    place(tmp_path, "healthy lungs/a1.png", "TB/b1.png", "PNEUMONIA/c1.png")
    assert found(tmp_path, normal="healthy lungs", sick="TB") == {
        "healthy lungs/a1.png": ("normal", None),
        "TB/b1.png": ("sick", None),
    }


def test_case_does_not_matter_in_folder_names_and_suffixes(tmp_path: Path) -> None:
    place(tmp_path, "Train/normal/a1.JPG", "TEST/Pneumonia/b1.Png", "TEST/NORMAL/c1.jpeg")
    assert found(tmp_path) == {
        "Train/normal/a1.JPG": ("normal", "train"),
        "TEST/NORMAL/c1.jpeg": ("normal", "test"),
        "TEST/Pneumonia/b1.Png": ("sick", "test"),
    }


def test_images_may_lie_deeper_within_a_label_folder(tmp_path: Path) -> None:
    place(tmp_path, "NORMAL/2019/ward b/a1.png")
    assert list(found(tmp_path)) == ["NORMAL/2019/ward b/a1.png"]


def test_hidden_files_and_folders_and_other_files_are_passed_over(tmp_path: Path) -> None:
    place(
        tmp_path, "NORMAL/a1.png", "NORMAL/._a1.png", "NORMAL/.DS_Store", "NORMAL/Thumbs.db",
        "NORMAL/notes.txt", "NORMAL/.thumbnails/a1.png", "__MACOSX/NORMAL/._a1.png",
        "NORMAL/.ipynb_checkpoints/a1-checkpoint.png", "masks/a1.png",
    )  # fmt: skip
    assert list(found(tmp_path)) == ["NORMAL/a1.png"]


def test_a_folder_that_only_wraps_the_data_set_is_looked_through(
    tmp_path: Path, workspace: Workspace
) -> None:
    place(tmp_path, "archive/chest_xray/NORMAL/a1.png", "archive/chest_xray/PNEUMONIA/b1.png",
          "archive/__MACOSX/x", "archive/.DS_Store")  # fmt: skip
    root = resolve_root(DataConfig(root=str(tmp_path / "archive")), workspace, silent)
    assert set(found(root)) == {"NORMAL/a1.png", "PNEUMONIA/b1.png"}


@pytest.mark.parametrize("only", ["NORMAL", "normal", "train"])
def test_a_lone_label_or_split_folder_is_no_wrapper(
    tmp_path: Path, workspace: Workspace, only: str
) -> None:
    place(tmp_path / "data", f"{only}/NORMAL/a1.png")
    root = resolve_root(DataConfig(root=str(tmp_path / "data")), workspace, silent)
    assert root == (tmp_path / "data").resolve()


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1234_bacteria_99.jpeg", "person1234"),
        ("person12_virus_3.jpeg", "person12"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0115-0001-0002.jpeg", "IM-0115"),
        ("NORMAL2-IM-0383-0001.jpeg", "NORMAL2-IM-0383"),
        ("NORMAL2-IM-1094-0001-0002.jpeg", "NORMAL2-IM-1094"),
        ("00000013_005.png", "00000013"),
        ("phantom00420_nodule.png", "phantom00420"),
        ("smith.png", "smith"),
    ],
)
def test_the_name_tells_the_patient(name: str, patient: str) -> None:
    assert FoundImage(f"train/NORMAL/{name}", "normal", "train", 1, 1).patient == patient


def test_identical_files_of_one_label_are_dropped_and_counted(
    tmp_path: Path, workspace: Workspace
) -> None:
    for i in range(3):
        write(tmp_path / f"train/NORMAL/a{i}.png", chest(i))
    write(tmp_path / "train/NORMAL/b0.png", chest(0))
    write(tmp_path / "test/NORMAL/c1.png", chest(1))
    catalog = import_at(tmp_path, workspace).catalog
    assert set(catalog.duplicates) == {
        ("train/NORMAL/b0.png", "train/NORMAL/a0.png"),
        ("train/NORMAL/a1.png", "test/NORMAL/c1.png"),  # it stays where it is kept from training
    }
    assert len(catalog.records) == 3
    assert "2 duplicates dropped" in catalog.summary()


def test_the_same_bytes_under_two_labels_is_an_error_that_names_both(
    tmp_path: Path, workspace: Workspace
) -> None:
    write(tmp_path / "NORMAL/a1.png", chest(1))
    write(tmp_path / "NORMAL/a2.png", chest(2))
    write(tmp_path / "PNEUMONIA/b7.png", chest(2))
    with pytest.raises(DataError, match=r"NORMAL/a2\.png and PNEUMONIA/b7\.png"):
        import_at(tmp_path, workspace)


def test_a_catalog_counts_images_patients_and_the_unreadable(
    tmp_path: Path, workspace: Workspace
) -> None:
    write(tmp_path / "NORMAL/IM-1-1.png", chest(1))
    write(tmp_path / "NORMAL/IM-1-2.png", chest(2))
    write(tmp_path / "PNEUMONIA/person1_virus.png", sick_chest(3))
    write(tmp_path / "NORMAL/IM-2-1.png", b"no image")
    catalog = import_at(tmp_path, workspace).catalog
    assert catalog.summary() == (
        "2 normal and 1 sick images of 2 patients; 0 duplicates dropped, 1 unreadable"
    )
    assert list(catalog.unreadable) == ["NORMAL/IM-2-1.png"]


def test_a_link_that_leads_nowhere_is_listed_as_unreadable(
    tmp_path: Path, workspace: Workspace
) -> None:
    write(tmp_path / "NORMAL/a1.png", chest(1))
    (tmp_path / "NORMAL/a2.png").symlink_to(tmp_path / "gone.png")
    catalog = import_at(tmp_path, workspace).catalog
    assert [record.path for record in catalog.records] == ["NORMAL/a1.png"]
    assert list(catalog.unreadable) == ["NORMAL/a2.png"]


def refusal(root: Path, **settings: str) -> str:
    with pytest.raises(DataError) as caught:
        find_images(DataConfig.model_validate(settings), root)
    message = str(caught.value)
    assert message.startswith(f"{root}: ")
    assert "\n" not in message
    return message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "nothing")


def test_an_empty_folder_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert "NORMAL" in message
    assert "PNEUMONIA" in message


def test_other_folder_names_are_listed(tmp_path: Path) -> None:
    place(tmp_path, "Normal cases/a1.png", "Covid/b1.png")
    assert "found: Covid, Normal cases" in refusal(tmp_path)


def test_folders_of_text_files_are_refused(tmp_path: Path) -> None:
    place(tmp_path, "NORMAL/a.txt", "PNEUMONIA/b.csv")
    assert "no image file" in refusal(tmp_path)


def test_files_that_are_called_images_and_are_none_are_refused_with_the_first_reason(
    tmp_path: Path, workspace: Workspace
) -> None:
    place(tmp_path, "NORMAL/a1.png", "NORMAL/a2.jpeg")
    with pytest.raises(DataError, match=r"none of 2 files can be read.*NORMAL/a1\.png"):
        import_at(tmp_path, workspace)


def test_only_sick_images_are_refused(tmp_path: Path) -> None:
    place(tmp_path, "train/PNEUMONIA/b1.png", "test/PNEUMONIA/b2.png")
    assert "2 sick images and no normal one" in refusal(tmp_path)


def test_a_fingerprint_depends_on_the_contents_and_not_on_their_order() -> None:
    assert fingerprint(["a", "b", "c"]) == fingerprint(["c", "a", "b"])
    assert fingerprint(["a", "b"]) != fingerprint(["a", "c"])
    assert fingerprint(["ab"]) != fingerprint(["a", "b"])


def test_the_real_or_drawn_public_set_is_understood(shared_data: Path) -> None:
    images = find_images(DataConfig(), shared_data)
    counts = Counter((image.source_split, image.label) for image in images)
    on_disk = Counter(
        (file.parts[-3], {"NORMAL": "normal", "PNEUMONIA": "sick"}[file.parts[-2]])
        for file in shared_data.glob("*/*/*.*")
    )
    assert counts == on_disk
    patients = {image.patient for image in images if image.label == "sick"}
    assert all(patient.startswith("person") for patient in patients)
    assert patients.isdisjoint(image.patient for image in images if image.label == "normal")


def test_a_name_without_a_suffix_of_an_image_is_not_opened(
    tmp_path: Path, workspace: Workspace
) -> None:
    write(tmp_path / "NORMAL/a1.png", chest(1))
    write(tmp_path / "NORMAL/a2", encoded(chest(2)))
    assert [r.path for r in import_at(tmp_path, workspace).catalog.records] == ["NORMAL/a1.png"]
