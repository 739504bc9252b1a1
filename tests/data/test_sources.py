"""A folder, an archive or nothing at all becomes one folder of images, whole or not at all."""

import io
import zipfile
from pathlib import Path

import pytest

from medvae.config import DataConfig
from medvae.data.catalog import find_images
from medvae.data.sources import resolve_root, unpack_zip
from medvae.errors import DataError
from medvae.workspace import Workspace
from tests.data.drawn import chest, encoded, write


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def pack(file: Path, *names: str, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A ZIP of small images under the given names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", compression) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, encoded(chest(number), "BMP"))
    return file


def files_below(folder: Path) -> set[str]:
    return {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}


PUBLIC = ("chest_xray/train/NORMAL/a1.bmp", "chest_xray/train/PNEUMONIA/b1.bmp")


def test_an_archive_is_unpacked_and_read_as_a_data_set(
    tmp_path: Path, workspace: Workspace
) -> None:
    archive = pack(tmp_path / "lungs.zip", *PUBLIC, "__MACOSX/chest_xray/train/NORMAL/._a1.bmp")
    calls: list[tuple[int, int]] = []
    folder = unpack_zip(archive, workspace, lambda *call: calls.append(call))
    assert folder == workspace.raw / "lungs"
    assert files_below(folder) == set(PUBLIC)
    assert calls == [(1, 2), (2, 2)]
    root = resolve_root(DataConfig(root=str(folder)), workspace, silent)
    assert [image.label for image in find_images(DataConfig(), root)] == ["normal", "sick"]


def test_an_archive_unpacked_before_is_not_unpacked_again(
    tmp_path: Path, workspace: Workspace
) -> None:
    archive = pack(tmp_path / "lungs.zip", *PUBLIC)
    folder = unpack_zip(archive, workspace, silent)
    (folder / PUBLIC[0]).unlink()
    assert unpack_zip(archive, workspace, silent) == folder
    assert files_below(folder) == {PUBLIC[1]}


@pytest.mark.parametrize(
    "name", ["../../escaped.bmp", "/tmp/escaped.bmp", "a/../../../escaped.bmp"]
)
def test_names_that_lead_out_of_the_folder_stay_in_it(
    tmp_path: Path, workspace: Workspace, name: str
) -> None:
    archive = pack(tmp_path / "in" / "evil.zip", "NORMAL/a1.bmp", name)
    folder = unpack_zip(archive, workspace, silent)
    inside = {file for file in tmp_path.rglob("*escaped.bmp") if file.is_file()}
    assert len(inside) == 1
    assert inside.pop().is_relative_to(folder)
    assert not Path("/tmp/escaped.bmp").exists()


def damaged_inside() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("NORMAL/a1.bmp", encoded(chest(1), "BMP"))
    data = bytearray(buffer.getvalue())
    data[60:400] = bytes(340)
    return bytes(data)


def encrypted() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("NORMAL/a1.bmp", b"secret")
    data = bytearray(buffer.getvalue())
    data[6] |= 1  # the flag that says so, in the entry and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def empty() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a zip", "not a ZIP"),
        (b"", "not a ZIP"),
        (damaged_inside(), "not a ZIP that can be unpacked"),
        (damaged_inside()[:3000], "not a ZIP"),
        (encrypted(), "not a ZIP that can be unpacked"),
        (empty(), "empty ZIP"),
    ],
)
def test_a_bad_archive_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, workspace: Workspace, content: bytes, reason: str
) -> None:
    archive = write(tmp_path / "bad.zip", content)
    with pytest.raises(DataError, match=reason) as caught:
        unpack_zip(archive, workspace, silent)
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_below(tmp_path) == {"bad.zip"}
    assert not (workspace.raw / "bad").exists()


def test_a_missing_archive_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(DataError, match="no such file"):
        unpack_zip(tmp_path / "nothing.zip", workspace, silent)


def test_an_interrupted_unpacking_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, workspace: Workspace
) -> None:
    archive = pack(tmp_path / "lungs.zip", *PUBLIC)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack_zip(archive, workspace, interrupt)
    assert files_below(tmp_path) == {"lungs.zip"}
    assert files_below(unpack_zip(archive, workspace, silent)) == set(PUBLIC)


def test_a_missing_folder_and_a_file_are_refused_with_what_to_do(
    tmp_path: Path, workspace: Workspace
) -> None:
    with pytest.raises(DataError, match="no such folder"):
        resolve_root(DataConfig(root=str(tmp_path / "nothing")), workspace, silent)
    archive = pack(tmp_path / "lungs.zip", *PUBLIC)
    with pytest.raises(DataError, match=r"data import .*lungs\.zip"):
        resolve_root(DataConfig(root=str(archive)), workspace, silent)


def test_the_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "my data/NORMAL/a1.png", chest(1))
    root = resolve_root(DataConfig(root="~/my data"), workspace, silent)
    assert root == (tmp_path / "my data").resolve()


def test_without_a_folder_phantoms_are_drawn_once(workspace: Workspace) -> None:
    calls: list[tuple[int, int]] = []
    config = DataConfig(phantoms=40)
    root = resolve_root(config, workspace, lambda *call: calls.append(call))
    assert root.is_relative_to(workspace.raw)
    assert len(find_images(config, root)) == 40
    assert calls[-1] == (40, 40)
    drawn = {file: file.stat().st_mtime_ns for file in root.rglob("*.png")}
    assert resolve_root(config, workspace, silent) == root
    assert drawn == {file: file.stat().st_mtime_ns for file in root.rglob("*.png")}
