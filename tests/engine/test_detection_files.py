"""From files to files: the same figures as an evaluation, one row and one picture a file."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvae.data.cache import ImageSet
from medvae.data.splits import Split
from medvae.data.transform import read_model_input, to_model_input
from medvae.engine.detection_files import NO_VERDICT, PICTURE_SIDE, detect_files
from medvae.engine.detector import AnomalyDetector
from medvae.engine.evaluation import score_test_images
from medvae.engine.events import Event, Preparing, ignore
from medvae.engine.scores import DEFAULT_SCORE
from tests.conftest import TrainedRun
from tests.data.drawn import chest, encoded, write


@pytest.fixture
def detector(trained: TrainedRun) -> AnomalyDetector:
    return AnomalyDetector.load(trained.best, "cpu")


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_figures_are_those_of_the_evaluation_of_the_same_files(
    detector: AnomalyDetector, images: ImageSet, divided: Split, chest_folder: Path, tmp_path: Path
) -> None:
    files = [chest_folder / record.path for record in divided.test]
    written = detect_files(detector, files, tmp_path / "out", ignore)
    tested = score_test_images(detector, images, divided.test)
    rows = rows_of(written.table)
    assert [row["file"] for row in rows] == [str(file) for file in files]
    for index, row in enumerate(rows):
        for name in ("mse", "kld", "elbo"):
            assert float(row[name]) == pytest.approx(
                tested.values[name][index], abs=0.002, rel=1e-4
            )
        found = detector.detect_inputs([images.pixels[divided.test[index].row]], ["x"])
        assert float(row["p_value"]) == pytest.approx(next(found).p_value, abs=1e-4)
    assert written.unreadable == 0


def test_a_large_jpeg_scores_as_it_does_when_it_is_imported(
    detector: AnomalyDetector, tmp_path: Path
) -> None:
    large = np.asarray(Image.fromarray(chest(8, size=256)).resize((1600, 1300)))
    data = encoded(large, "JPEG", quality=80)
    file = write(tmp_path / "large.jpeg", data)
    imported = read_model_input(data, "large.jpeg", 32)
    assert not np.array_equal(imported, to_model_input(large, 32))  # the way matters
    [row] = rows_of(detect_files(detector, [file], tmp_path / "out", ignore).table)
    [expected] = detector.detect_inputs([imported], ["large.jpeg"])
    assert float(row[DEFAULT_SCORE]) == pytest.approx(expected.score, abs=0.002)


def test_every_file_has_a_picture_of_input_counterpart_and_heatmap(
    detector: AnomalyDetector, tmp_path: Path
) -> None:
    files = [write(tmp_path / f"c{i}.png", chest(i)) for i in range(3)]
    written = detect_files(detector, files, tmp_path / "out", ignore)
    for row in rows_of(written.table):
        with Image.open(tmp_path / "out" / row["heatmap"]) as picture:
            assert picture.size == (3 * PICTURE_SIDE, PICTURE_SIDE)
    assert len(written.lines) == 3
    assert all("healthy" in line for line in written.lines)


def test_files_of_one_name_from_several_folders_do_not_overwrite_each_other(
    detector: AnomalyDetector, tmp_path: Path
) -> None:
    files = [
        write(tmp_path / "a/chest.png", chest(1)),
        write(tmp_path / "b/chest.png", chest(2)),
        write(tmp_path / "b/chest.bmp", chest(3)),
    ]
    rows = rows_of(detect_files(detector, files, tmp_path / "out", ignore).table)
    pictures = {row["heatmap"] for row in rows}
    assert len(pictures) == 3
    assert len({(tmp_path / "out" / name).read_bytes() for name in pictures}) == 3
    assert {file.name for file in (tmp_path / "out").iterdir()} == {*pictures, "scores.csv"}


def test_a_file_that_cannot_be_read_is_a_row_with_its_reason(
    detector: AnomalyDetector, tmp_path: Path
) -> None:
    good = write(tmp_path / "good.png", chest(1))
    bad = write(tmp_path / "bad.png", b"no image")
    missing = tmp_path / "missing.png"
    written = detect_files(detector, [bad, good, missing], tmp_path / "out", ignore)
    rows = rows_of(written.table)
    assert [bool(row["error"]) for row in rows] == [True, False, True]
    assert "bad.png" in rows[0]["error"]
    assert [row["verdict"] != "" for row in rows] == [False, True, False]
    assert written.unreadable == 2
    assert len(written.lines) == 3


def test_the_target_decides_the_verdict(
    detector: AnomalyDetector, chest_folder: Path, tmp_path: Path
) -> None:
    files = sorted((chest_folder / "test/PNEUMONIA").iterdir())
    strict, loose = (
        rows_of(detect_files(detector, files, tmp_path / str(fpr), ignore, target_fpr=fpr).table)
        for fpr in (0.001, 0.49)
    )
    assert {row["verdict"] for row in strict} == {NO_VERDICT}  # too few healthy images for 0.1 %
    assert "unusual" in {row["verdict"] for row in loose}
    assert [row["elbo"] for row in strict] == [row["elbo"] for row in loose]


def test_progress_ends_with_the_last_file(detector: AnomalyDetector, tmp_path: Path) -> None:
    files = [
        shutil.copy(write(tmp_path / "c.png", chest(1)), tmp_path / f"{i}.png") for i in range(3)
    ]
    events: list[Event] = []
    detect_files(detector, [Path(file) for file in files], tmp_path / "out", events.append)
    last = events[-1]
    assert isinstance(last, Preparing)
    assert last.done == last.total == 3
