"""Results as files to keep: a table, pictures, the report card. Made in memory, written nowhere.

Every file says which model made it, when, and that it is for research only.
"""

import base64
import csv
import io
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageDraw

from medvae.engine.overlay import heat_overlay
from ui.looking import Look, Unreadable
from ui.results import Results, judged
from ui.views import NOTICE, interval

CARD_IMAGES = 5  # of a report card
_MARGIN = 22  # pixels below a picture, for its label


@dataclass(frozen=True)
class Download:
    """A file as a data URI."""

    name: str
    uri: str

    @classmethod
    def of(cls, name: str, kind: str, data: bytes) -> "Download":
        """kind: the MIME type."""
        return cls(name, f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")


def score_csv(results: Results, target_fpr: float) -> Download:
    """All images, one row each, with verdicts at this target; unreadable ones with their reason."""
    seen = next((look for look in results.looks if isinstance(look, Look)), None)
    scores = list(seen.detection.scores) if seen else []
    columns = ["image", "label", "verdict", "p_value", *scores, "target_fpr", "model", "made"]
    text = io.StringIO()
    table = csv.DictWriter(text, [*columns, "warning", "error", "notice"], restval="")
    table.writeheader()
    common = {"model": results.model.run, "made": _made(results), "notice": NOTICE}
    for look in results.looks:
        table.writerow(_csv_row(look, target_fpr, results.threshold(target_fpr)) | common)
    return Download.of(_name(results, "scores", "csv"), "text/csv", text.getvalue().encode())


def picture_zip(results: Results, picked: Sequence[int]) -> Download:
    """The chosen images' overlays as PNG, each with a line that says what it is."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number, look in enumerate(results.picked(picked), 1):
            stem = PurePath(look.detection.name).stem
            archive.writestr(f"{number:03d}-{stem}.png", _labelled(results, look))
    return Download.of(_name(results, "heatmaps", "zip"), "application/zip", data.getvalue())


def report_cards(
    results: Results, picked: Sequence[int], target_fpr: float
) -> tuple[Download, Download]:
    """The card of the first chosen images, with verdicts at this target, as PNG and as PDF."""
    from medvae.engine.report_card import draw_report_card

    model = results.model
    auroc = model.metrics["auroc"][model.metrics["score"]] if model.metrics else None
    threshold = results.threshold(target_fpr)
    detections = [
        replace(look.detection, target_fpr=target_fpr, threshold=threshold)
        for look in results.picked(picked)[:CARD_IMAGES]
    ]
    with tempfile.TemporaryDirectory() as folder:
        png, pdf = (
            draw_report_card(
                detections,
                Path(folder) / f"card.{kind}",
                model.run,
                f"images shown on the page, {_made(results)}",
                interval(auroc) if auroc else "not evaluated",
            ).read_bytes()
            for kind in ("png", "pdf")
        )
    return (
        Download.of(_name(results, "report-card", "png"), "image/png", png),
        Download.of(_name(results, "report-card", "pdf"), "application/pdf", pdf),
    )


def _csv_row(look: Look | Unreadable, target_fpr: float, threshold: float) -> dict[str, object]:
    if isinstance(look, Unreadable):
        return {"image": _plain(look.name), "error": _plain(look.reason)}
    detection = look.detection
    _, verdict = judged(detection.p_value <= target_fpr, threshold)
    return {
        "image": _plain(detection.name),
        "label": look.truth or "",
        "verdict": "" if detection.warning else verdict.lower(),
        "warning": detection.warning,
        "p_value": f"{detection.p_value:.6f}",
        "target_fpr": target_fpr,
        **{name: f"{value:.6g}" for name, value in detection.scores.items()},
    }


def _plain(text: str) -> str:
    """A file may be named like a formula; a spreadsheet must not run it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _labelled(results: Results, look: Look) -> bytes:
    detection = look.detection
    heat = heat_overlay(look.original, detection.anomaly_map, detection.pixel_threshold)
    below = np.zeros((_MARGIN, heat.shape[1], 3), np.uint8)
    picture = Image.fromarray(np.concatenate([heat, below]))
    words = f"{results.model.run}, {_made(results)}, p = {detection.p_value:.3f}. Research only."
    ImageDraw.Draw(picture).text((6, heat.shape[0] + 5), words, fill=(190, 200, 210))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def _name(results: Results, what: str, ending: str) -> str:
    day = datetime.fromtimestamp(results.made).strftime("%Y-%m-%d")
    return f"{what}-{results.model.run}-{day}.{ending}"


def _made(results: Results) -> str:
    return datetime.fromtimestamp(results.made).strftime("%Y-%m-%d %H:%M")
