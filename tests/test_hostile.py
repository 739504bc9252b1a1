"""What each kind of hostile upload gets: an image, or one clear line. The table is the document."""

import gzip
import io
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medvae.data.sandbox import Sandbox
from medvae.errors import DataError
from medvae.limits import Limits
from tests.data.dicoms import dicom
from tests.data.drawn import chest, encoded
from ui.uploads import uploaded_images

LIMITS = Limits(decode_seconds=8.0)  # on a busy machine, too
GOOD = encoded(chest(1), "PNG")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    made = Sandbox(LIMITS, workers=1)
    yield made
    made.close()


def png(width: int, height: int, rows: bytes = b"", bits: int = 8, colour: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def png_bomb() -> bytes:
    """39 megapixels of zeros, just within the limit, in 39 KB."""
    return png(6250, 6250, bytes(6251 * 6250))


def png_text_bomb() -> bytes:
    """A comment that unpacks to 300 MB."""
    body = b"zTXtComment\0\0" + zlib.compress(bytes(300_000_000), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return GOOD[:33] + chunk + GOOD[33:]


def tiff_bomb() -> bytes:
    """30 megapixels in 16 bits, deflated to 60 KB."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.zeros((5500, 5500), np.uint16))
    image.save(buffer, "TIFF", compression="tiff_adobe_deflate")
    return buffer.getvalue()


def tiff_huge_strip() -> bytes:
    """One strip that claims four gigabytes."""
    data = bytearray(encoded(chest(1), "TIFF"))
    entry = data.index(struct.pack("<HHI", 279, 4, 1))
    data[entry + 8 : entry + 12] = struct.pack("<I", 0xFFFFFFF0)
    return bytes(data)


def tiff_looping() -> bytes:
    """A directory that names itself as the next."""
    data = bytearray(encoded(chest(1), "TIFF"))
    [first] = struct.unpack_from("<I", data, 4)
    [entries] = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    return bytes(data)


def nan_tiff() -> bytes:
    values = chest(1).astype(np.float32)
    values[3, 3] = np.nan
    return encoded(values, "TIFF")


def infinite_tiff() -> bytes:
    return encoded(np.full((64, 64), np.inf, np.float32), "TIFF")


def pages() -> bytes:
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(chest(i)) for i in range(3))
    first.save(buffer, "TIFF", save_all=True, append_images=rest)
    return buffer.getvalue()


def animation(kind: str) -> bytes:
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(chest(i)) for i in range(3))
    first.save(buffer, kind, save_all=True, append_images=rest, lossless=True)
    return buffer.getvalue()


def deep_colour() -> bytes:
    rows = b"".join(b"\0" + struct.pack(">192H", *range(192)) for _ in range(64))
    return png(64, 64, rows, bits=16, colour=2)


def polyglot() -> bytes:
    """A PNG that is also a ZIP with a web page in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.html", "<script>alert(1)</script>")
    return GOOD + buffer.getvalue()


def dicom_polyglot() -> bytes:
    """A DICOM file whose preamble is a program for Windows."""
    data = bytearray(dicom(chest(1)))
    data[:2] = b"MZ"
    return bytes(data)


def deflated_dicom_bomb() -> bytes:
    data = dicom(np.zeros((6000, 6000), np.uint16), DeflatedExplicitVRLittleEndian)
    assert len(data) < 200_000
    return data


def endless_dicom() -> bytes:
    """A sequence in a sequence in a sequence."""
    head = dicom(chest(1))[:400]
    nested = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return head + (nested + item) * 20_000


SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><rect width="9" height="9"/></svg>'
)
HTML = b"<!doctype html><script>alert(document.cookie)</script>"
PHP = b"<?php system($_GET['c']); ?>"
NOT_AN_IMAGE = "not an image that can be read here"

TABLE: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "bomb.png": (png_bomb, "same value"),
    "text bomb.png": (png_text_bomb, "damaged or incomplete"),
    "huge.png": (lambda: png(60_000, 60_000), "limit pixels"),
    "thin.png": (lambda: png(4_000_000, 1), "at least 16×16"),
    "bomb.tif": (tiff_bomb, "same value"),
    "strip.tif": (tiff_huge_strip, None),
    "loop.tif": (tiff_looping, None),
    "nan.tif": (nan_tiff, "not numbers"),
    "infinite.tif": (infinite_tiff, "not numbers"),
    "pages.tif": (pages, "3 pages"),
    "moving.webp": (lambda: animation("WEBP"), "an animation"),
    "moving.png": (lambda: animation("PNG"), "an animation"),
    "deep colour.png": (deep_colour, "16 bits with colour"),
    "polyglot.png": (polyglot, None),
    "program.dcm": (dicom_polyglot, None),
    "bomb.dcm": (deflated_dicom_bomb, "same value"),
    "endless.dcm": (endless_dicom, "DICOM"),
    "../../etc/passwd.png": (lambda: GOOD, None),
    "shell.php.jpg": (lambda: PHP, NOT_AN_IMAGE),
    "drawing.svg": (lambda: SVG, NOT_AN_IMAGE),
    "page.html.png": (lambda: HTML, NOT_AN_IMAGE),
    "empty.png": (lambda: b"", NOT_AN_IMAGE),
    "packed.gz": (lambda: gzip.compress(GOOD), NOT_AN_IMAGE),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_hostile_file_is_an_image_or_one_line(name: str, box: Sandbox) -> None:
    make, reason = TABLE[name]
    data = make()
    began = time.monotonic()
    if reason is None:
        assert box.see(data, name, 32, 100).pixels.shape == (32, 32)
    else:
        with pytest.raises(DataError) as caught:
            box.see(data, name, 32, 100)
        message = str(caught.value)
        assert message.startswith(f"{name}: ")
        assert reason in message
        assert "\n" not in message
    assert time.monotonic() - began < LIMITS.decode_seconds + 5


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return buffer.getvalue()


def symlink() -> bytes:
    link = zipfile.ZipInfo("scan.png")
    link.external_attr = 0o120777 << 16
    return zipped((link, b"/etc/passwd"))


def lying_zip() -> bytes:
    """An entry that says it is small and is not."""
    data = bytearray(zipped(("scan.png", bytes(5_000_000))))
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 1000)
    return bytes(data)


