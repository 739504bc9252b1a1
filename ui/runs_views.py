"""The Runs tab in HTML: the table of all jobs, and everything about one of them.

Pure functions from jobs, histories and results to text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from jobs.sweeps import SWEEP
from jobs.views import JobView, Status
from medvae.engine.labels import WORDS
from ui.history import RunHistory
from ui.meanings import AUROC, BEST_LOSS
from ui.pictures import figure_uri
from ui.places import Place
from ui.plots import short
from ui.views import (
    NO_VALUE,
    badge,
    count,
    data_name,
    duration,
    interval,
    link,
    moment,
    notice,
    panel,
    percent,
    progress_bar,
    tile,
    tiles,
)

KIND_WORDS = {
    "train": "Training",
    "evaluate": "Evaluation",
    "import": "Import",
    "score": "Scoring of an archive",
    SWEEP: "Sweep",
}
FIGURES = (
    ("report_card.png", "Report card", "wide"),
    ("roc.png", "ROC curves", "half"),
    ("scores.png", "Scores of healthy and sick test images", "half"),
)


CHOOSE = (
    "Choose one for its curves, figures, report card and files. <i>compare</i> then lays others "
    "beside it."
)


@dataclass(frozen=True)
class Row:
    """A job, with what it told, for the table."""

    job: JobView
    history: RunHistory
    in_use: bool = False  # the model that the Detect tab uses
    runs: Sequence["Row"] = ()  # of a sweep
    parts: Mapping[Status, int] = field(default_factory=dict)  # of a scoring: how many stand where
    opened: bool = False  # whether the runs of the sweep are listed below it

    @property
    def best_loss(self) -> float | None:
        """The lowest loss on healthy validation images, so far or of the finished model."""
        known = (self.job.result or {}).get("best_validation_loss")
        if known is None and self.history.best is not None:
            return self.history.best.validation_loss
        return None if known is None else float(known)

    @property
    def progress(self) -> str:
        """How far it is: "3 of 20" epochs, runs or parts."""
        job = self.job
        if job.kind == SWEEP:
            ended = sum(row.job.status.ended for row in self.runs)
            return f"{ended} of {count(len(self.runs), 'run')}"
        if self.parts:
            total = sum(self.parts.values())
            return f"{self.parts.get(Status.SUCCEEDED, 0)} of {count(total, 'part')}"
        if job.kind != "train":
            return NO_VALUE
        planned = (job.config or {}).get("training", {}).get("epochs")
        done = max(self.history.epochs, default=0)
        return f"{done} of {count(planned, 'epoch')}" if planned else NO_VALUE


def runs_table(
    rows: Sequence[Row], chosen: str, compare: Callable[[Row], str], filtered: bool = False
) -> str:
    """The jobs in the order given; each name is a link to its details.

    compare: the link that puts a run beside the chosen one.
    """
    if not rows and filtered:
        return notice("No such runs", "No job fits the filter; clear it to see all.")
    if not rows:
        go = link(Place("train"), "Train tab")
        return notice("No runs yet", f"Queue a training on the {go}; it is listed here at once.")
    listed = [each for row in rows for each in ((row, *row.runs) if row.opened else (row,))]
    nested = {run.job.id for row in rows for run in row.runs}
    body = "".join(
        _row(row, row.job.id == chosen, row.job.id in nested, compare(row)) for row in listed
    )
    hint = "" if chosen else f'<p class="meta hint">{CHOOSE}</p>'
    return (
        '<div class="panel scroll" tabindex="0" role="region" aria-label="Runs">'
        '<table class="runs" id="runs-table"><thead><tr>'
        "<th>Name</th><th>Status</th><th>Data</th>"
        '<th class="number">Progress</th><th class="number" '
        f'title="{BEST_LOSS}">Best validation loss</th>'
        f'<th class="number" title="{AUROC}">AUROC [95 %]</th>'
        '<th class="number">Duration</th><th>Queued</th><td></td>'
        f"</tr></thead><tbody>{body}</tbody></table></div>{hint}"
    )


def heading(row: Row) -> str:
    """What job this is, and how it stands; its name is in a field of its own."""
    job = row.job
    use = '<span class="badge in-use">used by Detect</span>' if row.in_use else ""
    kind = KIND_WORDS.get(job.kind, job.kind)
    on = f" on {escape(data_name(job.config))}" if job.config else ""
    ran = "running for" if job.status is Status.RUNNING else "ran"
    error = f'<p class="error" role="alert">{escape(job.error)}</p>' if job.error else ""
    again = ""
    if job.config and job.kind == "train":
        again = f". {link(Place('train', origin=job.id), 'Train with these settings')}"
    return (
        f'<header class="run-head"><h2 class="hidden-heading">{escape(job.name)}</h2>'
        f'{badge(job)}{use}<p class="meta">{kind}{on}, queued {moment(job.created)}, {ran} '
        f"{duration(job.seconds)}, id {escape(job.id)}{again}</p>{error}</header>"
    )


def figures(row: Row) -> str:
    """What came of it: of an evaluation, of a scoring; or why there is nothing."""
    job = row.job
    if job.kind == "score":
        return scoring(row)
    evaluation = (job.result or {}).get("evaluation")
    return evaluation_figures(evaluation) if evaluation else _not_evaluated(job)


def scoring(row: Row) -> str:
    """How far the scoring of an archive is, then what it counted and where the tables are."""
    job, result = row.job, row.job.result or {}
    wanted = job.payload
    of = f'<p class="meta">Images of <code>{escape(str(wanted.get("source")))}</code></p>'
    if "images" not in result:
        done, total = row.parts.get(Status.SUCCEEDED, 0), sum(row.parts.values())
        if not total:
            return panel("Archive", of + '<p class="meta">Not cut into parts yet.</p>')
        bar = progress_bar("Parts scored", done, total)
        return panel("Archive", f"{of}<p>{done:,} of {count(total, 'part')} scored</p>{bar}")
    shown = tiles(
        tile("Images", f"{result['images']:,}", "Files that were found, one row of the table each"),
        tile(
            "Called unusual",
            f"{result['unusual']:,}",
            "Images whose score lies above the threshold of the model",
        ),
        tile(
            "Not readable",
            f"{result['unreadable']:,}",
            "Their rows say why; they have no score",
        ),
        tile("Model", str(result["model"]), "Run and the beginning of the file's SHA-256"),
    )
    files = "".join(f"<li><code>{escape(str(file))}</code></li>" for file in result["files"])
    tables = panel("Tables", f'<ul class="files">{files}</ul>')
    return f'<div class="details">{panel("Archive", of)}{shown}{tables}</div>'


def records(job: JobView, folder: Path) -> str:
    """What does not change any more: pictures of the evaluation, and settings."""
    home = folder.parent / job.payload["run"] if "run" in job.payload else folder
    return f'<div class="details">{_pictures(home, folder)}{_settings(job.config)}</div>'


def evaluation_figures(evaluation: dict[str, Any]) -> str:
    """The figures of an evaluation, always with intervals and the trivial baselines."""
    score = evaluation["score"]
    fpr = evaluation["target_fpr"]
    images = f"{evaluation['normal_images']:,} healthy, {evaluation['sick_images']:,} sick"
    shown = tiles(
        tile("AUROC", interval(evaluation["auroc"][score]), AUROC),
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
            NO_VALUE if evaluation["threshold"] is None else short(evaluation["threshold"]),
            f"Set on healthy validation images alone, so that {percent(fpr)} of them exceed it.",
        ),
        tile("Test images", images, f"{evaluation['protocol']} split of {evaluation['data']}"),
    )
    comparison = _ranking(evaluation["auroc"], score) + _confusion(evaluation["confusion"])
    return f'<div class="details">{shown}<div class="comparison">{comparison}</div></div>'


def _row(row: Row, is_chosen: bool, is_nested: bool, compare: str) -> str:
    job = row.job
    evaluation = (job.result or {}).get("evaluation")
    auroc = interval(evaluation["auroc"][evaluation["score"]]) if evaluation else NO_VALUE
    took = NO_VALUE if job.seconds is None else duration(job.seconds)
    best = NO_VALUE if row.best_loss is None else short(row.best_loss)
    protocol = f" <small>{escape(evaluation['protocol'])}</small>" if evaluation else ""
    mark = ' <span class="badge in-use">in use</span>' if row.in_use else ""
    place = Place("runs", job.id)
    return (
        f"<tr{' aria-selected=true' if is_chosen else ''}{' class=nested' if is_nested else ''}"
        f' data-href="{escape(place.url)}">'
        f'<td class="lead">{link(place, job.name)}{mark}</td>'
        f'<td data-label="Status">{badge(job)}</td>'
        f'<td data-label="Data">{escape(data_name(job.config))}{protocol}</td>'
        f'<td class="number" data-label="Progress">{row.progress}</td>'
        f'<td class="number" data-label="Best loss">{best}</td>'
        f'<td class="number" data-label="AUROC [95 %]">{auroc}</td>'
        f'<td class="number" data-label="Took">{took}</td>'
        f'<td data-label="Queued">{moment(job.created)}</td><td>{compare}</td></tr>'
    )


def _ranking(aurocs: dict[str, dict[str, float]], deciding: str) -> str:
    """Every score and baseline as a dot with its interval, on one scale from 0 to 1."""
    ordered = sorted(aurocs.items(), key=lambda entry: -entry[1]["value"])
    rows = "".join(
        f"<tr{' class=deciding' if name == deciding else ''}>"
        f"<th>{escape(WORDS.get(name, name))}</th>"
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
            f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(setting_value(value))}</dd>"
            for name, value in values.items()
        )
        + "</dl></div>"
        for section, values in config.items()
    )
    body = f'<div class="settings">{sections}</div>'
    return f'<details class="panel"><summary>Settings</summary>{body}</details>'


def setting_value(value: Any) -> str:
    """A setting for people."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
