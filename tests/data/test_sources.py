"""Folders and archives read alike; what leads out of an archive, or beyond a limit, is refused."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from medvae.config import DataConfig
from medvae.data.cache import import_images
from medvae.data.catalog import find_images
from medvae.data.sources import resolve_root, unpack_tar
from medvae.data.stores import open_store
from medvae.errors import DataError
from medvae.limits import Limits
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


LAID_OUT = [f"sets/chest_xray/NORMAL/a{i}.bmp" for i in range(12)] + [
    f"sets/chest_xray/PNEUMONIA/b{i}.bmp" for i in range(3)
]


def tar(file: Path, *names: str, mode: str = "w") -> Path:
    """A TAR of small images under the given names."""
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for number, name in enumerate(names):
            content = encoded(chest(number), "BMP")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_read_in_place_as_a_folder_would_be(
    tmp_path: Path, workspace: Workspace, kind: str
) -> None:
    names = [*LAID_OUT, "__MACOSX/sets/._a1.bmp", "sets/.DS_Store"]
    file = tmp_path / f"lungs.{kind}"
    archive = pack(file, *names) if kind == "zip" else tar(file, *names)
    root = resolve_root(DataConfig(root=str(archive)), workspace, silent)
    found = find_images(DataConfig(), root)
    assert [i.path for i in found] == sorted(n.removeprefix("sets/chest_xray/") for n in LAID_OUT)
    images = import_images(DataConfig(), root, 32, workspace, silent)
    for record in images.catalog.records:
        number = LAID_OUT.index(f"sets/chest_xray/{record.path}")
        alone = import_images_of(tmp_path / f"alone{number}", number, workspace)
        assert (images.pixels[record.row] == alone).all()
    assert files_below(tmp_path) >= {file.name}
    assert not list(workspace.raw.glob("*"))


def import_images_of(root: Path, number: int, workspace: Workspace) -> object:
    """The pixels of one drawn image, imported from a folder."""
    write(root / "NORMAL/a1.bmp", encoded(chest(number), "BMP"))
    return import_images(DataConfig(), root, 32, workspace, silent).pixels[0]


def test_a_folder_of_an_archive_that_is_meant_is_no_wrapper(tmp_path: Path) -> None:
    archive = pack(tmp_path / "lungs.zip", "x/NORMAL/a1.bmp")
    assert [image.path for image in find_images(DataConfig(), archive)] == ["NORMAL/a1.bmp"]


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar.xz", "tar.bz2"])
def test_a_compressed_tar_is_streamed_into_a_folder(
    tmp_path: Path, workspace: Workspace, suffix: str
) -> None:
    method = {"tgz": "gz"}.get(suffix, suffix.rpartition(".")[2])
    archive = tar(tmp_path / f"lungs.{suffix}", *LAID_OUT, "sets/x.exe", mode=f"w:{method}")
    folder = unpack_tar(archive, workspace, silent)
    assert files_below(folder) == set(LAID_OUT)
    assert unpack_tar(archive, workspace, silent) == folder
    with pytest.raises(DataError, match="data import"):
        resolve_root(DataConfig(root=str(archive)), workspace, silent)


def test_another_compressed_tar_of_the_same_name_gets_its_own_folder(
    tmp_path: Path, workspace: Workspace
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    first = tar(tmp_path / "first/lungs.tar.gz", *LAID_OUT[:3], mode="w:gz")
    second = tar(tmp_path / "second/lungs.tar.gz", *LAID_OUT[3:], mode="w:gz")
    folders = [unpack_tar(archive, workspace, silent) for archive in (first, second)]
    assert files_below(folders[0]) == set(LAID_OUT[:3])
    assert files_below(folders[1]) == set(LAID_OUT[3:])
    assert all(folder.name.startswith("lungs-") for folder in folders)
    tar(first, *LAID_OUT[5:7], mode="w:gz")  # made anew under its own name
    assert files_below(unpack_tar(first, workspace, silent)) == set(LAID_OUT[5:7])


def test_a_compressed_tar_that_is_not_there_is_refused(
    tmp_path: Path, workspace: Workspace
) -> None:
    archive = tar(tmp_path / "lungs.tar.gz", *LAID_OUT, mode="w:gz")
    unpack_tar(archive, workspace, silent)
    archive.unlink()
    with pytest.raises(DataError, match=r"lungs\.tar\.gz: no such file"):
        unpack_tar(archive, workspace, silent)


def test_a_broken_tar_leaves_nothing(tmp_path: Path, workspace: Workspace) -> None:
    archive = tar(tmp_path / "lungs.tar.gz", *LAID_OUT, mode="w:gz")
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"lungs\.tar\.gz"):
        unpack_tar(archive, workspace, silent)
    assert not list(workspace.raw.glob("*"))


def refusal(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_store(file)
    message = str(caught.value)
    assert file.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name", ["../a.bmp", "/tmp/a.bmp", "a/../../b.bmp", "C:\\a.bmp", "a\\..\\b.bmp", "\\a.bmp"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    make = pack if kind == "zip" else tar
    assert "leads out" in refusal(make(tmp_path / f"evil.{kind}", "NORMAL/a1.bmp", name))


def test_links_are_refused(tmp_path: Path) -> None:
    linked = zipfile.ZipInfo("NORMAL/a.bmp")
    linked.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(linked, "/etc/passwd")
    assert "is a link" in refusal(tmp_path / "link.zip")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        member = tarfile.TarInfo("NORMAL/a.bmp")
        member.type, member.linkname = kind, "/etc/passwd"
        with tarfile.open(tmp_path / "link.tar", "w") as opened:
            opened.addfile(member)
        assert "is a link" in refusal(tmp_path / "link.tar")


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("archive_entries", 3, "more than 3 files"),
        ("archive_mb", 1, "more than 1 MB"),
        ("archive_depth", 2, "deeper than 2"),
    ],
)
def test_every_limit_of_an_archive_is_named(
    tmp_path: Path, workspace: Workspace, limit: str, value: int, said: str
) -> None:
    (workspace.home / "limits.yaml").write_text(f"{limit}: {value}\n")
    archive = tmp_path / "large.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(5):
            opened.writestr(f"a/b/{number}.bmp", bytes(400_000))
    message = refusal(archive)
    assert said in message
    assert f"limit {limit}" in message


def test_a_bomb_is_refused_by_what_it_says_of_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("NORMAL/a1.bmp", bytes(30_000_000))
    assert "limit archive_ratio" in refusal(tmp_path / "bomb.zip")


def test_a_file_larger_than_an_image_may_be_is_refused_when_read(
    tmp_path: Path, workspace: Workspace
) -> None:
    (workspace.home / "limits.yaml").write_text("file_mb: 1\n")
    archive = tmp_path / "large.tar"
    with tarfile.open(archive, "w") as opened:
        member = tarfile.TarInfo("NORMAL/a1.bmp")
        member.size = 2_000_000
        opened.addfile(member, io.BytesIO(bytes(member.size)))
    store = open_store(archive)
    [name] = [file.path for file in store.files()]
    with pytest.raises(DataError, match="limit file_mb"):
        store.read(name)
    assert Limits.current().file_mb == 1


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
        (b"not a zip", "not an archive"),
        (b"", "not an archive"),
        (damaged_inside()[:3000], "not an archive"),
        (encrypted(), "encrypted"),
        (empty(), "no folder NORMAL"),
    ],
)
def test_a_bad_archive_is_refused_by_name(
    tmp_path: Path, workspace: Workspace, content: bytes, reason: str
) -> None:
    archive = write(tmp_path / "bad.zip", content)
    with pytest.raises(DataError, match=reason) as caught:
        find_images(DataConfig(), archive)
    assert "bad.zip" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_entry_is_one_unreadable_image(tmp_path: Path, workspace: Workspace) -> None:
    store = open_store(write(tmp_path / "bad.zip", damaged_inside()))
    [name] = [file.path for file in store.files()]
    with pytest.raises(DataError, match=r"damaged in bad\.zip"):
        store.read(name)


def test_a_missing_folder_and_a_file_are_refused_with_what_to_do(
    tmp_path: Path, workspace: Workspace
) -> None:
    with pytest.raises(DataError, match="no such folder"):
        resolve_root(DataConfig(root=str(tmp_path / "nothing")), workspace, silent)
    with pytest.raises(DataError, match="expected a folder, a ZIP"):
        resolve_root(DataConfig(root=str(write(tmp_path / "a.exe", b"x"))), workspace, silent)


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
