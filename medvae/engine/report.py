"""The evaluation as one HTML page with everything in it."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from medvae.atomic import replacing
from medvae.data.baselines import BASELINES
from medvae.engine.audit import Audit
from medvae.engine.detection_files import side_by_side
from medvae.engine.detector import AnomalyDetector, Detection
from medvae.engine.evaluation import Evaluation, TestScores
from medvae.engine.labels import WORDS
from medvae.engine.scores import DEFAULT_SCORE

MISTAKES = 10
NOTICE = "Research use only. Not a medical device; not for diagnosis."
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1f2933}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #dde3e9}td+td,th+th{text-align:right}img{max-width:100%}"
    "figure{margin:1rem 0}figcaption{color:#52606d}"
)


def write_report(
    path: Path,
    detector: AnomalyDetector,
    evaluation: Evaluation,
    tested: TestScores,
    audit: Audit,
    mistakes: Sequence[Detection],
    plots: Sequence[Path],
) -> Path:
    """One file to open in any browser: pictures are embedded, nothing is loaded. Returns `path`.

    mistakes: of `most_confident_mistakes`. plots: PNG files, shown in this order.
    """
    card = detector.card
    body = [
        f"<h1>Evaluation of {escape(card.run)}</h1><p><b>{NOTICE}</b></p>",
        f"<p>{escape(_protocol(evaluation, card.validation_images))}</p>",
        "<h2>Figures</h2>" + _table(("figure", "value, 95 % interval"), _figures(evaluation)),
        "<h2>Every score beside the trivial baselines</h2>" + _scores(evaluation),
        "".join(_figure(_embedded(plot.read_bytes())) for plot in plots),
        "<h2>Other machines, films and archives</h2>" + _shifts(audit),
        "<h2>Shortcuts</h2>" + _shortcuts(audit),
        f"<h2>The {len(mistakes)} most confident mistakes</h2>" + _mistakes(mistakes, tested),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Evaluation of {escape(card.run)}</title><style>{STYLE}</style>"
        f"{''.join(body)}</html>"
    )
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def most_confident_mistakes(
    detector: AnomalyDetector, pixels: np.ndarray, tested: TestScores
) -> list[Detection]:
    """The wrongly judged test images farthest from the threshold, the worst first.

    pixels: (N, S, S) uint8, in the order of `tested`.
    """
    threshold = detector.calibration.threshold(DEFAULT_SCORE, detector.config.detection.target_fpr)
    beyond = tested.values[DEFAULT_SCORE] - threshold
    wrong = np.flatnonzero((beyond > 0) != tested.sick)
    worst = wrong[np.argsort(-np.abs(beyond[wrong]), kind="stable")][:MISTAKES]
    return list(detector.detect_inputs(list(pixels[worst]), [tested.names[i] for i in worst]))


def _protocol(evaluation: Evaluation, validation_images: int) -> str:
    return (
        f"{evaluation.data}, {evaluation.protocol} split: {evaluation.normal_images} healthy and "
        f"{evaluation.sick_images} sick test images of {evaluation.patients} patients. Threshold "
        f"from {validation_images} healthy validation images at {evaluation.target_fpr:.0%} false "
        "positives. Intervals: bootstrap over patients."
        + "".join(f" {count} left out: {why}." for why, count in evaluation.left_out.items())
    )


def _figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    return [
        ("AUROC", str(evaluation.auroc[evaluation.score])),
        ("Average precision", str(evaluation.average_precision[evaluation.score])),
        ("Balanced accuracy", str(evaluation.balanced_accuracy)),
        ("Sensitivity", str(evaluation.sensitivity)),
        ("Specificity", str(evaluation.specificity)),
        ("Precision of calling every image sick", f"{evaluation.all_positive_precision:.3f}"),
    ]


def _scores(evaluation: Evaluation) -> str:
    rows = [
        (
            WORDS[name],
            str(evaluation.auroc[name]),
            str(evaluation.average_precision[name]),
        )
        for name in evaluation.auroc
    ]
    return _table(("score", "AUROC", "average precision"), rows)


def _shifts(audit: Audit) -> str:
    rows = [
        (name, f"{s.auroc:.3f}", f"{s.auroc_both:.3f}", f"{s.false_positives:.1%}")
        for name, s in audit.shifts.items()
    ]
    head = ("healthy images changed by", "AUROC", "AUROC, sick ones changed too", "called unusual")
    return _table(head, rows)


def _shortcuts(audit: Audit) -> str:
    baselines = ", ".join(f"{name} {audit.matched_auroc[name]:.3f}" for name in BASELINES)
    rows = [
        ("Evidence outside the chest", f"{audit.outside_share:.1%}"),
        ("The same before the chest field", f"{audit.outside_share_raw:.1%}"),
        (
            "AUROC with the borders of all images black",
            f"{audit.shifts['border 5 %'].auroc_both:.3f}",
        ),
        (
            f"AUROC on {audit.matched_pairs} pairs of like brightness and sharpness",
            f"{audit.matched_auroc[DEFAULT_SCORE]:.3f} ({baselines})",
        ),
    ]
    return _table(("question", "answer"), rows)


def _mistakes(mistakes: Sequence[Detection], tested: TestScores) -> str:
    sick = dict(zip(tested.names, tested.sick, strict=True))
    return "".join(
        _figure(
            _png(side_by_side(one)),
            f"{one.name}: labelled {'sick' if sick[one.name] else 'healthy'}, "
            f"score {one.score:.2f}, p = {one.p_value:.3f}",
        )
        for one in mistakes
    )


def _figure(source: str, caption: str = "") -> str:
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(caption)}">{words}</figure>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _png(pixels: np.ndarray) -> str:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return _embedded(buffer.getvalue())


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
