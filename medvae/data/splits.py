"""Who goes where: TRAIN, VALIDATION and TEST, by patient, from one seed.

Two protocols. `official` keeps the folder's own test split; `pooled` pools all normals,
splits them by patient and adds as many sick images to the test. Sick images only ever go
to TEST. The result can be written beside a run as a manifest and read back.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvae.config import DataConfig
from medvae.data.catalog import Catalog, Record, fingerprint
from medvae.errors import DataError, LeakError

PARTS = ("train", "validation", "test")
FEWEST = {"train": 8, "validation": 4}  # images; below that nothing can be learnt or calibrated


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of records. `left_out` says how many images went nowhere, and why."""

    protocol: str
    seed: int
    train: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]
    left_out: dict[str, int]

    def fingerprints(self) -> dict[str, str]:
        """One hash a part, over the content hashes of its images."""
        return {part: fingerprint(r.sha256 for r in getattr(self, part)) for part in PARTS}

    def summary(self) -> str:
        sick = sum(record.label == "sick" for record in self.test)
        return (
            f"{self.protocol} protocol: {len(self.train)} training, {len(self.validation)} "
            f"validation, {len(self.test)} test images ({sick} sick)"
            + "".join(f"; {count} left out: {why}" for why, count in self.left_out.items())
        )

    def manifest(self) -> dict[str, Any]:
        """Plain values for JSON and for the checkpoint."""
        rows = {
            part: [[record.path, record.sha256] for record in getattr(self, part)] for part in PARTS
        }
        return {
            "protocol": self.protocol,
            "seed": self.seed,
            **rows,
            "left_out": self.left_out,
            "fingerprints": self.fingerprints(),
        }


def split(catalog: Catalog, config: DataConfig, seed: int) -> Split:
    """Divide a catalogue by the configured protocol; the same seed gives the same split.

    Raises `DataError` when the folder has no test split of its own (`official`) or too few
    patients to divide.
    """
    has_own_test = {r.label for r in catalog.records if r.source_split == "test"} == {
        "normal",
        "sick",
    }
    protocol = config.protocol
    if protocol == "auto":
        protocol = "official" if has_own_test else "pooled"
    if protocol == "official" and not has_own_test:
        raise DataError(
            f"{catalog.root}: no test split with normal and sick images in the folder; "
            "use data.protocol=pooled"
        )
    divide = _official if protocol == "official" else _pooled
    result = divide(catalog, config, np.random.default_rng(seed), seed)
    for part, fewest in FEWEST.items():
        if len(getattr(result, part)) < fewest:
            raise DataError(
                f"{catalog.root}: {len(getattr(result, part))} normal images left for {part}; "
                f"expected at least {fewest} (patients are told apart by the file name up to its "
                "first number)"
            )
    return result


def from_manifest(manifest: dict[str, Any], catalog: Catalog) -> Split:
    """Rebuild a split from its manifest; labels and patients come from the catalogue alone.

    Raises `LeakError` when an entry's content is not what the folder holds under that path,
    or when the entries do not add up to the manifest's own fingerprints.
    """
    try:
        by_hash = {record.sha256: record for record in catalog.records}
        parts = {
            part: tuple(_resolve(path, sha256, by_hash) for path, sha256 in manifest[part])
            for part in PARTS
        }
        result = Split(
            manifest["protocol"], manifest["seed"], **parts, left_out=dict(manifest["left_out"])
        )
        stated = dict(manifest["fingerprints"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a split manifest ({type(error).__name__}: {error})") from None
    if result.fingerprints() != stated:
        changed = [part for part in PARTS if result.fingerprints()[part] != stated.get(part)]
        raise LeakError(f"the split manifest was changed by hand in {', '.join(changed)}")
    return result


def read_manifest(file: Path) -> dict[str, Any]:
    """What stands in a file, for `from_manifest`."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file}: not a split manifest ({error})") from None


def _resolve(path: str, sha256: str, by_hash: dict[str, Record]) -> Record:
    record = by_hash.get(sha256)
    if record is None:
        raise LeakError(
            f"{path}: listed in the split, but the data set holds no image with that content; "
            "the data changed since the run began"
        )
    if record.path != path:
        raise LeakError(f"{path}: the split lists it with the content of {record.path}")
    return record


def _official(catalog: Catalog, config: DataConfig, rng: np.random.Generator, seed: int) -> Split:
    test = [record for record in catalog.records if record.source_split == "test"]
    normals = [r for r in catalog.of("normal") if r.source_split != "test"]
    kept, left_out = _without_patients_of([*test, *catalog.of("sick")], normals)
    given = [r for r in kept if r.source_split == "val"]
    drawn, train = _draw_patients(
        [r for r in kept if r.source_split != "val"], config.validation_fraction, rng
    )
    shared = {r.patient for r in given}  # a patient of the folder's val split trains nobody
    validation = given + drawn + [r for r in train if r.patient in shared]
    train = [r for r in train if r.patient not in shared]
    return Split("official", seed, tuple(train), tuple(validation), tuple(test), left_out)


def _pooled(catalog: Catalog, config: DataConfig, rng: np.random.Generator, seed: int) -> Split:
    kept, left_out = _without_patients_of(catalog.of("sick"), catalog.of("normal"))
    test, rest = _draw_patients(kept, config.test_fraction, rng)
    validation, train = _draw_patients(rest, config.validation_fraction, rng)
    sick = catalog.of("sick")
    chosen = rng.permutation(len(sick))[: len(test)]
    test += [sick[i] for i in sorted(chosen)]
    return Split("pooled", seed, tuple(train), tuple(validation), tuple(test), left_out)


def _without_patients_of(
    forbidden: Iterable[Record], records: Sequence[Record]
) -> tuple[list[Record], dict[str, int]]:
    patients = {record.patient for record in forbidden}
    kept = [record for record in records if record.patient not in patients]
    dropped = len(records) - len(kept)
    reason = "normal images of a patient who is also sick or in the test"
    return kept, {reason: dropped} if dropped else {}


def _draw_patients(
    records: Sequence[Record], fraction: float, rng: np.random.Generator
) -> tuple[list[Record], list[Record]]:
    """Draw whole patients until `fraction` of the images is reached; (drawn, rest)."""
    by_patient: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_patient[record.patient].append(record)
    drawn: list[Record] = []
    rest: list[Record] = []
    for patient in rng.permutation(sorted(by_patient)):
        target = drawn if len(drawn) < round(fraction * len(records)) else rest
        target.extend(by_patient[str(patient)])
    return sorted(drawn, key=_path), sorted(rest, key=_path)


def _path(record: Record) -> str:
    return record.path
