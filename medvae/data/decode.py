"""The one door through which every image enters: bytes in, a 2-D gray array out.

Knows file formats, not labels or models. A further format is one more branch of `open_image`.
"""

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medvae.errors import ImageError
from medvae.limits import Limits

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")  # Pillow opens MPO as JPEG
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}) | DICOM_SUFFIXES
EXPECTED = "JPEG, PNG, TIFF, WebP, BMP or DICOM"

_PAGES = 32  # of a TIFF that are looked at: more than any pyramid of reduced copies has
_PHOTOMETRIC, _SUBFILE, _BITS = 262, 254, 258  # TIFF tags
_REDUCED_OR_MASK = 0b101  # bits of the subfile tag: a smaller copy, or a mask, of another page

Gray = np.ndarray  # (H, W), uint8, uint16 or float32

# Two decisions for the process: sizes are checked here, before any pixel is decoded, and damaged
# tags are not warned of, since the pixels decide.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\b")


@dataclass(frozen=True)
class Opened:
    """Gray values (H, W), and what the file says of them that identifies nobody."""

    gray: Gray
    facts: dict[str, str] = field(default_factory=dict)


def decode(
    source: str | Path | bytes,
    name: str | None = None,
    smallest: int = 0,
    limits: Limits | None = None,
) -> Gray:
    """The gray values alone of `open_image`."""
    return open_image(source, name, smallest, limits).gray


def open_image(
    source: str | Path | bytes,
    name: str | None = None,
    smallest: int = 0,
    limits: Limits | None = None,
) -> Opened:
    """Read one image as gray values of its own bit depth, upright by its EXIF orientation.

    `smallest` allows a JPEG to be decoded at a fraction of its size, as long as neither side
    falls below that many pixels. `limits` are the workspace's by default. Returns (H, W) uint8,
    uint16 or float32 (32-bit formats and DICOM). Raises `ImageError` with one line that names
    the file.
    """
    label = name or ("the image" if isinstance(source, bytes) else Path(source).name)
    bounds = limits or Limits.current()
    try:
        return _open(
            source if isinstance(source, bytes) else _read(source, bounds), smallest, bounds
        )
    except FileNotFoundError:
        raise ImageError(f"{source!s}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{label}: not an image that can be read here; expected {EXPECTED}"
        ) from None
    except ImageError as error:
        raise ImageError(f"{label}: {error}") from None
    except MemoryError:
        raise ImageError(f"{label}: needs too much memory to decode; export it smaller") from None
    except Exception as error:  # damage makes decoders raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{label}: damaged or incomplete ({reason}); export it again") from None


def loads_at_a_fraction(data: bytes) -> bool:
    """Whether `smallest` changes the gray values: a JPEG's."""
    return data.startswith(b"\xff\xd8")


def _read(source: str | Path, limits: Limits) -> bytes:
    file = Path(source)
    limits.check_bytes(file.stat().st_size)
    return file.read_bytes()


def _open(data: bytes, smallest: int, limits: Limits) -> Opened:
    from medvae.data.dicom import decode_dicom, is_dicom  # 0.1 s that few files need

    limits.check_bytes(len(data))
    if is_dicom(data):
        return Opened(*decode_dicom(data, limits))
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        limits.check_size(*image.size)
        _refuse_several(image)
        _refuse_deep_colour(image)
        if smallest:
            image.draft("L", (smallest, smallest))
        gray = _gray(ImageOps.exif_transpose(image))
        return Opened(_inverted(gray, image) if _white_is_zero(image) else gray)


def _refuse_several(image: Image.Image) -> None:
    """One file, one radiograph; smaller copies of it that scanners add do not count."""
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise ImageError("an animation; expected a single image")
    if image.format != "TIFF":
        return
    pages = 0
    for page in range(_PAGES):
        try:
            image.seek(page)
        except EOFError:
            break
        tags = image.tag_v2  # type: ignore[attr-defined]
        pages += not int(tags.get(_SUBFILE, 0)) & _REDUCED_OR_MASK
    image.seek(0)
    if pages > 1:
        raise ImageError(f"{pages} pages or more; expected a single image")


def _refuse_deep_colour(image: Image.Image) -> None:
    """Pillow would keep the upper 8 bits of 16, and lose a 12-bit image in them."""
    tiles = getattr(image, "tile", ())
    stored = str(tiles[0][3]) if tiles else ""
    if ";16" in stored and not image.mode.startswith("I"):
        raise ImageError("16 bits with colour or transparency; expected 16-bit gray")


def _gray(image: Image.Image) -> Gray:
    if image.mode == "L":
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image, dtype=np.float32)
    if (
        image.has_transparency_data
    ):  # nothing was recorded there, and dark is what nothing looks like
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF is stored inverted and still is: Pillow turns round 8 bits only."""
    tags = getattr(image, "tag_v2", {})
    return image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0


def _inverted(gray: Gray, image: Image.Image) -> Gray:
    bits = int(image.tag_v2.get(_BITS, (16,))[0])  # type: ignore[attr-defined]
    return ((1 << min(16, bits)) - 1 - gray.astype(np.int32)).clip(0).astype(np.uint16)
