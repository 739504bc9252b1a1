"""What an imported data set holds and whether it is fit to train on, as plain values on disk.

Made once after an import and kept beside the decoded images, so that a page need not look again.
"""

import io
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medvae.atomic import replacing
from medvae.config import DataConfig
from medvae.data.cache import INDEX, ImageSet, cache_folder
from medvae.data.catalog import Catalog, fingerprint, open_data
from medvae.data.decode import FORMATS
from medvae.data.layouts import Label, find_layout, stated_source
from medvae.data.leak_guard import check_no_leak
from medvae.data.splits import split
from medvae.errors import DataError
from medvae.workspace import Workspace

SURVEY, MEAN, SAMPLES = "survey.json", "mean-{label}.png", "samples-{label}.png"
SAMPLE_ROWS, SAMPLE_COLUMNS = 2, 6
LISTED = 100  # duplicates and unreadable files that are named; all are counted
LABELS: tuple[Label, ...] = ("normal", "sick")
UNSPLIT, UNKNOWN = "not split", "unknown"
UNSTATED = "not stated; ask whoever gave you the images"
CHUNK = 1024
READERS = 8

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Audit:
    """Whether a run may train on the set. `statement` says why not, or how it would be split."""

    passed: bool
    statement: str
    evidence: dict[str, int]  # what was compared → how often; empty if it did not come to that


@dataclass(frozen=True)
class Survey:
    """One data set. Counts are of images, unless said otherwise."""

    root: str
    image_size: int  # side of the decoded images
    data: dict[str, Any]  # the DataConfig that it was imported with
    seed: int  # of the split that was audited
    counts: dict[str, dict[str, int]]  # the folder's own split → label → images
    patients: dict[str, int]  # label, or "both" → patients
    duplicates: int
    duplicate_pairs: list[list[str]]  # the first of them: dropped, kept
    unreadable: int
    unreadable_files: dict[str, str]  # the first of them: path → reason
    sizes: dict[str, int]  # "1024 × 768" → files
    audit: Audit
    layout: str = ""  # by which table or folders its labels are known
    source: str = ""  # where the images are from, and under which licence
    fingerprint: str = ""  # of all contents
    boxed: int = 0  # images with boxes around findings
    made: float = 0.0  # seconds since 1970
    outdated: bool = False  # images were read anew since

    def images(self, label: Label) -> int:
        return sum(labels[label] for labels in self.counts.values())

    @property
    def distinct_patients(self) -> int:
        return self.patients["normal"] + self.patients["sick"] - self.patients["both"]


def make_survey(
    config: DataConfig,
    images: ImageSet,
    workspace: Workspace,
    seed: int,
    on_progress: OnProgress,
    source: str = "",
) -> Path:
    """Look through an imported set, write what was found beside it, and return that folder.

    `on_progress(done, total)` counts files whose size is read. source: where the images are from
    and under which licence, if their layout does not tell.
    """
    catalog, side = images.catalog, images.pixels.shape[-1]
    folder = cache_folder(catalog.root, config, side, workspace)
    layout = find_layout(config, catalog.root, open_data(config, catalog.root))
    found = Survey(
        root=str(catalog.root),
        image_size=side,
        data=config.model_dump(),
        seed=seed,
        counts=_counts(catalog),
        patients=_patients(catalog),
        duplicates=len(catalog.duplicates),
        duplicate_pairs=[list(pair) for pair in catalog.duplicates[:LISTED]],
        unreadable=len(catalog.unreadable),
        unreadable_files=dict(list(catalog.unreadable.items())[:LISTED]),
        sizes=_sizes(config, catalog, on_progress),
        audit=audit(config, images, seed),
        layout=layout.name if layout else "label folders",
        source=source or stated_source(catalog.root, layout) or _own_source(config),
        fingerprint=fingerprint(record.sha256 for record in catalog.records),
        boxed=sum(bool(record.boxes) for record in catalog.records),
    )
    for label in LABELS:
        _write_pictures(images, label, folder, seed)
    with replacing(folder / SURVEY) as partial:
        partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return folder


