"""Arrays and image files as data URIs, small enough for a page and stored nowhere.

Knows nothing of HTML or models.
"""

import base64
import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

CARD_SIDE = 384  # longest side of a picture in a card: twice its size on an ordinary screen
FILM_SIDE = 96
CARD_WIDTH = 1200  # of a report card shown on the page
_JPEG_QUALITY = 92


def preview(image: np.ndarray) -> np.ndarray:
    """A decoded image (H, W) of any type, at most CARD_SIDE long, min-max stretched to uint8."""
    values = image if image.dtype == np.uint8 else image.astype(np.float32)
    scale = min(1.0, CARD_SIDE / max(image.shape))
    size = [max(1, round(side * scale)) for side in image.shape[::-1]]
    picture = Image.fromarray(values).resize((size[0], size[1]), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint((pixels - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)


def stretched(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A model's square image (S, S) in 0..1, brought to the proportions of the original: uint8."""
    picture = Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def to_uri(image: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 as a JPEG data URI, colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return _uri("jpeg", buffer.getvalue())


def layer_uri(layer: np.ndarray) -> str:
    """(H, W, 4) uint8 as a PNG data URI: colours with their opacity."""
    buffer = io.BytesIO()
    Image.fromarray(layer).save(buffer, format="PNG", compress_level=3)
    return _uri("png", buffer.getvalue())


def figure_uri(path: Path, width: int = CARD_WIDTH) -> str | None:
    """A picture file at most `width` pixels wide, as a data URI; None when it is gone."""
    try:
        return _figure(path, path.stat().st_mtime_ns, width)
    except OSError:
        return None


def film_frames(path: Path) -> tuple[list[str], list[str]] | None:
    """The originals and the reconstructions of a sample strip, one data URI an image.

    The strip (see `medvae.engine.samples`) is a row of square images above a row of their
    reconstructions. None when the file is gone.
    """
    try:
        return _film(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=16)
def _figure(path: Path, modified_ns: int, width: int) -> str:
    with Image.open(path) as picture:
        shown = picture.convert("RGB")
    if shown.width > width:
        height = round(shown.height * width / shown.width)
        shown = shown.resize((width, height), Image.Resampling.LANCZOS)
    return to_uri(np.asarray(shown))


@functools.lru_cache(maxsize=256)
def _film(path: Path, modified_ns: int) -> tuple[list[str], list[str]]:
    with Image.open(path) as strip:
        side = strip.height / 2
        number = round(strip.width / side)
        step = strip.width / number
        rows = [
            [strip.crop((n * step, top, (n + 1) * step, top + side)) for n in range(number)]
            for top in (0, side)
        ]
    originals, reconstructions = (
        [to_uri(np.asarray(tile.convert("L").resize((FILM_SIDE, FILM_SIDE)))) for tile in row]
        for row in rows
    )
    return originals, reconstructions


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
