"""A data card: what an imported data set holds, where it is from, and whether it is fit to use."""

from pathlib import Path

from medvae.atomic import replacing
from medvae.data.survey import Survey

CARD = "data_card.md"
SHOWN = 20  # unreadable files that are named


def write_card(survey: Survey, folder: Path) -> Path:
    """Write the card of a set into the folder of its decoded images, and return its place."""
    lines = [
        f"# {Path(survey.root).name}",
        "",
        f"- Layout: {survey.layout}",
        f"- Source and licence: {survey.source}",
        f"- {survey.images('normal')} normal and {survey.images('sick')} sick images of "
        f"{survey.distinct_patients} patients; {survey.duplicates} duplicates dropped, "
        f"{survey.unreadable} unreadable",
        *_counts(survey),
        f"- Split and leak audit: {_audit(survey)}",
        f"- Fingerprint of all contents: `{survey.fingerprint}`",
    ]
    if survey.unreadable_files:
        lines += ["", "Unreadable:", ""]
        lines += [f"- {why}" for why in list(survey.unreadable_files.values())[:SHOWN]]
    file = folder / CARD
    with replacing(file) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _audit(survey: Survey) -> str:
    audit = survey.audit
    return f"{'passed; ' if audit.passed else 'not fit to train on: '}{audit.statement}"


def _counts(survey: Survey) -> list[str]:
    lines = [
        f"- {part}, {label}: {number:,} images"
        for part, labels in sorted(survey.counts.items())
        for label, number in labels.items()
    ]
    if survey.boxed:
        lines.append(f"- with boxes around findings: {survey.boxed:,} images")
    return lines