def read_survey(folder: Path) -> Survey:
    """Raises `DataError` when there is none, or another version wrote it."""
    file = folder / SURVEY
    try:
        made = file.stat().st_mtime
        known = {
            "made": made,
            "outdated": (folder / INDEX).stat().st_mtime > made,
        }
        values = json.loads(file.read_text(encoding="utf-8"))
        return Survey(**{**values, "audit": Audit(**values["audit"]), **known})
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(f"{folder.name}: not looked through yet; import it again") from None


def surveyed_folders(workspace: Workspace) -> list[Path]:
    """Of every surveyed set, the newest first."""
    files = workspace.processed.glob(f"*/{SURVEY}")
    return [file.parent for file in sorted(files, key=_modified, reverse=True)]


def audit(config: DataConfig, images: ImageSet, seed: int) -> Audit:
    """Split the set as a run would, and let the leak guard look at it."""
    try:
        divided = split(images.catalog, config, seed)
        evidence = check_no_leak(divided, images)
    except DataError as error:
        return Audit(False, str(error), {})
    return Audit(True, divided.summary(), asdict(evidence))


def _own_source(config: DataConfig) -> str:
    return "drawn by this program" if config.root is None else UNSTATED


def _counts(catalog: Catalog) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for record in catalog.records:
        labels = found.setdefault(record.source_split or UNSPLIT, {"normal": 0, "sick": 0})
        labels[record.label] += 1
    return found


def _patients(catalog: Catalog) -> dict[str, int]:
    normal, sick = ({r.patient for r in catalog.of(label)} for label in ("normal", "sick"))
    return {"normal": len(normal), "sick": len(sick), "both": len(normal & sick)}


def _sizes(config: DataConfig, catalog: Catalog, on_progress: OnProgress) -> dict[str, int]:
    """From the files' headers alone; a format that Pillow does not know counts as unknown."""
    root, store = catalog.root, open_data(config, catalog.root)

    def size(path: str) -> str:
        try:
            source = root / path if root.is_dir() else io.BytesIO(store.read(path))
            with Image.open(source, formats=FORMATS) as image:
                return f"{image.width} × {image.height}"
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return UNKNOWN

    found: Counter[str] = Counter()
    with ThreadPoolExecutor(READERS) as pool:
        paths = [record.path for record in catalog.records]
        for done, name in enumerate(pool.map(size, paths), start=1):
            found[name] += 1
            on_progress(done, len(paths))
    return dict(found.most_common())


def _write_pictures(images: ImageSet, label: Label, folder: Path, seed: int) -> None:
    """The mean of a class, and a few of its images drawn by the seed; none of an empty class."""
    rows = [record.row for record in images.catalog.of(label)]
    if not rows:
        return
    total = np.zeros(images.pixels.shape[1:])
    for start in range(0, len(rows), CHUNK):
        total += images.pixels[rows[start : start + CHUNK]].sum(axis=0, dtype=np.float64)
    _write_gray(np.rint(total / len(rows)), folder / MEAN.format(label=label))
    drawn = np.random.default_rng(seed).permutation(rows)[: SAMPLE_ROWS * SAMPLE_COLUMNS]
    side = images.pixels.shape[-1]
    grid = np.zeros((SAMPLE_ROWS, side, SAMPLE_COLUMNS, side), np.uint8)
    for place, row in enumerate(drawn):
        grid[place // SAMPLE_COLUMNS, :, place % SAMPLE_COLUMNS] = images.pixels[row]
    _write_gray(
        grid.reshape(SAMPLE_ROWS * side, SAMPLE_COLUMNS * side),
        folder / SAMPLES.format(label=label),
    )


def _write_gray(pixels: np.ndarray, file: Path) -> None:
    with replacing(file) as partial:
        Image.fromarray(pixels.astype(np.uint8)).save(partial, "PNG")


def _modified(file: Path) -> int:
    return file.stat().st_mtime_ns
