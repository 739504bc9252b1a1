"""The Train tab: choose data and settings, queue a run, and watch it learn.

What is shown follows from the URL's run and the event table alone, so a page may come and go.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.sweeps import MOST_RUNS, SWEEP
from jobs.views import JobView, Status
from medvae.engine.events import Stop
from medvae.errors import JobError
from ui.context import Context, patient, told
from ui.permission import allowed
from ui.run_files import log_tail
from ui.theme import canvas
from ui.train_form import build_train_form
from ui.train_views import curves, film, nothing_yet, run_status, unknown_run
from ui.views import log_panel

PERIOD = 1.0
LOOKED_THROUGH = 200  # jobs, for the newest training among them


def build_train_tab(
    context: Context, page: gr.Blocks, tab: gr.Tab, run: gr.Textbox, origin: gr.Textbox
) -> None:
    """The form at the left, the run at the right.

    `run` and `origin` are named by the URL: the one to follow, the one whose settings to take.
    """
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=0, min_width=340, elem_classes="controls"):
            build_train_form(context, page, tab, run, origin)
        with gr.Column(scale=1, min_width=320, elem_id="live"):
            status = canvas(elem_id="run-status")
            with gr.Row(elem_classes="actions"):
                keep = gr.Button("Stop and keep", elem_id="stop-keep", visible=False)
                cancel = gr.Button("Cancel run", elem_id="cancel", visible=False)
            charts = canvas(elem_id="curves")
            with gr.Row(elem_classes="chart-switches", visible=False) as switches:
                logarithmic = gr.Checkbox(False, label="Logarithmic scale", elem_id="log-scale")
                smooth = gr.Checkbox(False, label="Smooth the lines", elem_id="smooth")
            strip = canvas(elem_id="film")
            with gr.Accordion("Log", open=False, visible=False, elem_id="train-log") as about:
                log = canvas(elem_id="train-log-text")
    seen = gr.Textbox("", visible=False)
    shown = gr.Textbox("", visible=False)  # the run on display, which the URL need not name
    live: dict[str, Any] = {
        "fn": partial(follow_run, context),
        "inputs": [run, logarithmic, smooth, seen],
        "outputs": [status, keep, cancel, charts, switches, strip, about, log, shown, seen],
        "show_progress": "hidden",
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    gr.Timer(PERIOD).tick(**live)
    tab.select(**live)
    run.change(**live)
    logarithmic.input(**live)
    smooth.input(**live)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    keep.click(partial(stop_run, context, Stop.KEEP), shown, **quiet).then(**live)
    cancel.click(
        partial(stop_run, context, Stop.CANCEL), shown, js="medvae.confirmCancel", **quiet
    ).then(**live)


@told
@allowed("operator")
def stop_run(context: Context, stop: Stop, run: str) -> None:
    """An empty run is a question that was answered with no."""
    if run:
        context.service.stop(run, stop)


@patient
def follow_run(context: Context, run: str, logarithmic: bool, smooth: bool, seen: str) -> Any:
    """What has changed on display, in the order of the outputs; at the end the run and a token."""
    try:
        job = _run_of(context, run) if run else newest_run(context)
    except StoreUnavailable:
        raise
    except JobError:
        return _if_new(seen, f"unknown {run}", unknown_run(run))
    if job is None:
        return _if_new(seen, "nothing", nothing_yet())
    history = context.histories.of(job)
    has_worker = any(worker.alive for worker in context.service.workers())
    position = context.service.queue_position(job.id)
    status = run_status(job, history, position, has_worker)
    log = log_tail(context.service, job)
    lines = f"{len(history.epochs)} {max(history.epochs, default=0)} {logarithmic} {smooth}"
    tokens = [
        f"{job.id} {hash(status)}",
        f"{job.id} {lines}",
        f"{job.id} {max(history.samples, default=0)}",
        f"{job.id} {hash(log)}",
    ]
    if tokens == seen.split("|"):
        return gr.skip()
    known = [*seen.split("|"), "", "", "", ""]
    new = [token != old for token, old in zip(tokens, known, strict=False)]
    waiting = job.status is Status.QUEUED
    stoppable = waiting or (job.status is Status.RUNNING and job.stop is None)
    return (
        status,
        gr.Button(visible=stoppable and not waiting and bool(history.epochs)),
        gr.Button(visible=stoppable),
        curves(history, logarithmic, smooth) if new[1] else gr.skip(),
        gr.Row(visible=bool(history.epochs)),
        film(history) if new[2] else gr.skip(),
        gr.Accordion(visible=bool(log)),
        log_panel(log) if new[3] else gr.skip(),
        job.id,
        "|".join(tokens),
    )


def newest_run(context: Context) -> JobView | None:
    """The training that runs, else the next in line, else the one that ended last."""
    service = context.service
    for job in _trainings(service.jobs(LOOKED_THROUGH, [Status.RUNNING])):
        runs = service.jobs(1, [Status.RUNNING], parent=job.id) if job.kind == SWEEP else [job]
        if runs:  # of a sweep, all may still wait
            return runs[0]
    waiting = next((job for job in service.line() if job.kind == "train"), None)
    if waiting is not None:
        return waiting
    newest = next(_trainings(service.jobs(LOOKED_THROUGH)), None)
    return None if newest is None else _run_of(context, newest.id)


def _trainings(jobs: list[JobView]) -> Iterator[JobView]:
    return (job for job in jobs if job.kind in ("train", SWEEP))


def _run_of(context: Context, job_id: str) -> JobView | None:
    """The job itself, or the run of a sweep that there is most to see of."""
    job = context.service.job(job_id)
    if job.kind != SWEEP:
        return job
    return _most_alive(context, context.service.jobs(MOST_RUNS, parent=job_id))


def _most_alive(context: Context, jobs: list[JobView]) -> JobView | None:
    """Of jobs, the newest first: the one that runs, else the next in line, else the last."""
    running = [job for job in jobs if job.status is Status.RUNNING]
    if running:
        return running[0]
    names = {job.id for job in jobs if job.status is Status.QUEUED}
    waiting = [job for job in context.service.line() if job.id in names] if names else []
    return next(iter([*waiting, *jobs]), None)


def _if_new(seen: str, token: str, text: str) -> Any:
    """A page without a run: only words."""
    if seen == token:
        return gr.skip()
    hidden = gr.Button(visible=False)
    none = gr.Row(visible=False)
    return text, hidden, hidden, "", none, "", gr.Accordion(visible=False), "", "", token
