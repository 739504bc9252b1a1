"""Scoring an archive: every file one row, whatever happens in between."""

import csv
import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medvae.data.listing import list_images
from medvae.data.transform import read_model_input
from medvae.engine.archive import finish_archive, score_shard
from medvae.engine.archive_plan import Archive, plan_archive
from medvae.engine.detection_files import NO_VERDICT
from medvae.engine.detector import AnomalyDetector, Detection
from medvae.engine.events import Stop, Stopped
from medvae.engine.score_request import ScoreRequest
from medvae.errors import CheckpointError, DataError
from tests.data.drawn import chest, write
from tests.small_archive import SIZE, write_images, write_model, write_odd_files


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "best.pth")


@pytest.fixture(scope="module")
def detector(model: Path) -> AnomalyDetector:
    return AnomalyDetector.load(model, "cpu")


def plan(
    tmp_path: Path,
    model: Path,
    source: str = "images",
    out: str = "out.parquet",
    target_fpr: float | None = None,
) -> Archive:
    request = ScoreRequest(tmp_path / source, tmp_path / out, model, target_fpr, shard_size=10)
    return plan_archive(tmp_path / "work", request)


def rows(archive: Archive) -> list[dict[str, Any]]:
    return pq.read_table(archive.out).to_pylist()


def detect(detector: AnomalyDetector, path: Path) -> Detection:
    pixels = read_model_input(path.read_bytes(), path.name, SIZE)
    (detection,) = detector.detect_inputs([pixels], [path.name])
    return detection


