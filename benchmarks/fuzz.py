"""Throws damaged files and archives at the door: each must end as an image or as one clear line.

    python -m benchmarks.fuzz                    20,000 files and 2,000 archives
    python -m benchmarks.fuzz_coverage 1800      guided by coverage, for so many seconds (atheris)

Same seed, same files. Exits with 1 if anything else than an image or one line came out.
"""

import argparse
import io
import random
import resource
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from medvae.data.phantom import draw_phantom
from medvae.data.sandbox import Sandbox
from medvae.data.stores import open_store
from medvae.errors import DataError
from medvae.limits import Limits

SIDE = 64
LIMITS = Limits(decode_seconds=5.0)
GRACE = 5.0  # seconds beyond the limit, on a busy machine
MEMORY_MB = 1000
INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
)


@dataclass
class Outcome:
    """What came of all files; `wrong` says of each that went wrong what it did."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def note(self, what: str, seconds: float) -> None:
        self.counts[what] += 1
        self.slowest = max(self.slowest, seconds)


def seeds() -> dict[str, bytes]:
    """A small file of every accepted format and of many kinds within it."""
    gray = draw_phantom(1, None, SIDE).image
    deep = gray.astype(np.uint16) * 16
    variants: dict[str, tuple[np.ndarray, str, dict[str, Any]]] = {
        "gray.jpg": (gray, "JPEG", {}),
        "progressive.jpg": (gray, "JPEG", {"progressive": True}),
        "colour.jpg": (np.dstack([gray] * 3), "JPEG", {}),
        "gray.png": (gray, "PNG", {}),
        "deep.png": (deep, "PNG", {}),
        "alpha.png": (np.dstack([gray] * 4), "PNG", {}),
        "gray.tif": (gray, "TIFF", {}),
        "deep.tif": (deep, "TIFF", {"compression": "tiff_lzw"}),
        "deflated.tif": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "packed.tif": (gray, "TIFF", {"compression": "packbits"}),
        "jpeg.tif": (gray, "TIFF", {"compression": "jpeg"}),
        "float.tif": (gray.astype(np.float32), "TIFF", {}),
        "lossy.webp": (gray, "WEBP", {}),
        "lossless.webp": (gray, "WEBP", {"lossless": True}),
        "gray.bmp": (gray, "BMP", {}),
    }
    found = {}
    for name, (pixels, kind, options) in variants.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    for mode in ("CMYK", "P", "1", "LA"):
        buffer = io.BytesIO()
        Image.fromarray(gray).convert(mode).save(buffer, "TIFF")
        found[f"{mode}.tif"] = buffer.getvalue()
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian,
                   RLELossless, JPEG2000Lossless):  # fmt: skip
        found[f"{syntax.keyword}.dcm"] = dicom_seed(deep, syntax)
    return found


def dicom_seed(pixels: np.ndarray, syntax: UID) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComputedRadiographyImageStorage, UID("1.2.3")
    dataset.Modality, dataset.ViewPosition = "CR", "PA"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = pixels.tobytes()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("seed.dcm", dataset, file_meta=meta, preamble=bytes(128))
    if syntax.is_compressed and not syntax.is_deflated:
        file.compress(syntax, generate_instance_uid=False)
    else:
        meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to eight damages, in the head more often than elsewhere."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        reach = rng.choice([64, 512, len(changed)])
        place = rng.choice([0, 8, 8, 132]) + rng.randrange(max(1, min(reach, len(changed))))
        kind = rng.randrange(6)
        if kind == 0:
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            value = rng.choice(INTERESTING)
            changed[place : place + len(value)] = value
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            del changed[place : place + rng.randrange(1, 64)]
        elif kind == 4:
            changed[place:place] = rng.randbytes(rng.randrange(1, 64))
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            changed[place : place + 256] = other[start : start + 256]
    return bytes(changed)


def fuzz_files(count: int, seed: int, box: Sandbox) -> Outcome:
    """Mutated images through the sandbox, as an upload goes."""
    rng, originals, outcome = random.Random(seed), seeds(), Outcome()
    names, contents = list(originals), list(originals.values())
    for number in range(count):
        name = names[number % len(names)]
        data = mutated(originals[name], contents, rng)
        _try(outcome, f"{name} number {number}", lambda d=data, n=name: _look(box, d, n))  # type: ignore[misc]
    return outcome


def fuzz_archives(count: int, seed: int, folder: Path) -> Outcome:
    """Mutated and made-up archives, opened and read to the end."""
    rng, outcome = random.Random(seed), Outcome()
    originals = archives()
    contents = list(originals.values())
    for number in range(count):
        name, data = rng.choice(list(originals.items()))
        file = folder / f"{number}{Path(name).suffix}"
        file.write_bytes(mutated(data, contents, rng))
        _try(outcome, f"{name} number {number}", lambda f=file: _read_all(f))  # type: ignore[misc]
        file.unlink()
    return outcome


def archives() -> dict[str, bytes]:
    gray = seeds()["gray.png"]
    zipped, tarred, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(4):
            archive.writestr(f"NORMAL/a{index}.png", gray)
        archive.writestr("NORMAL/zeros.bmp", bytes(2_000_000))
    with tarfile.open(fileobj=tarred, mode="w") as opened:
        for index in range(4):
            member = tarfile.TarInfo(f"NORMAL/a{index}.png")
            member.size = len(gray)
            opened.addfile(member, io.BytesIO(gray))
    images = np.stack([draw_phantom(1, None, SIDE).image] * 4)
    np.savez_compressed(arrays, train_images=images, train_labels=np.zeros((4, 1), np.uint8))
    return {"a.zip": zipped.getvalue(), "a.tar": tarred.getvalue(), "a.npz": arrays.getvalue()}


def _look(box: Sandbox, data: bytes, name: str) -> str:
    box.see(data, name, 32, 100)
    return "image"


def _read_all(file: Path) -> str:
    store, read = open_store(file), 0
    for stored in store.files():
        store.read(stored.path)
        read += 1
    return "archive read" if read else "archive without files"


def _try(outcome: Outcome, what: str, act: Callable[[], str]) -> None:
    began = time.monotonic()
    try:
        result = act()
    except (DataError, OSError) as error:
        message = str(error)
        result = _kind(message)
        if "\n" in message or not message:
            outcome.wrong.append(f"{what}: not one line: {message!r}")
    except Exception as error:
        result = "another error"
        outcome.wrong.append(f"{what}: {error!r}")
    seconds = time.monotonic() - began
    outcome.note(result, seconds)
    if seconds > LIMITS.decode_seconds + GRACE:
        outcome.wrong.append(f"{what}: took {seconds:.1f} s")


def _kind(message: str) -> str:
    for part in ("decoder crashed", "took longer", "too much memory", "damaged", "not an image"):
        if part in message:
            return f"refused: {part}"
    return "refused: other reasons"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--archives", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    box = Sandbox(LIMITS, workers=1)
    box.see(seeds()["gray.png"], "warm", 32, 100)  # its start is not the first file's
    files = fuzz_files(options.files, options.seed, box)
    box.close()
    with tempfile.TemporaryDirectory() as folder:
        packed = fuzz_archives(options.archives, options.seed, Path(folder))
    for what, outcome in (("files", files), ("archives", packed)):
        print(f"{sum(outcome.counts.values())} {what}, slowest {outcome.slowest:.1f} s")
        for kind, count in outcome.counts.most_common():
            print(f"  {kind}: {count}")
        for line in outcome.wrong[:20]:
            print(f"  WRONG {line}")
    here, workers = (
        resource.getrusage(who).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"peak memory: {here:.0f} MB here, {workers:.0f} MB in a worker")
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(bool(files.wrong or packed.wrong) or max(here, workers) > MEMORY_MB)


if __name__ == "__main__":
    main()