def sparse_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("scan.png")
        member.type = tarfile.GNUTYPE_SPARSE
        archive.addfile(member)
    return buffer.getvalue()


def endless_list() -> bytes:
    """Half a million files of no bytes: only the list of them is large."""
    count, name = 500_000, b"a.png"
    entry = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, len(name),
        0, 0, 0, 0, 0, 0,
    ) + name  # fmt: skip
    size = count * len(entry)
    return entry * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, size, 0, 0)


def endless_name(kind: bytes) -> bytes:
    """A TAR whose first file has a name of a hundred megabytes."""
    member = tarfile.TarInfo("scan.png")
    member.type, member.size = kind, 100_000_000
    return member.tobuf(tarfile.USTAR_FORMAT) + bytes(2048)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.zip": (lambda: zipped(("scan.png", bytes(50_000_000))), "limit archive_ratio"),
    "quine.zip": (lambda: zipped(("inner.zip", zipped(("scan.png", GOOD)))), "nothing"),
    "outside.zip": (lambda: zipped(("../../scan.png", GOOD)), "leads out"),
    "absolute.zip": (lambda: zipped(("/etc/scan.png", GOOD)), "leads out"),
    "link.zip": (symlink, "is a link"),
    "lying.zip": (lying_zip, "damaged in lying.zip"),
    "many.zip": (lambda: zipped(*[(f"{i}.png", b"x") for i in range(300)]), "limit upload_files"),
    "deep.zip": (lambda: zipped(("a/" * 40 + "scan.png", GOOD)), "limit archive_depth"),
    "newline.zip": (lambda: zipped(("scan\n.png", GOOD)), "leads out"),
    "list.zip": (endless_list, "limit archive_entries"),
    "name.tar": (lambda: endless_name(tarfile.GNUTYPE_LONGNAME), "a name of 100,000,000 bytes"),
    "facts.tar": (lambda: endless_name(tarfile.XHDTYPE), "a name of 100,000,000 bytes"),
    "sparse.tar": (sparse_tar, "is a link"),
    "empty.zip": (lambda: zipped(), "nothing"),
    "page.zip": (lambda: HTML, "not an archive"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_gets_one_line(name: str, tmp_path: Path) -> None:
    make, reason = ARCHIVES[name]
    file = tmp_path / name
    file.write_bytes(make())
    try:
        images = uploaded_images([file])
        for image in images:
            image.read()
        said = "nothing" if not images else "an image"
    except DataError as error:
        said = str(error)
    assert reason in said
    assert str(tmp_path) not in said  # where it lies on the server is nobody's business
    assert "\n" not in said


def test_an_ordinary_archive_gives_its_images(tmp_path: Path) -> None:
    file = tmp_path / "scans.zip"
    members = [("ward/IM0001", dicom(chest(1))), ("ward/b.png", GOOD), ("ward/notes.txt", b"hello")]
    file.write_bytes(zipped(*members))
    images = uploaded_images([file, file.with_name("gone.png")])
    assert [image.name for image in images] == ["IM0001", "b.png", "gone.png"]
    assert images[1].read() == GOOD
