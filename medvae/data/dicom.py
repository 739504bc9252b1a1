"""DICOM radiographs: from a file's bytes to the gray values a viewer would show.

Rescale, window and inversion are pydicom's; what is no frontal radiograph is refused. Knows which
tags may be shown; all others, which may name a person, are neither returned nor put into messages.
"""

import io
import re
import warnings
import zlib
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from medvae.errors import ImageError
from medvae.limits import MB, Limits

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # pixels decide here

RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG"})
NOT_FRONTAL = frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO"})
TAILS = (0.1, 99.9)  # percentiles that a picture without a window of its own is stretched to
SAMPLED = 2**20  # values that percentiles are taken of
# Damaged files abort gdcm's JPEG 2000 and panic pylibjpeg's RLE; these only raise.
_DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    RLELossless: "pydicom",
}
_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # of files without the preamble: a first tag
_SHOWN = ("Modality", "ViewPosition", "BodyPartExamined", "PhotometricInterpretation")
_NUMBERS = ("BitsStored", "KVP", "ImagerPixelSpacing", "PixelSpacing")
_CODE = re.compile(r"[A-Z0-9 _/-]{1,16}")


def is_dicom(data: bytes) -> bool:
    """Whether the file says that it is DICOM, or begins as one without the preamble does."""
    return data[128:132] == b"DICM" or data[:2] in _STARTS


def decode_dicom(data: bytes, limits: Limits) -> tuple[np.ndarray, dict[str, str]]:
    """Gray values (H, W) float32, bright where dense, and the tags that identify nobody.

    Raises `ImageError` for what is no single frontal radiograph, or cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file's tags
            _check_deflated(data, limits)
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            _check(dataset, limits)
            return _as_seen(dataset), _facts(dataset)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # the reader raises nearly anything, with the file's tags in it
        kind = type(error).__name__
        raise ImageError(f"damaged or incomplete DICOM ({kind}); export it again") from None


def _check_deflated(data: bytes, limits: Limits) -> None:
    """pydicom unpacks without a bound, so the same is done first with one."""
    stream = io.BytesIO(data)
    read_preamble(stream, force=True)
    meta = _read_file_meta_info(stream)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflater.decompress(stream.read(), limits.file_mb * MB)
        if inflater.unconsumed_tail:
            raise ImageError(f"unpacks to more than {limits.file_mb} MB (limit file_mb)")


def _check(dataset: Dataset, limits: Limits) -> None:
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError("a DICOM file without an image; expected a radiograph")
    modality = _code(dataset, "Modality")
    if modality and modality not in RADIOGRAPHS:
        raise ImageError(f"a DICOM of modality {modality}; expected a radiograph (CR, DX or DR)")
    view = _code(dataset, "ViewPosition")
    if view in NOT_FRONTAL:
        raise ImageError(f"view position {view}; expected a frontal view (PA or AP)")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{frames} frames in one file; expected a single image")
    interpretation = _code(dataset, "PhotometricInterpretation")
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"a colour image ({interpretation or 'unknown'}); expected gray values")
    limits.check_size(int(dataset.Columns), int(dataset.Rows))


def _as_seen(dataset: Dataset) -> np.ndarray:
    """Stored values → rescale → window, or where there is none the bulk of the values → upright."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    stored = pixel_array(dataset, decoding_plugin=_DECODERS.get(syntax, ""))
    values = apply_modality_lut(stored, dataset)
    try:
        shown = apply_voi_lut(values, dataset) if _has_window(dataset) else None
    except (ValueError, NotImplementedError):
        shown = None  # a window that the standard does not allow
    if shown is None:
        shown = _stretched(values, stored != dataset.get("PixelPaddingValue"))
    gray = np.asarray(shown, dtype=np.float32)
    return gray.max() - gray if dataset.PhotometricInterpretation == "MONOCHROME1" else gray


def _has_window(dataset: Dataset) -> bool:
    window = dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None
    return window or bool(dataset.get("VOILUTSequence"))


def _stretched(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Clipped to the bulk of what is no padding, so that one hot pixel does not darken a chest."""
    inside = values[kept]
    if not inside.size:
        return values
    low, high = np.percentile(inside[:: max(1, inside.size // SAMPLED)], TAILS)
    return np.clip(values, low, high)


def _facts(dataset: Dataset) -> dict[str, str]:
    facts = {name: _code(dataset, name) for name in _SHOWN}
    for name in _NUMBERS:
        with_unit = _numbers(dataset.get(name))
        if with_unit:
            facts[name] = with_unit
    return {name: value for name, value in facts.items() if value}


def _code(dataset: Dataset, name: str) -> str:
    """A coded value; free text in its place may name somebody, and is told as `(not a code)`."""
    value = str(dataset.get(name) or "").strip()
    return value if not value or _CODE.fullmatch(value) else "(not a code)"


def _numbers(value: Any) -> str:
    parts = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    try:
        return " × ".join(f"{float(part):g}" for part in parts)
    except (TypeError, ValueError):
        return ""
