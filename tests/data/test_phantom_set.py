"""The data set of phantoms: its layout, and that it appears whole or not at all."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvae.data import phantom_set
from medvae.data.phantom import LESIONS, Phantom, draw_phantom
from medvae.data.phantom_set import write_phantoms
from medvae.errors import DataError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_layout_counts_and_names(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "new" / "set", count=40, size=32)
    images = sorted(folder.glob("*/*/*.png"))
    assert Counter(str(path.parent.relative_to(folder)) for path in images) == {
        "train/NORMAL": 28,
        "test/NORMAL": 6,
        "test/PNEUMONIA": 6,
    }
    assert len({path.stem.split("_")[0] for path in images}) == 40
    sick = sorted(path.name for path in folder.glob("test/PNEUMONIA/*.png"))
    assert [re.fullmatch(r"phantom\d{5}_(\w+)\.png", name)[1] for name in sick] == [
        *LESIONS,
        *LESIONS[:2],
    ]
    assert sorted(path.name for path in folder.glob("masks/*")) == sick
    assert json.loads((folder / "phantoms.json").read_text())["count"] == 40


def test_files_hold_distinct_images_and_their_masks(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "set", count=20, size=32)
    images = [Image.open(path) for path in folder.glob("*/*/*.png")]
    assert {(image.mode, image.size) for image in images} == {("L", (32, 32))}
    assert len({image.tobytes() for image in images}) == 20
    for path in folder.glob("masks/*.png"):
        assert set(np.unique(np.asarray(Image.open(path)))) == {0, 255}


def test_bytes_depend_on_the_seed_and_not_on_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {}
    for name, seed, workers in (("a", 1, 1), ("b", 1, 4), ("c", 2, 4)):
        monkeypatch.setattr(os, "cpu_count", lambda workers=workers: workers)
        sets[name] = contents(write_phantoms(tmp_path / name, count=12, seed=seed, size=32))
    assert sets["a"] == sets["b"]
    assert sets["a"].keys() == sets["c"].keys()
    assert not any(sets["a"][name] == sets["c"][name] for name in sets["a"] if "NORMAL" in name)


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_phantoms(tmp_path / "set", 10, size=32, on_progress=lambda *pair: seen.append(pair))
    assert seen == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_stops_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    drawn: list[int] = []

    def counted(seed: int, lesion: str | None, size: int) -> Phantom:
        drawn.append(seed)
        return draw_phantom(seed, lesion, size)

    def stop(done: int, total: int) -> None:
        assert not (tmp_path / "set").exists()
        if done == 5:
            raise interruption

    monkeypatch.setattr(phantom_set, "draw_phantom", counted)
    with pytest.raises(interruption):
        write_phantoms(tmp_path / "set", 200, size=32, on_progress=stop)
    assert len(drawn) < 150
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_cannot_be_put_in_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_phantoms(tmp_path / "set", 10, size=32)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_image_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int, lesion: str | None, size: int) -> Phantom:
        raise OSError("disk full")

    monkeypatch.setattr(phantom_set, "draw_phantom", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantoms(tmp_path / "set", 10, size=32)
    assert list(tmp_path.iterdir()) == []


def test_a_complete_set_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_phantoms(tmp_path / "set", 10, size=32)
    before = contents(folder)
    monkeypatch.setattr(phantom_set, "_write_all", None)  # to draw again would fail
    assert write_phantoms(folder, 10, size=32) == folder
    assert contents(folder) == before


def test_another_set_is_refused_and_kept(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "set", 10, seed=4, size=32)
    before = contents(folder)
    for changed in ({"count": 12}, {"seed": 5}, {"size": 64}):
        with pytest.raises(DataError, match=r"'seed': 4.*expected.*delete this one"):
            write_phantoms(folder, **{"count": 10, "seed": 4, "size": 32, **changed})
    assert contents(folder) == before


@pytest.mark.parametrize("damage", ["phantoms.json", "test/NORMAL/phantom00007.png"])
def test_a_set_with_a_missing_file_is_refused(tmp_path: Path, damage: str) -> None:
    folder = write_phantoms(tmp_path / "set", 10, size=32)
    (folder / damage).unlink()
    with pytest.raises(DataError, match="delete this one"):
        write_phantoms(folder, 10, size=32)


def test_a_set_with_an_unreadable_note_is_refused(tmp_path: Path) -> None:
    folder = write_phantoms(tmp_path / "set", 10, size=32)
    (folder / "phantoms.json").write_text("{")
    with pytest.raises(DataError, match="unknown parameters"):
        write_phantoms(folder, 10, size=32)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("something of the user's")
    with pytest.raises(DataError, match="unknown parameters"):
        write_phantoms(tmp_path / "set", 10, size=32)


def test_the_slower_of_two_runs_keeps_what_the_faster_wrote(tmp_path: Path) -> None:
    def overtake(done: int, total: int) -> None:
        if done == total:
            write_phantoms(tmp_path / "set", total, size=32)

    folder = write_phantoms(tmp_path / "set", 10, size=32, on_progress=overtake)
    assert len(list(folder.glob("*/*/*.png"))) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 or more"):
        write_phantoms(tmp_path / "set", 5)
    assert list(tmp_path.iterdir()) == []
