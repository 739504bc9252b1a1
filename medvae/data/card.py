"""A data card: what an imported data set holds, where it is from, and whether it is fit to use."""

from collections import Counter
from pathlib import Path

from medvae.atomic import replacing
from medvae.config import DataConfig
from medvae.data.cache import ImageSet, cache_folder
from medvae.data.catalog import fingerprint, open_data
from medvae.data.layouts import find_layout
from medvae.data.survey import audit
from medvae.workspace import Workspace

CARD = "data_card.md"
SHOWN = 20  # unreadable files that are named
UNSTATED = "not stated; ask whoever gave you the images"


def write_card(
    config: DataConfig, images: ImageSet, workspace: Workspace, seed: int, source: str = ""
) -> Path:
    """Write the card beside the decoded images and return its place.

    source: where the images are from and under which licence, if the layout does not tell.
    """
    root = images.catalog.root
    size = images.pixels.shape[-1]
    file = cache_folder(root, config, size, workspace) / CARD
    layout = find_layout(config, root, open_data(config, root))
    stated = source or (layout.source if layout else "") or UNSTATED
    lines = [
        f"# {root.name}",
        "",
        f"- Layout: {layout.name if layout else 'label folders'}",
        f"- Source and licence: {stated}",
        f"- {images.catalog.summary()}",
        *_counts(images),
        f"- Split and leak audit: {_audit(config, images, seed)}",
        f"- Fingerprint of all contents: `{fingerprint(r.sha256 for r in images.catalog.records)}`",
    ]
    if images.catalog.unreadable:
        lines += ["", "Unreadable:", ""]
        lines += [f"- {why}" for why in list(images.catalog.unreadable.values())[:SHOWN]]
    with replacing(file) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _audit(config: DataConfig, images: ImageSet, seed: int) -> str:
    found = audit(config, images, seed)
    return f"{'passed; ' if found.passed else 'not fit to train on: '}{found.statement}"


def _counts(images: ImageSet) -> list[str]:
    records = images.catalog.records
    by_place = Counter((record.source_split or "unsplit", record.label) for record in records)
    lines = [f"- {part}, {label}: {n:,} images" for (part, label), n in sorted(by_place.items())]
    marked = sum(bool(record.boxes) for record in records)
    return [*lines, f"- with boxes around findings: {marked:,} images"] if marked else lines
