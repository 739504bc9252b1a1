"""Small radiographs for tests: drawn once a process, written as the files that people have."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medvae.data.phantom import LESIONS, draw_phantom


@cache
def chest(seed: int, lesion: str | None = None, size: int = 64) -> np.ndarray:
    """One radiograph (size, size) uint8; treat it as read-only."""
    return draw_phantom(seed, lesion, size).image


def sick_chest(seed: int, size: int = 64) -> np.ndarray:
    """The same with one of the lesions, in turn."""
    return chest(seed, LESIONS[seed % len(LESIONS)], size)


def encoded(pixels: np.ndarray, file_format: str = "PNG", **options: Any) -> bytes:
    """A file's bytes in the given format, with Pillow's options for it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def write(path: Path, content: np.ndarray | bytes) -> Path:
    """Write bytes, or pixels in the format that the suffix says, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(content).save(path)
    return path


def write_public_layout(
    root: Path, train: int = 40, val: int = 2, test: int = 12, sick: int = 12, size: int = 64
) -> Path:
    """`{train,val,test}/{NORMAL,PNEUMONIA}` with the public set's names; seeds never repeat."""
    for i in range(train):
        write(root / f"train/NORMAL/IM-{i:04d}-0001.jpeg", chest(i, size=size))
    for i in range(val):
        write(root / f"val/NORMAL/NORMAL2-IM-{i:04d}-0001.png", chest(1000 + i, size=size))
    for i in range(test):
        write(root / f"test/NORMAL/IM-{2000 + i}-0001.jpeg", chest(2000 + i, size=size))
    for i in range(sick):
        name = f"train/PNEUMONIA/person{i}_bacteria_{i}.jpeg"
        write(root / name, sick_chest(3000 + i, size))
        write(root / f"test/PNEUMONIA/person{100 + i}_virus_{i}.png", sick_chest(4000 + i, size))
    return root
