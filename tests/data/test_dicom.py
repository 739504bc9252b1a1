"""DICOM as a viewer would show it, held against pydicom's own steps; identity never comes out."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from medvae.data.decode import decode, open_image
from medvae.errors import ImageError
from tests.data.dicoms import dicom
from tests.data.drawn import chest

TEST_FILES = sorted(
    file
    for file in (Path(pydicom.__file__).parent / "data/test_files").rglob("*")
    if file.is_file() and file.suffix not in (".txt", ".json", ".dump", ".icc", ".gz")
)
DEEP = chest(1).astype(np.uint16) * 16 + 7  # 12 bits


def view(value: str, scheme: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "Roe"
    return [item]


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, "scan.dcm")
    message = str(caught.value)
    assert message.startswith("scan.dcm: ")
    assert "\n" not in message
    assert "Roe" not in message
    return message


def reference(data: bytes) -> np.ndarray:
    """What pydicom's own steps give, on a scale of 0..255."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    values = apply_modality_lut(pixel_array(dataset), dataset)
    if "WindowWidth" in dataset or "VOILUTSequence" in dataset:
        values = apply_voi_lut(values, dataset)
    else:
        values = np.clip(values, *np.percentile(values, (0.1, 99.9)))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = values.max() - values
    return levels(values)


def levels(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.min()) * (255 / max(float(np.ptp(values)), 1e-9))


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless,
     JPEG2000Lossless],
    ids=lambda syntax: syntax.keyword,
)  # fmt: skip
def test_every_lossless_form_gives_the_same_values(syntax: pydicom.uid.UID) -> None:
    data = dicom(DEEP, syntax, WindowCenter=2048, WindowWidth=4096)
    plain = dicom(DEEP, WindowCenter=2048, WindowWidth=4096)
    assert np.array_equal(decode(data), decode(plain))
    assert np.abs(levels(decode(data)) - reference(data)).max() <= 1


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"RescaleSlope": 2.5, "RescaleIntercept": -1000},
        {"WindowCenter": 1200, "WindowWidth": 700},
        {"WindowCenter": [1200, 40], "WindowWidth": [700, 80]},
        {"WindowCenter": 1200, "WindowWidth": 700, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 1200, "WindowWidth": 700, "PhotometricInterpretation": "MONOCHROME1"},
        {"BitsStored": 12, "HighBit": 11},
        {"Modality": None, "ViewPosition": None},
    ],
)
def test_rescale_window_and_inversion_are_pydicoms(tags: dict[str, object]) -> None:
    data = dicom(DEEP, **tags)
    assert np.abs(levels(decode(data)) - reference(data)).max() <= 1


def test_signed_values_keep_their_sign() -> None:
    signed = DEEP.astype(np.int16) - 2000
    assert np.abs(levels(decode(dicom(signed))) - levels(decode(dicom(DEEP)))).max() < 1e-3


def test_a_window_of_no_width_falls_back_to_the_bulk_of_the_values() -> None:
    broken = dicom(DEEP, WindowCenter=100, WindowWidth=0)
    assert np.array_equal(decode(broken), decode(dicom(DEEP)))


