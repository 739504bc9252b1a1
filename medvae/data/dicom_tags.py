"""Which of a DICOM file's tags are looked at and may be shown: codes and numbers that name nobody.

A value counts only if it is one of the standard's terms. Anything else in its place, which may be a
person's name, is neither returned nor put into a message.
"""

from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG"})
NOT_FRONTAL = frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO"})
# DICOM PS3.16 CID 4010, in SNOMED CT and in the older codes: lateral, sagittal, oblique.
NOT_FRONTAL_CODES = frozenset({
    "399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232", "30730003", "G-A145",
    "399182000", "R-102C1", "399135007", "R-10220", "399184004", "R-10238", "399006002", "R-10212",
    "399356000", "R-40985", "399236003", "R-10234", "399038007", "R-10210",
})  # fmt: skip
UNKNOWN = "(not a code)"

_MODALITIES = (
    "AR ASMT AU BDUS BI BMD CR CT DG DMS DOC DR DX ECG EPS ES GM HD IO IVOCT IVUS KER KO LEN LS "
    "M3D MG MR NM OAM OCT OP OPM OPT OPTENF OPV OSS OT PLAN POS PR PT PX REG RESP RF RG RTDOSE "
    "RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SC SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XC"
)
_BODY_PARTS = (
    "ABDOMEN|ABDOMENPELVIS|ANKLE|ARM|BREAST|CHEST|CHEST ABDOMEN|CHESTABDOMEN|CHESTABDPELVIS|"
    "CLAVICLE|CSPINE|ELBOW|EXTREMITY|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD|HEART|HIP|HUMERUS|KNEE|"
    "LEG|LOWLIMB|LSPINE|LUNG|LUNGS|NECK|PELVIS|PORT CHEST|RIB|RIBS|SHOULDER|SKULL|SPINE|STERNUM|"
    "THORAX|TOE|TORSO|TSPINE|UPLIMB|WHOLEBODY|WRIST"
)
_TERMS = {
    "Modality": frozenset(_MODALITIES.split()),
    "ViewPosition": NOT_FRONTAL | frozenset({"AP", "PA", "AP SUPINE", "CC", "ML", "MLO", "LM"}),
    "BodyPartExamined": frozenset(_BODY_PARTS.split("|")),
    "PhotometricInterpretation": frozenset({
        "MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422",
        "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "HSV", "ARGB", "CMYK",
    }),
    "PresentationIntentType": frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    "BurnedInAnnotation": frozenset({"YES", "NO"}),
}  # fmt: skip
_NUMBERS = ("BitsStored", "KVP", "ImagerPixelSpacing", "PixelSpacing")


def code(dataset: Dataset, name: str) -> str:
    """A tag's value if it is one of its terms; empty where there is none, else `UNKNOWN`."""
    value = str(dataset.get(name) or "").strip().upper()
    return value if not value or value in _TERMS[name] else UNKNOWN


def sideways(dataset: Dataset) -> str:
    """How the file says that this is no frontal view; empty if it does not."""
    view = code(dataset, "ViewPosition")
    if view in NOT_FRONTAL:
        return f"view position {view}"
    views = dataset.get("ViewCodeSequence") or []
    if any(str(item.get("CodeValue")) in NOT_FRONTAL_CODES for item in views):
        return "a view code that is lateral or oblique"
    rows = str(next(iter(dataset.get("PatientOrientation") or [""])))
    # Letters by weight: the first is the main direction that a row of pixels points to.
    return "rows that run from front to back" if rows[:1] in ("A", "P") else ""


def facts(dataset: Dataset) -> dict[str, str]:
    """What may be shown of a file."""
    found = {name: code(dataset, name) for name in _TERMS}
    found |= {name: _numbers(dataset.get(name)) for name in _NUMBERS}
    return {name: value for name, value in found.items() if value}


def _numbers(value: Any) -> str:
    parts = value if isinstance(value, (list, MultiValue)) else [value]
    try:
        return " × ".join(f"{float(part):g}" for part in parts)
    except (TypeError, ValueError):
        return ""
