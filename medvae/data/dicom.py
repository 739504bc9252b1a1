"""DICOM radiographs: from a file's bytes to the gray values a viewer would show.

Rescale, window and inversion are pydicom's; what is no single frontal radiograph is refused. Which
tags are looked at and may be shown is in `dicom_tags`.
"""

import io
import logging
import warnings
import zlib

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
    JPEGExtended12Bit,
    RLELossless,
)

from medvae.data import dicom_tags as tags
from medvae.errors import ImageError
from medvae.limits import MB, Limits

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # pixels decide here
# Its warnings quote the file's tags: they are neither shown nor logged, in whichever thread.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"(pydicom|medvae\.data\.dicom)\b")

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


def is_dicom(data: bytes) -> bool:
    """Whether the file says that it is DICOM, or begins as one without the preamble does."""
    return data[128:132] == b"DICM" or data[:2] in _STARTS


def decode_dicom(data: bytes, limits: Limits) -> tuple[np.ndarray, dict[str, str]]:
    """Gray values (H, W) float32, bright where dense, and the tags that identify nobody.

    Raises `ImageError` for what is no single frontal radiograph, or cannot be read.
    """
    try:
        _check_deflated(data, limits)
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        _check(dataset, limits)
        return _as_seen(dataset), tags.facts(dataset)
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
    modality = tags.code(dataset, "Modality")
    if modality and modality not in tags.RADIOGRAPHS:
        raise ImageError(f"a DICOM of modality {modality}; expected a radiograph (CR, DX or DR)")
    sideways = tags.sideways(dataset)
    if sideways:
        raise ImageError(f"{sideways}; expected a frontal view (PA or AP)")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{frames} frames in one file; expected a single image")
    interpretation = tags.code(dataset, "PhotometricInterpretation")
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"a colour image, {interpretation or 'unknown'}; expected gray values")
    limits.check_size(int(dataset.Columns), int(dataset.Rows))
    if dataset.file_meta.get("TransferSyntaxUID") == JPEGExtended12Bit and dataset.BitsStored > 8:
        raise ImageError(
            "compressed as JPEG Extended with 12 bits, which cannot be read here; export it "
            "uncompressed, or as lossless JPEG or JPEG 2000"
        )


def _as_seen(dataset: Dataset) -> np.ndarray:
    """Stored values → rescale → window, or where there is none the bulk of the values → upright.

    Padding, where nothing was recorded, comes out black like the background of a viewer.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    stored = pixel_array(dataset, decoding_plugin=_DECODERS.get(syntax, ""))
    padding = _padding(stored, dataset)
    values = apply_modality_lut(stored, dataset)
    try:
        shown = apply_voi_lut(values, dataset) if _has_window(dataset) else None
    except (ValueError, NotImplementedError):
        shown = None  # a window that the standard does not allow
    if shown is None:
        shown = _stretched(values, padding)
    gray = np.asarray(shown, dtype=np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = gray.max() - gray
    if padding is not None:
        gray = np.where(padding, gray.min(), gray)
    return gray


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Which pixels (H, W) are none: those of one stored value or of a range. PS3.3 C.7.5.1.1.2."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None:
        return None
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (stored >= low) & (stored <= high)


def _has_window(dataset: Dataset) -> bool:
    window = dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None
    return window or bool(dataset.get("VOILUTSequence"))


def _stretched(values: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    """Clipped to the bulk of what is no padding, so that one hot pixel does not darken a chest."""
    inside = values.ravel() if padding is None else values[~padding]
    if not inside.size:
        return values
    low, high = np.percentile(inside[:: max(1, inside.size // SAMPLED)], TAILS)
    shown = values.astype(np.float32)
    return np.clip(shown, np.float32(low), np.float32(high), out=shown)
