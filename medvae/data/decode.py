"""The one door through which every image enters: bytes in, a 2-D gray array out.

Knows file formats, not labels or models. A further format is one more branch of `decode`.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medvae.errors import ImageError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")  # Pillow opens MPO as JPEG
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})
MIN_SIDE = 16  # pixels; below that there is nothing to look at
MAX_PIXELS = 120_000_000  # four times the largest flat-panel detector

Gray = np.ndarray  # (H, W), uint8, uint16 or float32


def decode(source: str | Path | bytes, name: str | None = None, smallest: int = 0) -> Gray:
    """Read one image as gray values of its own bit depth, upright by its EXIF orientation.

    `smallest` allows a JPEG to be decoded at a fraction of its size, as long as neither side
    falls below that many pixels. Returns (H, W) uint8, uint16 or float32 (32-bit formats).
    Raises `ImageError` with one line that names the file.
    """
    label = name or (source if isinstance(source, bytes) else Path(source).name)
    label = "the image" if isinstance(label, bytes) else label
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return _decode(data, smallest)
    except FileNotFoundError:
        raise ImageError(f"{source!s}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{label}: not an image that can be read here; expected JPEG, PNG, TIFF, WebP or BMP"
        ) from None
    except ImageError as error:
        raise ImageError(f"{label}: {error}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{label}: too many pixels; expected at most {MAX_PIXELS:,}") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{label}: damaged or incomplete ({reason}); export it again") from None


def _decode(data: bytes, smallest: int) -> Gray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about damaged tags; pixels decide here
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            if smallest:
                image.draft("L", (smallest, smallest))
            upright = ImageOps.exif_transpose(image)
            return _gray(upright)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width}×{height} pixels; expected at least {MIN_SIDE}×{MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}×{height} pixels; expected at most {MAX_PIXELS:,} in all")


def _gray(image: Image.Image) -> Gray:
    if image.mode == "L":
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image, dtype=np.float32)
    return np.asarray(image.convert("L"))