def test_one_hot_pixel_and_padding_do_not_darken_the_chest() -> None:
    hot = DEEP.copy()
    hot[0, 0] = 65535
    assert decode(dicom(hot)).max() < 5000
    padded = DEEP.copy()
    padded[:20] = 60000
    shown = decode(dicom(padded, PixelPaddingValue=60000))
    assert shown.max() <= DEEP.max()


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelPaddingValue": 60000},
        {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 59000},
        {"PixelPaddingValue": 60000, "WindowCenter": 2048, "WindowWidth": 4096},
        {"PixelPaddingValue": 60000, "PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_padding_is_black_whatever_its_value(tags: dict[str, object]) -> None:
    padded = DEEP.copy()
    padded[:10], padded[10:20] = 60000, 59000 if "PixelPaddingRangeLimit" in tags else 60000
    shown = decode(dicom(padded, **tags))
    assert (shown[:20] == shown.min()).all()
    plain = decode(dicom(DEEP, **{k: v for k, v in tags.items() if "Padding" not in k}))
    assert np.abs(levels(shown[20:]) - levels(plain[20:])).max() <= 1


def test_what_is_stored_beside_the_bits_of_a_pixel_does_not_count() -> None:
    overlaid = DEEP | 0xF000  # the upper four bits once held a drawing
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
    assert np.array_equal(decode(dicom(overlaid, **tags)), decode(dicom(DEEP, **tags)))
    negative = (DEEP.astype(np.int16) - 2000) & 0x0FFF  # twelve bits, the sign at the twelfth
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    shown = decode(dicom(negative.astype(np.uint16), **tags))
    assert np.abs(levels(shown) - levels(decode(dicom(DEEP)))).max() < 1e-3


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"Modality": "MG"}, "modality MG"),
        ({"ViewPosition": "LL"}, "view position LL"),
        ({"ViewPosition": "LATERAL"}, "view position LATERAL"),
        ({"ViewCodeSequence": view("399173006", "SCT")}, "lateral or oblique"),
        ({"ViewCodeSequence": view("R-10232", "SRT")}, "lateral or oblique"),
        ({"PatientOrientation": ["A", "F"]}, "front to back"),
        ({"NumberOfFrames": 4}, "4 frames"),
        ({"PhotometricInterpretation": "RGB"}, "colour image"),
        ({"Rows": 60_000, "Columns": 60_000}, "limit pixels"),
        ({"Rows": 2}, "at least 16"),
        ({"PixelData": None}, "without an image"),
        ({"PixelData": b"\0\1" * 50}, "damaged or incomplete"),
        ({"Modality": "Roe^Richard"}, "modality (not a code)"),
        ({"Modality": "ROE RICHARD"}, "modality (not a code)"),
        ({"PhotometricInterpretation": "ROE RICHARD"}, "colour image, (not a code)"),
    ],
)
def test_what_is_no_single_frontal_radiograph_is_refused_with_its_reason(
    tags: dict[str, object], reason: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom(DEEP, **tags)
    assert reason in refusal(data)


def test_a_deflated_bomb_is_refused_before_it_unpacks(home: Path) -> None:
    (home / "limits.yaml").write_text("file_mb: 1\n")
    data = dicom(np.zeros((1200, 1200), np.uint16), DeflatedExplicitVRLittleEndian)
    assert len(data) < 100_000
    assert "unpacks to more than 1 MB (limit file_mb)" in refusal(data)


def test_only_tags_that_name_nobody_come_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        data = dicom(
            DEEP, KVP=120, BodyPartExamined="ROE RICHARD", BurnedInAnnotation="YES",
            SpecificCharacterSet="Roe Richard", PresentationIntentType="FOR PROCESSING",
        )  # fmt: skip
        caplog.clear()  # of what the writer had to say
        opened = open_image(data, "scan.dcm")
    assert opened.facts == {
        "Modality": "CR",
        "ViewPosition": "PA",
        "BodyPartExamined": "(not a code)",
        "PhotometricInterpretation": "MONOCHROME2",
        "PresentationIntentType": "FOR PROCESSING",
        "BurnedInAnnotation": "YES",
        "BitsStored": "16",
        "KVP": "120",
    }
    told = (str(opened.facts) + caplog.text).upper()
    assert not any(secret in told for secret in ("ROE", "4711", "HOSPITAL"))


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.name)
def test_pydicoms_own_files_decode_as_it_does_or_are_refused_for_what_they_are(
    file: Path,
) -> None:
    data = file.read_bytes()
    try:
        gray = decode(data, file.name)
    except ImageError as error:
        assert expected_reason(data) in str(error), error
        return
    assert np.abs(levels(gray) - reference(data)).max() <= 1


def expected_reason(data: bytes) -> str:
    """From the file's tags alone, in the order in which they are looked at."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "PixelData" not in dataset:
        return "image"  # "without an image", or not even DICOM
    if dataset.get("Modality") not in ("CR", "DX", "DR", "RG", "", None):
        return f"modality {dataset.Modality}"
    if dataset.get("ViewPosition") in ("LL", "RL"):
        return "view position"
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        return "frames"
    if not str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME"):
        return "colour image"
    return "at least 16×16" if min(dataset.Rows, dataset.Columns) < 16 else "decodes"


def passed_off(file: Path) -> bytes | None:
    """A single gray image as if it were a radiograph, in the compression it has."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, force=True)
            single = int(dataset.get("NumberOfFrames") or 1) == 1 and "PixelData" in dataset
            gray = str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME")
            if not (single and gray) or min(dataset.Rows, dataset.Columns) < 16:
                return None
            dataset.Modality, dataset.ViewPosition = "DX", "PA"
            buffer = io.BytesIO()
            dataset.save_as(buffer)
    except (ValueError, AttributeError):
        return None
    return buffer.getvalue()


PASSED_OFF = {file.name: data for file in TEST_FILES if (data := passed_off(file))}


@pytest.mark.parametrize("name", PASSED_OFF)
def test_all_their_compressions_and_depths_decode_as_pydicom_does(name: str) -> None:
    assert len(PASSED_OFF) > 15
    data = PASSED_OFF[name]
    try:
        expected = reference(data)
    except Exception:
        reason = "12 bits" if name in ("JPEG-lossy.dcm", "JPGExtended.dcm") else "damaged"
        assert reason in refusal(data)
        return
    assert np.abs(levels(decode(data)) - expected).max() <= 1
