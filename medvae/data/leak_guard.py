"""The guard that stands before every training and validation loader. There is no switch.

It trusts no file name alone: labels, patients, content hashes and perceptual hashes of the
images about to be trained on are held against every sick and every test image.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medvae.data.cache import ImageSet
from medvae.data.catalog import Record
from medvae.data.splits import Split
from medvae.errors import LeakError

# Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010): signs of
# the lowest cosine coefficients. Measured on 5,200 radiographs and 2,000 phantoms, re-encoding,
# resizing or a gamma curve turns at most 35 of the 255 bits; but healthy chests are alike and two
# patients can differ in 38 (two phantoms in 20), so that the hash only proposes pairs and their
# fine detail decides.
COEFFICIENTS = 16
CANDIDATE_BITS = 50
SAME_DETAIL = 0.88  # correlation: copies stay above 0.90, two patients below 0.85
SMALL_SIDE, SAME_DETAIL_SMALL = 32, 0.94  # fewer pixels tell less: two phantoms reach 0.93 there
CHUNK = 4096
BOX = Image.Resampling.BOX

# The public paediatric set writes the finding into the name of every sick image.
_SICK_NAME = re.compile(r"(?:^|_)(?:bacteria|virus|pneumonia)(?:_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Evidence:
    """How much was held against how much before the guard let a split pass."""

    healthy: int  # images about to be trained or validated on
    forbidden: int  # sick images and healthy test images
    pairs_by_hash: int  # pairs of the two held together by perceptual hash, mirrored ones too
    pairs_by_detail: int  # of these the ones so alike that their fine detail had to decide


def check_no_leak(split: Split, images: ImageSet) -> Evidence:
    """Raise `LeakError`, naming the paths, if a sick or test image could reach training.

    Looked for among TRAIN and VALIDATION: sick labels, sick names, patients and contents of
    any sick or test image, and re-encoded, resized or mirrored copies of one.
    """
    healthy = [*split.train, *split.validation]
    forbidden = [*images.catalog.of("sick"), *(r for r in split.test if r.label == "normal")]
    _refuse("a sick image is in the training data", [r for r in healthy if r.label == "sick"])
    _refuse(
        "the name or a folder of a normal image says it is sick; relabel or rename it",
        [r for r in healthy if _says_sick(r)],
    )
    if split.protocol == "official":
        _refuse(
            "an image of the folder's own test split is in the training data",
            [r for r in healthy if r.source_split == "test"],
        )
    _refuse_shared("content", healthy, forbidden, [r.sha256 for r in healthy],
                   {r.sha256: r for r in forbidden})  # fmt: skip
    _refuse_shared("patient", healthy, forbidden, [r.patient for r in healthy],
                   {r.patient: r for r in forbidden})  # fmt: skip
    train_patients = {r.patient: r for r in split.train}
    _refuse_shared("patient", list(split.validation), list(split.train),
                   [r.patient for r in split.validation], train_patients)  # fmt: skip
    pairs_by_detail = _refuse_lookalikes(healthy, forbidden, images.pixels)
    pairs = 2 * len(healthy) * len(forbidden)
    return Evidence(len(healthy), len(forbidden), pairs, pairs_by_detail)


def copies_of(known: Sequence[Record], own: ImageSet, others: ImageSet) -> list[Record]:
    """Which of the other set's images are re-encoded, resized or mirrored copies of known ones."""
    everything = others.catalog.records
    pairs = _compare(everything, others.pixels, known, own.pixels)
    return list(dict.fromkeys(image for image, _, is_copy in pairs if is_copy))


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Signs of the lowest 16 × 16 cosine coefficients, the mean left out.

    pixels: (N, S, S) uint8. Returns (N, 255) float32 of -1 and +1.
    """
    size = pixels.shape[-1]
    angles = np.pi * np.outer(np.arange(COEFFICIENTS), np.arange(size) + 0.5) / size
    cosines = np.cos(angles).astype(np.float32)  # (16, S)
    spectrum = cosines @ pixels.astype(np.float32) @ cosines.T  # (N, 16, 16)
    flat = spectrum.reshape(len(pixels), -1)[:, 1:]
    return np.where(flat > 0, 1.0, -1.0).astype(np.float32)


def detail_correlation(image: np.ndarray, other: np.ndarray) -> float:
    """Correlation of what two images show between 1/64 and 1/16 of their width.

    image, other: (S, S) uint8; `image` is first given the tones of `other`, which undoes any gamma
    or contrast curve. Returns -1..1; close to 1 for two versions of one radiograph.
    """
    first, second = (_fine_detail(pixels) for pixels in (_toned_like(other, image), other))
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _toned_like(model: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`image` with the histogram of `model`, as float32."""
    shares = []
    for pixels in (image, model):
        counts = np.bincount(pixels.ravel(), minlength=256)
        shares.append((np.cumsum(counts) - counts / 2) / pixels.size)
    tones = np.interp(shares[0], shares[1], np.arange(256.0))
    return np.asarray(tones.astype(np.float32)[image])