def test_every_image_gets_the_scores_that_the_detector_gives_it(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    paths = write_images(tmp_path / "images", 25)
    archive = plan(tmp_path, model)
    assert (archive.images, archive.shards) == (25, 3)
    summary = finish_archive(archive, detector)
    found = rows(archive)
    assert [row["path"] for row in found] == [str(path) for path in paths]
    for row, path in zip(found, paths, strict=True):
        expected = detect(detector, path)
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        for name, value in expected.scores.items():
            assert row[name] == pytest.approx(value, rel=1e-4, abs=1e-4)
        assert row["p_value"] == expected.p_value
        assert (row["verdict"] == "unusual") == expected.unusual
        assert row["threshold"] == pytest.approx(expected.threshold)
        assert (row["target_fpr"], row["error"]) == (expected.target_fpr, None)
        assert row["model"] == f"tiny-0@{hashlib.sha256(model.read_bytes()).hexdigest()[:12]}"
    assert summary["images"] == 25
    assert summary["unusual"] == sum(row["verdict"] == "unusual" for row in found)
    assert summary["model"] == found[0]["model"]


def test_the_csv_says_the_same_as_the_parquet(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    write_images(tmp_path / "images", 12)
    write_odd_files(tmp_path / "images" / "c")
    archive = plan(tmp_path, model)
    finish_archive(archive, detector)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, rows(archive), strict=True):
        assert line.keys() == row.keys()
        assert (line["path"], line["error"]) == (row["path"], row["error"] or "")
        value = None if line["elbo"] == "" else pytest.approx(float(line["elbo"]))
        assert row["elbo"] == value


def test_a_file_that_cannot_be_read_is_a_row_with_its_reason(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    write_images(tmp_path / "images", 3)
    reasons = write_odd_files(tmp_path / "images")
    archive = plan(tmp_path, model)
    assert finish_archive(archive, detector)["unreadable"] == len(reasons)
    bad = {Path(row["path"]).name: row for row in rows(archive) if row["error"]}
    assert bad.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in bad[name]["error"]
        assert bad[name]["elbo"] is bad[name]["p_value"] is bad[name]["verdict"] is None
    assert bad["gone.png"]["sha256"] is None
    assert bad["text.jpg"]["sha256"] is not None


def test_a_shard_of_nothing_but_bad_files_is_a_shard(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    reasons = write_odd_files(tmp_path / "images")
    summary = finish_archive(plan(tmp_path, model), detector)
    assert (summary["images"], summary["unreadable"]) == (len(reasons), len(reasons))


@pytest.mark.skipif(os.name != "posix", reason="such names do not exist elsewhere")
def test_a_file_name_that_is_not_utf8_is_scored_too(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    (path,) = write_images(tmp_path / "images", 1)
    try:
        path.rename(path.with_name(os.fsdecode(b"caf\xe9\n.png")))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    archive = plan(tmp_path, model)
    finish_archive(archive, detector)
    (row,) = rows(archive)
    assert row["error"] is None
    assert row["path"].endswith("caf\\udce9\n.png")


def test_what_is_interrupted_goes_on_and_repeats_no_finished_shard(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    write_images(tmp_path / "images", 30)
    archive = plan(tmp_path, model)
    looks = iter([None, Stop.PAUSE])
    with pytest.raises(Stopped):
        finish_archive(archive, detector, should_stop=lambda: next(looks))
    assert archive.missing() == [1, 2]
    written = archive.result_file(0).stat().st_mtime_ns
    score_shard(archive, 0, detector)
    assert archive.result_file(0).stat().st_mtime_ns == written
    again = plan(tmp_path, model)
    assert again == archive
    assert finish_archive(again, detector)["images"] == 30
    assert len({row["path"] for row in rows(archive)}) == 30
    assert finish_archive(again, detector)["images"] == 30  # merged already: nothing to do


def test_a_damaged_shard_is_named_and_done_again(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    write_images(tmp_path / "images", 20)
    archive = plan(tmp_path, model)
    score_shard(archive, 1, detector)
    archive.result_file(1).write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"000001\.parquet: missing or damaged"):
        finish_archive(archive, detector)
    assert not (tmp_path / "out.parquet").exists()
    assert finish_archive(archive, detector)["images"] == 20


def test_unfinished_work_is_not_continued_with_another_model(tmp_path: Path, model: Path) -> None:
    write_images(tmp_path / "images", 2)
    plan(tmp_path, model)
    with pytest.raises(DataError, match="another model"):
        plan(tmp_path, write_model(tmp_path / "other.pth", seed=1))
    with pytest.raises(DataError, match="other settings"):
        plan(tmp_path, model, target_fpr=0.2)


def test_a_target_that_the_model_cannot_judge_gets_no_verdict(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    write_images(tmp_path / "images", 2)
    archive = plan(tmp_path, model, target_fpr=0.001)
    finish_archive(archive, detector)
    assert [row["verdict"] for row in rows(archive)] == [NO_VERDICT] * 2


def test_impossible_requests_are_refused_at_once(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DataError, match="no such folder or file"):
        plan(tmp_path, model)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="names no image"):
        plan(tmp_path, model)
    with pytest.raises(DataError, match=r"ending in \.parquet"):
        plan(tmp_path, model, out="out.csv")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        plan(tmp_path, tmp_path / "nothing.pth")
    (tmp_path / "out.csv").write_text("path\nx.png\n")
    with pytest.raises(DataError, match="would replace it"):
        plan(tmp_path, model, source="out.csv")


@pytest.mark.parametrize("name", ["one.png", "many.zip"])
def test_an_image_or_an_archive_is_not_read_as_a_list_of_paths(
    tmp_path: Path, model: Path, name: str
) -> None:
    picture = write(tmp_path / "one.png", chest(1))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        archive.write(picture, "NORMAL/one.png")
    with pytest.raises(DataError, match=f"{name}: no text; expected a folder of images"):
        plan(tmp_path, model, source=name)


def test_a_list_is_text_or_csv_and_its_paths_start_beside_it(tmp_path: Path) -> None:
    text, table, bare = (tmp_path / name for name in ("list.txt", "list.csv", "bare.csv"))
    text.write_text("a.png\n\n/b c.png\r\na.png\n", encoding="utf-8-sig")
    table.write_text('id,path\n1,a.png\n2,"b,c.png"\n')
    bare.write_text("a.png\n")
    assert list(list_images(text)) == [f"{tmp_path}/a.png", "/b c.png", f"{tmp_path}/a.png"]
    assert list(list_images(table)) == [f"{tmp_path}/a.png", f"{tmp_path}/b,c.png"]
    with pytest.raises(DataError, match=r"no column path or file \(found: a\.png\)"):
        list(list_images(bare))


def test_an_image_listed_twice_is_two_rows(
    tmp_path: Path, model: Path, detector: AnomalyDetector
) -> None:
    (path,) = write_images(tmp_path / "images", 1)
    (tmp_path / "list.txt").write_text(f"{path}\n{path}\nmissing.png\n")
    archive = plan(tmp_path, model, "list.txt")
    finish_archive(archive, detector)
    first, second, missing = rows(archive)
    for name, value in first.items():  # two rows of one batch may round differently
        expected = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        assert second[name] == expected
    assert missing["error"] == "missing.png: No such file or directory"
