"""A run in HTML while it goes on: status, bars, curves, and the film of reconstructions.

Pure functions from a job and its history to text; the Runs tab draws with them too.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from jobs.views import JobView, Status
from ui.history import RunHistory
from ui.meanings import (
    AUROC,
    BEST_LOSS,
    BUSY,
    EPOCH,
    KL,
    LOSS,
    MEMORY,
    RECONSTRUCTION,
    SPEED,
    WAITING,
)
from ui.pictures import film_frames
from ui.places import Place
from ui.plots import Line, Title, line_chart, short
from ui.views import badge, count, data_name, duration, interval, link, notice, progress_bar

FILM_FRAMES = 10  # epochs shown: the first, the newest, and evenly between


def run_status(job: JobView, history: RunHistory, position: int | None, has_worker: bool) -> str:
    """What the run is doing at this moment, with bars."""
    line, bars = doing(job, history, position, has_worker)
    meta = [data_name(job.config)] if job.config else []
    if history.started:
        started = history.started
        meta.append(f"{started.train_images:,} healthy images to learn from")
        meta.append(f"{started.validation_images:,} to check")
        meta.append(f"{started.device}, {started.precision}")
    if job.attempt > 1:
        meta.append(f"attempt {job.attempt}")
    details = link(Place("runs", job.id), job.name)
    return (
        f'<section class="panel run-status" data-status="{job.status.value}">'
        f"<header><h2>{details}</h2>{badge(job)}</header>"
        f'<p class="line">{line}</p>{bars}'
        f'<p class="meta">{escape("  ·  ".join(meta))}</p></section>'
    )


def doing(
    job: JobView, history: RunHistory, position: int | None, has_worker: bool
) -> tuple[str, str]:
    """One line of words and the bars for the state of a job."""
    if job.status is Status.QUEUED:
        return _waiting(position, has_worker), ""
    if job.status is Status.FAILED:
        retry = link(Place("runs", job.id), "Retry it on the Runs tab")
        return f'<span class="error">{escape(job.error or "failed")}</span> {retry}.', ""
    if job.status is Status.CANCELLED:
        return f"Cancelled after {duration(job.seconds)}.", ""
    if job.status is Status.SUCCEEDED:
        return _finished(job, history), ""
    preparing = history.preparing
    if preparing is not None:
        return _preparing(preparing.stage, preparing.done, preparing.total)
    if history.progress is None:
        return "Starting", progress_bar("Run", 0, 1)
    return _learning(history)


def curves(history: RunHistory, logarithmic: bool = False, smooth: bool = False) -> str:
    """Reconstruction, KL and total loss by epoch; empty before the first epoch has ended."""
    epochs = [history.epochs[number] for number in sorted(history.epochs)]
    if not epochs:
        return ""
    best = history.best.epoch if history.best else None

    def line(style: str, name: str) -> Line:
        drawn = Line("training" if style == "train" else style, style, [
            (epoch.epoch, getattr(epoch, name)) for epoch in epochs
        ])  # fmt: skip
        return drawn.smoothed() if smooth else drawn

    def chart(title: Title, name: str, marked: int | None = None) -> str:
        lines = [line("train", name), line("validation", f"validation_{name}")]
        return line_chart(title, lines, marked, logarithmic)

    charts = (
        chart(Title("Reconstruction", "sum over pixels", RECONSTRUCTION), "mse"),
        chart(Title("KL divergence", "nats", KL), "kld"),
        chart(Title("Loss", "lowest validation is kept", LOSS), "loss", best),
    )
    return f'<div class="charts">{"".join(charts)}</div>'


def film(history: RunHistory) -> str:
    """The same healthy validation images, rebuilt after each epoch."""
    frames = []
    originals: list[str] = []
    for epoch in _chosen(sorted(history.samples)):
        found = film_frames(Path(history.samples[epoch]))
        if found:
            originals, rebuilt = found
            frames.append(_column(f"epoch {epoch}", rebuilt))
    if not frames:
        return ""
    return (
        '<section class="panel"><h2>How it rebuilds a healthy chest</h2><p class="meta">Images '
        "that it does not learn from, and what it makes of them after each epoch.</p>"
        f'<div class="film">{_column("input", originals)}{"".join(frames)}</div></section>'
    )


def nothing_yet() -> str:
    return notice(
        "Nothing has been trained yet",
        "Choose a data set and press <b>Queue training</b>. You can watch it learn here, close "
        "the page, and come back: the training goes on.",
        "<b>Quick</b> on phantoms takes about a minute and shows what it is all about.",
    )


def unknown_run(run: str) -> str:
    latest = link(Place("train"), "Show the newest run")
    return notice(
        "No such run",
        f"There is no run named <b>{escape(run)}</b> on the list. It was deleted, or trained in "
        f"the terminal without <code>--queue</code>. {latest}.",
    )


def _waiting(position: int | None, has_worker: bool) -> str:
    if not has_worker:
        return "Waiting: no worker is there yet to take it."
    if position is None or position <= 1:
        return "Waiting: next in line."
    return f"Waiting: number {position} in line."


def _preparing(stage: str, done: int, total: int) -> tuple[str, str]:
    if total <= 1:
        return escape(stage), progress_bar(stage, 1, 1, "unknown")
    return f"{escape(stage)}: {done:,} of {total:,}", progress_bar(stage, done, total)


def _learning(history: RunHistory) -> tuple[str, str]:
    now = history.progress
    assert now is not None
    steps = now.steps_per_epoch
    parts = [
        _told(f"<b>Epoch {now.epoch} of {now.epochs}</b>", EPOCH),
        _told(f"step {now.step} of {steps}", EPOCH),
        _told(f"{short(now.images_per_second)} images/s", SPEED),
        f"{duration(now.seconds_left)} left",
    ]
    device = [
        None if now.busy is None else _told(f"Device busy {100 * now.busy:.0f} %", BUSY),
        None
        if now.waiting is None
        else _told(f"waits for images {100 * now.waiting:.0f} %", WAITING),
        None if now.memory_mb is None else _told(f"{now.memory_mb:,.0f} MB of memory", MEMORY),
    ]
    done = (now.epoch - 1) * steps + now.step
    bars = progress_bar("Run", done, now.epochs * steps)
    bars += progress_bar("Epoch", now.step, steps, "thin")
    told = "  ·  ".join(filter(None, device))
    return "  ·  ".join(parts), bars + (f'<p class="meta device">{told}</p>' if told else "")


def _told(words: str, meaning: str) -> str:
    return f'<span title="{meaning}">{words}</span>'


def _finished(job: JobView, history: RunHistory) -> str:
    result = job.result or {}
    parts = [f"Finished after {duration(job.seconds)}"]
    if history.ended and history.ended.stopped:
        parts[0] = f"Stopped by hand and kept, after {count(history.ended.epochs_run, 'epoch')}"
    if result.get("best_validation_loss") is not None:
        best = short(result["best_validation_loss"])
        told = f"best validation loss {best} in epoch {result['best_epoch']}"
        parts.append(_told(escape(told), BEST_LOSS))
    evaluation = result.get("evaluation")
    if evaluation:
        parts.append(_told(f"AUROC {interval(evaluation['auroc'][evaluation['score']])}", AUROC))
    use = "Detect uses it now" if result.get("promoted") else "See its figures"
    place = Place("detect") if result.get("promoted") else Place("runs", job.id)
    return "  ·  ".join(parts) + f".  {link(place, use)}."


def _chosen(epochs: Sequence[int]) -> list[int]:
    if len(epochs) <= FILM_FRAMES:
        return list(epochs)
    last = len(epochs) - 1
    return [epochs[round(i * last / (FILM_FRAMES - 1))] for i in range(FILM_FRAMES)]


def _column(caption: str, uris: Sequence[str]) -> str:
    images = "".join(
        f'<img src="{uri}" alt="image {n}, {escape(caption)}">' for n, uri in enumerate(uris, 1)
    )
    return f"<figure>{images}<figcaption>{escape(caption)}</figcaption></figure>"