def _fine_detail(pixels: np.ndarray) -> np.ndarray:
    small = Image.fromarray(np.ascontiguousarray(pixels)).convert("F").resize((64, 64), BOX)
    coarse = small.resize((16, 16), BOX).resize((64, 64), Image.Resampling.BICUBIC)
    return np.asarray(small) - np.asarray(coarse)


# Mirroring an image left to right turns the sign of every odd horizontal frequency.
_MIRROR = np.where(np.arange(COEFFICIENTS**2) % COEFFICIENTS % 2, -1.0, 1.0)[1:].astype(np.float32)


def _says_sick(record: Record) -> bool:
    """Whether the file's name, or a folder that is not its label folder, names a finding."""
    *folders, file = record.path.removeprefix(record.label_folder).split("/")
    return any(_SICK_NAME.search(name) for name in [*folders, file.rsplit(".", 1)[0]])


def _refuse(what: str, records: Sequence[Record]) -> None:
    if records:
        raise LeakError(f"{what}: {_names(records)}")


def _refuse_shared(
    what: str,
    healthy: Sequence[Record],
    forbidden: Sequence[Record],
    keys: Sequence[str],
    others: dict[str, Record],
) -> None:
    clashes = [(r, others[key]) for r, key in zip(healthy, keys, strict=True) if key in others]
    if clashes:
        record, other = clashes[0]
        raise LeakError(
            f"{record.path} has the same {what} as {other.path}, which must not be trained on "
            f"({len(clashes)} such pairs); remove or relabel one"
        )


def _refuse_lookalikes(
    healthy: Sequence[Record], forbidden: Sequence[Record], pixels: np.ndarray
) -> int:
    """Returns how many pairs were so alike that their fine detail had to decide."""
    compared = 0
    for image, other, is_copy in _compare(healthy, pixels, forbidden, pixels):
        compared += 1
        if is_copy:
            raise LeakError(
                f"{image.path} looks like a copy of {other.path}, "
                "which must not be trained on; remove one"
            )
    return compared


def _compare(
    records: Sequence[Record],
    pixels: np.ndarray,
    others: Sequence[Record],
    other_pixels: np.ndarray,
) -> Iterator[tuple[Record, Record, bool]]:
    """Pairs close by perceptual hash, as they are and mirrored, and whether they are copies."""
    limit = SAME_DETAIL_SMALL if pixels.shape[-1] <= SMALL_SIDE else SAME_DETAIL
    hashes, other_hashes = _hashes(records, pixels), _hashes(others, other_pixels)
    for mirrored, candidates in ((False, hashes), (True, hashes * _MIRROR)):
        for row, column in _close_pairs(candidates, other_hashes):
            record, other = records[row], others[column]
            image = pixels[record.row]
            likeness = detail_correlation(
                image[:, ::-1] if mirrored else image, other_pixels[other.row]
            )
            yield record, other, likeness >= limit


def _close_pairs(hashes: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    bits = hashes.shape[1]
    for top in range(0, len(hashes), CHUNK):
        for left in range(0, len(others), CHUNK):
            agreement = hashes[top : top + CHUNK] @ others[left : left + CHUNK].T
            rows, columns = np.nonzero((bits - agreement) / 2 <= CANDIDATE_BITS)
            yield from zip((rows + top).tolist(), (columns + left).tolist(), strict=True)


def _hashes(records: Sequence[Record], pixels: np.ndarray) -> np.ndarray:
    blocks = [
        perceptual_hash(pixels[[r.row for r in records[start : start + CHUNK]]])
        for start in range(0, len(records), CHUNK)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, COEFFICIENTS**2 - 1), np.float32)


def _names(records: Sequence[Record]) -> str:
    shown = ", ".join(record.path for record in records[:3])
    return shown + (f" and {len(records) - 3} more" if len(records) > 3 else "")
