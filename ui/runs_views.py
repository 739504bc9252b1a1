"""The Runs tab in HTML: the table of all jobs, and everything about one of them.

Pure functions from jobs, histories and results to text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from jobs.views import JobView, Status
from ui.history import RunHistory
from ui.pictures import figure_uri
from ui.places import Place
from ui.plots import short
from ui.views import (
    NO_VALUE,
    badge,
    data_name,
    duration,
    interval,
    link,
    moment,
    notice,
    panel,
    percent,
    tile,
    tiles,
)

SCORE_WORDS = {
    "elbo": "MSE + beta × KLD",
    "mse": "MSE",
    "kld": "KLD",
    "brightness": "Baseline: mean brightness",
    "smoothness": "Baseline: lack of fine detail",
}
FIGURES = (
    ("report_card.png", "Report card", "wide"),
    ("roc.png", "ROC curves", "half"),
    ("scores.png", "Scores of healthy and sick test images", "half"),
)
AUROC_MEANING = (
    "Chance that a sick test image scores above a healthy one: 0.5 is guessing, 1 is perfect. "
    "In brackets the 95 % interval."
)


@dataclass(frozen=True)
class Row:
    """A job, with what it told, for the table."""

    job: JobView
    history: RunHistory
    in_use: bool  # the model that the Detect tab uses


def runs_table(rows: Sequence[Row], chosen: str) -> str:
    """All jobs, the newest first; each name is a link to its details."""
    if not rows:
        go = link(Place("train"), "Train tab")
        return notice("No runs yet", f"Queue a training on the {go}; it is listed here at once.")
    body = "".join(_row(row, row.job.id == chosen) for row in rows)
    return (
        '<div class="panel scroll"><table class="runs" id="runs-table"><thead><tr>'
        "<th>Name</th><th>Status</th><th>Data</th>"
        '<th class="number">Epochs</th><th class="number" title="Lowest mean loss on healthy '
        'validation images">Best validation loss</th>'
        f'<th class="number" title="{AUROC_MEANING}">AUROC [95 %]</th>'
        '<th class="number">Duration</th><th>Queued</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def heading(row: Row) -> str:
    """What job this is, and how it stands."""
    job = row.job
    use = '<span class="badge in-use">used by Detect</span>' if row.in_use else ""
    kind = "Training" if job.kind == "train" else job.kind.capitalize()
    on = f" on {escape(data_name(job.config))}" if job.config else ""
    ran = "running for" if job.status is Status.RUNNING else "ran"
    error = f'<p class="error" role="alert">{escape(job.error)}</p>' if job.error else ""
    return (
        f'<header class="run-head"><h2>{escape(job.name)}</h2>{badge(job)}{use}'
        f'<p class="meta">{kind}{on}, queued {moment(job.created)}, {ran} {duration(job.seconds)}'
        f"</p>{error}</header>"
    )


def figures(job: JobView) -> str:
    """What the evaluation found, or why there is none."""
    evaluation = (job.result or {}).get("evaluation")
    return evaluation_figures(evaluation) if evaluation else _not_evaluated(job)


def records(job: JobView, folder: Path) -> str:
    """What does not change any more: pictures of the evaluation, settings, files."""
    home = folder.parent / job.payload["run"] if "run" in job.payload else folder
    return (
        f'<div class="details">{_pictures(home, folder)}{_settings(job.config)}'
        f"{_files(job, folder)}</div>"
    )


def evaluation_figures(evaluation: dict[str, Any]) -> str:
    """The figures of an evaluation, always with intervals and the trivial baselines."""
    score = evaluation["score"]
    fpr = evaluation["target_fpr"]
    images = f"{evaluation['normal_images']:,} healthy, {evaluation['sick_images']:,} sick"
    shown = tiles(
        tile("AUROC", interval(evaluation["auroc"][score]), AUROC_MEANING),
        tile(
            "Sensitivity",
            interval(evaluation["sensitivity"]),
            "Share of the sick test images that the model calls unusual.",
        ),
        tile(
            "Specificity",
            interval(evaluation["specificity"]),
            "Share of the healthy test images that it does not call unusual; "
            f"{percent(1 - fpr)} was the aim.",
        ),
        tile(
            "Balanced accuracy",
            interval(evaluation["balanced_accuracy"]),
            "Mean of sensitivity and specificity: 0.5 is guessing.",
        ),
        tile(
            "Threshold",
            short(evaluation["threshold"]),
            f"Set on healthy validation images alone, so that {percent(fpr)} of them exceed it.",
        ),
        tile("Test images", images, f"{evaluation['protocol']} split of {evaluation['data']}"),
    )
    comparison = _ranking(evaluation["auroc"], score) + _confusion(evaluation["confusion"])
    return f'<div class="details">{shown}<div class="comparison">{comparison}</div></div>'


def _row(row: Row, is_chosen: bool) -> str:
    job, history = row.job, row.history
    evaluation = (job.result or {}).get("evaluation")
    auroc = interval(evaluation["auroc"][evaluation["score"]]) if evaluation else NO_VALUE
    best = (job.result or {}).get("best_validation_loss")
    if best is None and history.best is not None:
        best = history.best.validation_loss
    planned = (job.config or {}).get("training", {}).get("epochs")
    epochs = f"{max(history.epochs, default=0)} of {planned}" if planned else NO_VALUE
    mark = ' <span class="badge in-use">in use</span>' if row.in_use else ""
    place = Place("runs", job.id)
    return (
        f'<tr{" aria-selected=true" if is_chosen else ""} data-href="{escape(place.url)}">'
        f"<td>{link(place, job.name)}{mark}</td><td>{badge(job)}</td>"
        f'<td>{escape(data_name(job.config))}</td><td class="number">{epochs}</td>'
        f'<td class="number">{NO_VALUE if best is None else short(best)}</td>'
        f'<td class="number">{auroc}</td><td class="number">{duration(job.seconds)}</td>'
        f"<td>{moment(job.created)}</td></tr>"
    )


def _ranking(aurocs: dict[str, dict[str, float]], deciding: str) -> str:
    """Every score and baseline as a dot with its interval, on one scale from 0 to 1."""
    ordered = sorted(aurocs.items(), key=lambda entry: -entry[1]["value"])
    rows = "".join(
        f"<tr{' class=deciding' if name == deciding else ''}>"
        f"<th>{escape(SCORE_WORDS.get(name, name))}</th>"
        f'<td class="whisker"><span style="left:{100 * e["low"]:.1f}%;'
        f'width:{100 * (e["high"] - e["low"]):.1f}%"></span>'
        f'<i style="left:{100 * e["value"]:.1f}%"></i></td>'
        f'<td class="number">{interval(e)}</td></tr>'
        for name, e in ordered
    )
    scale = (
        '<tr><td></td><td class="scale"><span>0</span><span>0.5, guessing</span><span>1</span></td>'
        "<td></td></tr>"
    )
    rows = scale + rows
    title = "AUROC of each score, and of the trivial baselines it must beat"
    return panel(title, f'<div class="scroll"><table class="ranking">{rows}</table></div>')


def _confusion(counts: dict[str, int]) -> str:
    table = (
        '<table class="confusion"><tr><td></td><th>called unusual</th><th>not called</th></tr>'
        f"<tr><th>sick</th><td class=right>{counts['true_positives']:,}</td>"
        f"<td class=wrong>{counts['false_negatives']:,}</td></tr>"
        f"<tr><th>healthy</th><td class=wrong>{counts['false_positives']:,}</td>"
        f"<td class=right>{counts['true_negatives']:,}</td></tr></table>"
    )
    return panel("Test images at the threshold", table)


def _not_evaluated(job: JobView) -> str:
    if job.status is not Status.SUCCEEDED or job.kind != "train":
        return ""
    return '<p class="meta">Not evaluated: the data set has no sick images to test with.</p>'


def _pictures(home: Path, own: Path) -> str:
    shown = []
    for name, title, style in FIGURES:
        path = own / name if (own / name).is_file() else home / name
        uri = figure_uri(path)
        if uri:
            shown.append(
                f'<figure class="panel {style}"><figcaption>{title}</figcaption>'
                f'<img src="{uri}" alt="{title}"></figure>'
            )
    return f'<div class="pictures">{"".join(shown)}</div>' if shown else ""


def _settings(config: dict[str, Any] | None) -> str:
    if not config:
        return ""
    sections = "".join(
        f"<div><h3>{escape(section)}</h3><dl>"
        + "".join(
            f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(_value(value))}</dd>"
            for name, value in values.items()
        )
        + "</dl></div>"
        for section, values in config.items()
    )
    body = f'<div class="settings">{sections}</div>'
    return f'<details class="panel"><summary>Settings</summary>{body}</details>'


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _files(job: JobView, folder: Path) -> str:
    files = (job.result or {}).get("files") or ([str(folder)] if folder.exists() else [])
    if not files:
        return ""
    listed = "".join(f"<li><code>{escape(str(file))}</code></li>" for file in files)
    return (
        f'<details class="panel"><summary>Files</summary><ul class="files">{listed}</ul></details>'
    )
