"""Every image is decoded once, what changed is decoded again, and an interrupt harms nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medvae.config import DataConfig
from medvae.data import transform
from medvae.data.cache import ImageSet, cache_folder, import_images, imported_roots
from medvae.data.transform import read_model_input
from medvae.workspace import PROJECT, Workspace
from tests.data.drawn import chest, encoded, sick_chest, write

SIZE = 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six images: four normals, two of them in one folder each of the usual places."""
    root = tmp_path / "set"
    for i in range(4):
        write(root / f"NORMAL/a{i}.png", chest(i))
    for i in range(2):
        write(root / f"PNEUMONIA/b{i}.jpeg", sick_chest(10 + i))
    return root


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def open_set(root: Path, workspace: Workspace, size: int = SIZE) -> ImageSet:
    return import_images(DataConfig(), root, size, workspace, silent)


def pixels_by_path(images: ImageSet) -> dict[str, np.ndarray]:
    return {record.path: images.pixels[record.row] for record in images.catalog.records}


def spoil(file: Path) -> None:
    """Make a file undecodable without its size or time telling."""
    stat = file.stat()
    file.write_bytes(b"x" * stat.st_size)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def spoil_all(root: Path, *but: str) -> None:
    for file in root.rglob("*.*"):
        if file.relative_to(root).as_posix() not in but:
            spoil(file)


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_each_row_is_what_decoding_that_file_gives(root: Path, workspace: Workspace) -> None:
    images = open_set(root, workspace)
    assert images.pixels.shape[1:] == (SIZE, SIZE)
    assert images.pixels.dtype == np.uint8
    for path, pixels in pixels_by_path(images).items():
        assert np.array_equal(pixels, read_model_input((root / path).read_bytes(), path, SIZE))


def test_pixels_are_mapped_from_the_file_and_cannot_be_written(
    root: Path, workspace: Workspace
) -> None:
    images = open_set(root, workspace)
    assert isinstance(images.pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0] = 0


def test_the_second_time_nothing_is_decoded(root: Path, workspace: Workspace) -> None:
    first = open_set(root, workspace)
    before = np.array(first.pixels)
    spoil_all(root)
    second = open_set(root, workspace)
    assert np.array_equal(second.pixels, before)
    assert second.catalog == first.catalog


def test_only_a_changed_file_is_decoded_again(root: Path, workspace: Workspace) -> None:
    before = {p: np.array(x) for p, x in pixels_by_path(open_set(root, workspace)).items()}
    write(root / "NORMAL/a1.png", chest(99, size=80))
    spoil_all(root, "NORMAL/a1.png")
    images = open_set(root, workspace)
    assert images.catalog.unreadable == {}
    for path, pixels in pixels_by_path(images).items():
        expected = before[path]
        if path == "NORMAL/a1.png":
            assert not np.array_equal(pixels, expected)
            expected = read_model_input((root / path).read_bytes(), path, SIZE)
        assert np.array_equal(pixels, expected)


def test_a_renamed_file_keeps_its_picture_under_the_new_name(
    root: Path, workspace: Workspace
) -> None:
    open_set(root, workspace)
    (root / "NORMAL/a0.png").rename(root / "NORMAL/z9.png")  # now the last in order
    by_path = pixels_by_path(open_set(root, workspace))
    assert "NORMAL/a0.png" not in by_path
    assert np.array_equal(by_path["NORMAL/z9.png"], transform.to_model_input(chest(0), SIZE))
    assert np.array_equal(by_path["NORMAL/a1.png"], transform.to_model_input(chest(1), SIZE))


def test_a_deleted_file_is_gone_and_the_others_stay_right(root: Path, workspace: Workspace) -> None:
    open_set(root, workspace)
    (root / "NORMAL/a1.png").unlink()
    by_path = pixels_by_path(open_set(root, workspace))
    assert len(by_path) == 5
    assert np.array_equal(by_path["NORMAL/a2.png"], transform.to_model_input(chest(2), SIZE))


def test_a_new_file_is_added_without_reading_the_others(root: Path, workspace: Workspace) -> None:
    open_set(root, workspace)
    spoil_all(root)
    write(root / "NORMAL/a0b.png", chest(50))
    by_path = pixels_by_path(open_set(root, workspace))
    assert len(by_path) == 7
    assert np.array_equal(by_path["NORMAL/a0b.png"], transform.to_model_input(chest(50), SIZE))
    assert np.array_equal(by_path["NORMAL/a3.png"], transform.to_model_input(chest(3), SIZE))


