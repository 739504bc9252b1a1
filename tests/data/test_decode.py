"""Files of every format in, gray arrays out; whatever is no image is one line that names it."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvae.data.decode import FORMATS, decode
from medvae.data.transform import read_model_input, to_model_input
from medvae.errors import ImageError
from medvae.limits import Limits
from tests.data.drawn import chest, encoded, write

SIZE = 64
WHOLE_FILES = {
    "chest.jpg": encoded(chest(1), "JPEG"),
    "chest.png": encoded(chest(1), "PNG"),
    "deep.png": encoded(chest(1).astype(np.uint16) * 257, "PNG"),
    "chest.tif": encoded(chest(1), "TIFF"),
    "deep.tif": encoded(chest(1).astype(np.uint16) * 257, "TIFF", compression="tiff_lzw"),
    "chest.webp": encoded(chest(1), "WEBP", lossless=True),
    "chest.bmp": encoded(chest(1), "BMP"),
}


def refusal(source: str | Path | bytes, name: str | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, name)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_deflate"}), ("BMP", {}),
     ("WEBP", {"lossless": True})],
)  # fmt: skip
def test_a_lossless_8_bit_file_keeps_every_pixel(file_format: str, options: dict[str, str]) -> None:
    gray = decode(encoded(chest(1), file_format, **options))
    assert gray.dtype == np.uint8
    assert np.array_equal(gray, chest(1))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_a_lossy_file_comes_close(file_format: str) -> None:
    gray = decode(encoded(chest(1), file_format, quality=95))
    assert gray.shape == (SIZE, SIZE)
    assert np.abs(gray.astype(int) - chest(1)).mean() < 2


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bits_keep_their_range(file_format: str) -> None:
    deep = chest(1).astype(np.uint16) * 13 + 1000  # a 12-bit detector in a 16-bit file
    gray = decode(encoded(deep, file_format))
    assert gray.dtype == np.uint16
    assert np.array_equal(gray, deep)


def test_big_endian_tiff_reads_the_same() -> None:
    deep = chest(1).astype(np.uint16) * 257
    stored = Image.frombytes("I;16B", (SIZE, SIZE), deep.astype(">u2").tobytes())
    buffer = io.BytesIO()
    stored.save(buffer, "TIFF")
    gray = decode(buffer.getvalue())
    assert gray.dtype == np.uint16
    assert np.array_equal(gray, deep)


def test_a_float_tiff_keeps_its_values() -> None:
    values = chest(1).astype(np.float32) / 255 - 0.5
    gray = decode(encoded(values, "TIFF"))
    assert gray.dtype == np.float32
    assert np.array_equal(gray, values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_colour_palette_and_alpha_become_one_gray_channel(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(chest(1)).convert(mode).save(buffer, "TIFF")
    gray = decode(buffer.getvalue())
    assert gray.shape == (SIZE, SIZE)
    if mode == "1":  # dithered to black and white
        assert set(np.unique(gray)) == {0, 255}
    else:
        assert np.abs(gray.astype(int) - chest(1)).max() <= 1


def test_colours_are_weighed_as_the_eye_does() -> None:
    red_and_green = np.zeros((SIZE, SIZE, 3), np.uint8)
    red_and_green[:32, :, 0] = 255
    red_and_green[32:, :, 1] = 255
    gray = decode(encoded(red_and_green))
    assert (gray[0, 0], gray[-1, 0]) == (76, 150)  # ITU-R 601


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int) -> None:
    stored = chest(1)[:, :40]
    tags = Image.Exif()
    tags[0x0112] = orientation
    gray = decode(encoded(stored, "PNG", exif=tags))
    assert np.array_equal(gray, UPRIGHT[orientation](stored))


def test_a_large_jpeg_is_decoded_at_a_fraction_and_shows_the_same() -> None:
    large = np.asarray(Image.fromarray(chest(1, size=256)).resize((1600, 1200)))
    data = encoded(large, "JPEG", quality=90)
    small = decode(data, smallest=128)
    assert small.shape == (150, 200)
    ours, full = to_model_input(small, 64), to_model_input(decode(data), 64)
    assert np.abs(ours.astype(int) - full).mean() < 1.5


@pytest.mark.parametrize("smallest", [1, 64, 128, 149, 150, 151, 300, 1200, 4000])
def test_no_side_of_a_fraction_falls_below_what_was_asked(smallest: int) -> None:
    data = encoded(np.tile(chest(1), (19, 25))[:1200, :1600], "JPEG")
    assert min(decode(data, smallest=smallest).shape) >= min(smallest, 1200)


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_bytes_a_path_and_a_path_as_text_decode_alike(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, WHOLE_FILES[name])
    from_path = decode(file)
    assert np.array_equal(from_path, decode(str(file)))
    assert np.array_equal(from_path, decode(WHOLE_FILES[name]))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    file = write(tmp_path / "really_a.jpg", WHOLE_FILES["chest.png"])
    assert np.array_equal(decode(file), chest(1))


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_truncated_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    data = WHOLE_FILES[name]
    file = write(tmp_path / name, data[: len(data) // 2])
    assert refusal(file).startswith(f"{name}: ")


def test_only_the_formats_that_are_named_are_read() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "TIFF", "WEBP", "BMP"}
    assert "not an image" in refusal(encoded(chest(1), "GIF"), "chest.gif")


@pytest.mark.parametrize(
    "content", [b"", b"patient,finding\n1,none\n", b"\x89PNG\r\n\x1a\n", b"%PDF"]
)
def test_what_is_no_image_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "list.png", content)).startswith("list.png: ")


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 15)])
def test_an_image_of_a_few_pixels_is_refused_with_its_size(shape: tuple[int, int]) -> None:
    message = refusal(encoded(np.zeros(shape, np.uint8)), "dot.png")
    assert message == f"dot.png: {shape[1]}×{shape[0]} pixels; expected at least 16×16"


@pytest.mark.parametrize("side", [6_400, 16_000, 60_000])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_does(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    assert f"{Limits().pixels:,}" in refusal(data, "bomb.png")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.png"
    assert refusal(missing) == f"{missing}: no such file"
    (tmp_path / "folder.png").mkdir()
    assert refusal(tmp_path / "folder.png").startswith("folder.png: ")


def test_bytes_go_by_the_name_they_are_given() -> None:
    assert refusal(b"nothing", "upload 3").startswith("upload 3: ")
    assert refusal(b"nothing").startswith("the image: ")


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_damage_anywhere_is_an_image_error_or_an_image(name: str) -> None:
    whole, rng = WHOLE_FILES[name], random.Random(name)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        reach = rng.choice([64, len(whole)])
        for _ in range(rng.choice([1, 4, 32])):
            damaged[rng.randrange(reach)] = rng.randrange(256)
        try:
            pixels = read_model_input(bytes(damaged), name, 32)
        except ImageError as error:
            assert str(error).startswith(f"{name}: ")
            assert "\n" not in str(error)
            refused += 1
        else:
            assert pixels.shape == (32, 32)
    assert refused > 10


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_white_is_zero_is_turned_round(kind: type) -> None:
    pixels = chest(1).astype(kind)
    stored = bytearray(encoded(pixels, "TIFF"))
    entry = stored.index(struct.pack("<HHI", 262, 3, 1))  # photometric interpretation
    struct.pack_into("<H", stored, entry + 8, 0)
    assert np.array_equal(decode(bytes(stored)), np.iinfo(kind).max - pixels)


def test_what_is_transparent_is_dark() -> None:
    pixels = np.dstack([chest(1)] * 3 + [np.full((SIZE, SIZE), 255, np.uint8)])
    pixels[:8, :, 3] = 0
    gray = decode(encoded(pixels))
    assert not gray[:8].any()
    assert np.array_equal(gray[8:], chest(1)[8:])


def pages(*images: np.ndarray, reduced: bool = False) -> bytes:
    """A TIFF of several pages; `reduced`: those after the first are smaller copies of it."""
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(pixels) for pixels in images)
    for page in rest:
        page.encoderinfo = {"tiffinfo": {254: 1}} if reduced else {}  # type: ignore[attr-defined]
    first.save(buffer, "TIFF", save_all=True, append_images=rest)
    return buffer.getvalue()


def test_several_pages_are_refused_and_smaller_copies_are_not() -> None:
    assert "3 pages" in refusal(pages(chest(1), chest(2), chest(3)), "scan.tif")
    assert np.array_equal(decode(pages(chest(1), chest(1)[::2, ::2], reduced=True)), chest(1))


def test_letters_at_the_border_survive() -> None:
    marked = chest(1).copy()
    marked[2:10, 2:6] = 255
    deep = marked.astype(np.uint16) * 16
    for content in (encoded(marked), encoded(deep), encoded(deep, "TIFF")):
        shown = read_model_input(content, "scan", SIZE)
        assert (shown[3:9, 3:5] > 250).all()


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as opened:
        opened.truncate(2_000_000)
    with pytest.raises(ImageError, match=r"2 MB; expected at most 1 MB \(limit file_mb\)"):
        decode(file, limits=Limits(file_mb=1))
