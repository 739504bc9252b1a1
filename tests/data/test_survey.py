"""What the survey says of a real folder: counts, sizes, what was set aside, and the audit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvae.config import DataConfig
from medvae.data.cache import import_images
from medvae.data.survey import Survey, make_survey, read_survey, surveyed_folders
from medvae.errors import DataError
from medvae.workspace import Workspace
from tests.data.drawn import chest, write


def surveyed(root: Path, workspace: Workspace, **changes: object) -> tuple[Survey, Path]:
    config = DataConfig(root=str(root), validation_fraction=0.3, **changes)  # type: ignore[arg-type]
    images = import_images(config, root, 32, workspace, lambda done, total: None)
    folder = make_survey(config, images, workspace, 0, lambda done, total: None)
    return read_survey(folder), folder


@pytest.fixture
def messy(chest_folder: Path, tmp_path: Path) -> Path:
    """The small set with a copy, an unreadable file and an image of another size."""
    root = tmp_path / "messy"
    shutil.copytree(chest_folder, root)
    shutil.copy(root / "train/NORMAL/IM-0000-0001.jpeg", root / "train/NORMAL/IM-0000-0002.jpeg")
    write(root / "train/NORMAL/IM-0900-0001.jpeg", b"no image")
    write(root / "train/NORMAL/IM-0901-0001.png", chest(901, size=80))
    return root


def test_everything_is_counted_and_what_was_set_aside_has_its_reason(
    messy: Path, workspace: Workspace
) -> None:
    found, folder = surveyed(messy, workspace)
    assert found.counts == {
        "test": {"normal": 12, "sick": 12},
        "train": {"normal": 41, "sick": 12},
        "val": {"normal": 2, "sick": 0},
    }
    assert (found.images("normal"), found.images("sick")) == (55, 24)
    assert found.distinct_patients == 79
    assert found.patients == {"normal": 55, "sick": 24, "both": 0}
    assert found.duplicate_pairs == [
        ["train/NORMAL/IM-0000-0002.jpeg", "train/NORMAL/IM-0000-0001.jpeg"]
    ]
    [(path, reason)] = found.unreadable_files.items()
    assert path.endswith("IM-0900-0001.jpeg")
    assert "not an image" in reason
    assert found.sizes == {"64 × 64": 78, "80 × 80": 1}
    assert surveyed_folders(workspace) == [folder]


def test_the_audit_says_how_much_was_compared(chest_folder: Path, workspace: Workspace) -> None:
    found, _ = surveyed(chest_folder, workspace)
    assert found.audit.passed
    assert "official protocol" in found.audit.statement
    evidence = found.audit.evidence
    assert (evidence["healthy"], evidence["forbidden"]) == (42, 36)
    assert evidence["pairs_by_hash"] == 2 * 42 * 36
    assert 0 < evidence["pairs_by_detail"] < evidence["pairs_by_hash"]


def test_a_leak_fails_the_audit_and_names_the_image(messy: Path, workspace: Workspace) -> None:
    sick = next((messy / "test/PNEUMONIA").iterdir())
    with Image.open(sick) as image:
        image.convert("L").save(messy / "train/NORMAL/IM-0950-0001.jpeg", quality=80)
    found, _ = surveyed(messy, workspace)
    assert not found.audit.passed
    assert "IM-0950-0001.jpeg looks like a copy of" in found.audit.statement
    assert found.audit.evidence == {}


def test_mean_image_and_samples_are_of_the_class(chest_folder: Path, workspace: Workspace) -> None:
    config = DataConfig(root=str(chest_folder))
    images = import_images(config, chest_folder, 32, workspace, lambda done, total: None)
    _, folder = surveyed(chest_folder, workspace)
    rows = [record.row for record in images.catalog.of("sick")]
    with Image.open(folder / "mean-sick.png") as mean:
        assert np.abs(np.asarray(mean) - images.pixels[rows].mean(axis=0)).max() <= 0.5
    with Image.open(folder / "samples-sick.png") as samples:
        first = np.asarray(samples)[:32, :32]
    assert any(np.array_equal(first, images.pixels[row]) for row in rows)


def test_a_survey_older_than_its_images_says_so(messy: Path, workspace: Workspace) -> None:
    found, folder = surveyed(messy, workspace)
    assert not found.outdated
    write(messy / "train/NORMAL/IM-0960-0001.png", chest(960))
    config = DataConfig(root=str(messy))
    import_images(config, messy, 32, workspace, lambda done, total: None)
    assert read_survey(folder).outdated


def test_a_folder_without_survey_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="import it again"):
        read_survey(tmp_path)
    (tmp_path / "survey.json").write_text('{"root": 1}')
    with pytest.raises(DataError, match="import it again"):
        read_survey(tmp_path)