def test_a_new_version_of_the_transform_decodes_all_again(
    root: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_set(root, workspace)
    spoil(root / "NORMAL/a0.png")
    assert open_set(root, workspace).catalog.unreadable == {}
    monkeypatch.setattr(transform, "VERSION", transform.VERSION + 1)
    assert list(open_set(root, workspace).catalog.unreadable) == ["NORMAL/a0.png"]


def test_sizes_and_label_names_have_caches_of_their_own(root: Path, workspace: Workspace) -> None:
    small, large = open_set(root, workspace), open_set(root, workspace, 64)
    assert small.pixels.shape[1:] == (32, 32)
    assert large.pixels.shape[1:] == (64, 64)
    swapped = DataConfig(normal="PNEUMONIA", sick="NORMAL")
    folders = {
        cache_folder(root, config, size, workspace)
        for config in (DataConfig(), swapped)
        for size in (32, 64)
    }
    assert len(folders) == 4
    assert len(import_images(swapped, root, SIZE, workspace, silent).catalog.of("normal")) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_the_earlier_cache_as_it_was(
    root: Path, workspace: Workspace, error: type[BaseException]
) -> None:
    open_set(root, workspace)
    folder = cache_folder(root, DataConfig(), SIZE, workspace)
    before = files_in(folder)
    for i in range(4):
        write(root / f"NORMAL/a{i}.png", chest(60 + i))

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise error

    with pytest.raises(error):
        import_images(DataConfig(), root, SIZE, workspace, interrupt)
    assert files_in(folder) == before
    by_path = pixels_by_path(open_set(root, workspace))
    assert np.array_equal(by_path["NORMAL/a3.png"], transform.to_model_input(chest(63), SIZE))


def test_an_interrupted_first_import_leaves_nothing_and_can_be_repeated(
    root: Path, workspace: Workspace
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_images(DataConfig(), root, SIZE, workspace, interrupt)
    assert [file for file in workspace.processed.rglob("*") if file.is_file()] == []
    assert len(open_set(root, workspace).catalog.records) == 6


def test_unreadable_files_are_listed_with_their_reason_and_do_not_stop_the_others(
    root: Path, workspace: Workspace
) -> None:
    whole = (root / "PNEUMONIA/b0.jpeg").read_bytes()
    write(root / "PNEUMONIA/b0.jpeg", whole[: len(whole) // 2])
    write(root / "NORMAL/a1.png", encoded(np.zeros((1, 1), np.uint8)))
    write(root / "NORMAL/a2.png", np.full((64, 64), 9, np.uint8))
    for _ in range(2):  # freshly decoded, then from the cache
        images = open_set(root, workspace)
        assert set(pixels_by_path(images)) == {
            "NORMAL/a0.png",
            "NORMAL/a3.png",
            "PNEUMONIA/b1.jpeg",
        }
        reasons = images.catalog.unreadable
        assert "damaged" in reasons["PNEUMONIA/b0.jpeg"]
        assert "1×1" in reasons["NORMAL/a1.png"]
        assert "same value" in reasons["NORMAL/a2.png"]
        assert all(reason.startswith(f"{path}: ") for path, reason in reasons.items())
        rows = [record.row for record in images.catalog.records]
        assert rows == [0, 1, 2]


def test_a_link_is_read_once_it_leads_somewhere(root: Path, workspace: Workspace) -> None:
    target = root / "elsewhere.png"
    (root / "NORMAL/link1.png").symlink_to(target)
    assert list(open_set(root, workspace).catalog.unreadable) == ["NORMAL/link1.png"]
    write(target, chest(77))
    images = open_set(root, workspace)
    assert images.catalog.unreadable == {}
    assert "NORMAL/link1.png" in pixels_by_path(images)


def test_a_file_that_could_not_be_opened_is_tried_again(root: Path, workspace: Workspace) -> None:
    before = pixels_by_path(open_set(root, workspace))
    file = cache_folder(root, DataConfig(), SIZE, workspace) / "index.json"
    index = json.loads(file.read_text())
    index["files"]["PNEUMONIA/b1.jpeg"][2] = ""  # as after a disk that did not answer
    index["unreadable"]["PNEUMONIA/b1.jpeg"] = "input/output error"
    file.write_text(json.dumps(index))
    images = open_set(root, workspace)
    assert images.catalog.unreadable == {}
    for path, pixels in pixels_by_path(images).items():
        assert np.array_equal(pixels, before[path])


def test_a_file_beyond_a_limit_is_read_once_the_limit_is_lifted(
    root: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "NORMAL/large0.png", chest(50, size=128))
    write(tmp_path / "strict/limits.yaml", b"pixels: 10000\n")
    with monkeypatch.context() as strict:
        strict.setenv("MEDVAE_HOME", str(tmp_path / "strict"))
        refused = open_set(root, workspace).catalog
    assert "limit pixels" in refused.unreadable["NORMAL/large0.png"]
    images = open_set(root, workspace)
    assert images.catalog.unreadable == {}
    expected = transform.to_model_input(chest(50, size=128), SIZE)
    assert np.array_equal(pixels_by_path(images)["NORMAL/large0.png"], expected)


def test_a_file_that_stays_unreadable_does_not_make_the_cache_anew(
    root: Path, workspace: Workspace
) -> None:
    write(root / "NORMAL/a1.png", b"no image")
    (root / "NORMAL/link1.png").symlink_to(root / "gone.png")
    first = open_set(root, workspace).catalog
    folder = cache_folder(root, DataConfig(), SIZE, workspace)
    made = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert open_set(root, workspace).catalog == first
    assert made == {file: file.stat().st_mtime_ns for file in folder.iterdir()}


@pytest.mark.parametrize(
    "damage", ["no index", "bad index", "foreign index", "no pixels", "half the pixels"]
)
def test_a_damaged_cache_is_made_anew(root: Path, workspace: Workspace, damage: str) -> None:
    open_set(root, workspace)
    folder = cache_folder(root, DataConfig(), SIZE, workspace)
    [array], index = list(folder.glob("*.npy")), folder / "index.json"
    if damage == "no index":
        index.unlink()
    elif damage == "bad index":
        index.write_bytes(index.read_bytes()[:-20])
    elif damage == "foreign index":
        index.write_text('{"something": "else"}')
    elif damage == "no pixels":
        array.unlink()
    else:
        array.write_bytes(array.read_bytes()[: array.stat().st_size // 2])
    by_path = pixels_by_path(open_set(root, workspace))
    assert np.array_equal(by_path["NORMAL/a3.png"], transform.to_model_input(chest(3), SIZE))
    assert len(by_path) == 6


def test_progress_counts_every_file_once_and_ends_at_the_total(
    root: Path, workspace: Workspace
) -> None:
    def counts() -> list[int]:
        calls: list[tuple[int, int]] = []
        import_images(DataConfig(), root, SIZE, workspace, lambda *call: calls.append(call))
        assert {total for _, total in calls} == {6}
        return sorted({done for done, _ in calls})

    assert counts() == [1, 2, 3, 4, 5, 6]
    assert counts() == [6]  # from the cache


def test_no_file_is_left_over_after_changes(root: Path, workspace: Workspace) -> None:
    open_set(root, workspace)
    write(root / "NORMAL/a0.png", chest(70))
    open_set(root, workspace)
    folder = cache_folder(root, DataConfig(), SIZE, workspace)
    assert len(list(folder.glob("*.npy"))) == 1
    assert len(list(folder.iterdir())) == 2


def test_data_sets_imported_before_are_known_while_they_are_there(
    root: Path, workspace: Workspace, tmp_path: Path
) -> None:
    assert imported_roots(workspace) == []
    open_set(root, workspace)
    (workspace.processed / "broken").mkdir()
    (workspace.processed / "broken/index.json").write_text("{")
    assert imported_roots(workspace) == [root.resolve()]
    root.rename(tmp_path / "moved")
    assert imported_roots(workspace) == []


IMPORT_MANY = """
import resource, sys
from pathlib import Path
import torch  # what the program has loaded when it imports
from medvae.config import DataConfig
from medvae.data.cache import import_images
from medvae.workspace import Workspace

def peak():
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)

before = peak()
images = import_images(
    DataConfig(), Path(sys.argv[1]), 128, Workspace.current(), lambda done, total: None
)
print(len(images.catalog.records), before, peak())
"""


def test_importing_5000_images_takes_less_than_1_5_gigabytes(tmp_path: Path) -> None:
    # Bytes after the end of an image tell the files apart and cost nothing to decode.
    ordinary = encoded(chest(1), "JPEG")
    film = np.zeros((2560, 2560), np.uint8)
    film[:64, :64] = chest(1)
    huge = encoded(film, "PNG")  # all of them in memory at once would be 0.8 GB
    for i in range(5000):
        content = huge if i % 40 == 0 else ordinary
        write(tmp_path / f"set/NORMAL/a{i}.jpeg", content + f"{i:05d}".encode())
    program = [sys.executable, "-c", IMPORT_MANY, str(tmp_path / "set")]
    ran = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    count, before, peak = map(int, ran.stdout.split())
    assert count == 5000
    assert peak < 1.5e9
    assert peak - before < 0.5e9
