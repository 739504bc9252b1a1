"""The Runs tab: every job with its figures, and what can be done with each.

The chosen run is the one in the URL.
"""

from functools import partial
from typing import Any

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.sweeps import MOST_RUNS, SWEEP, ranked
from jobs.views import JobView, Status
from medvae.engine.events import Stop
from medvae.errors import JobError
from ui import runs_views as views
from ui.access import allowed
from ui.context import Context, patient, told
from ui.run_files import files_of, find_file, log_tail
from ui.runs_views import Row
from ui.sweep_views import sweep_ranking
from ui.theme import canvas
from ui.train_tab import stop_run
from ui.train_views import curves, unknown_run
from ui.views import log_panel

PERIOD = 2.0
LISTED = 100
MODEL = "best.pth"
SHOW_RUN = "(run) => medvae.show({ run })"
UNFINISHED = (Status.FAILED, Status.CANCELLED)


def build_runs_tab(context: Context, tab: gr.Tab, run: gr.Textbox) -> None:
    """The table above, the chosen run with its buttons below."""
    table = canvas(elem_id="runs")
    head = canvas(elem_id="run-head")
    with gr.Row(elem_classes="actions"):
        use = gr.Button("Use this model for Detect", variant="primary", elem_id="use-model")
        keep = gr.Button("Stop and keep", elem_id="run-stop-keep")
        resume = gr.Button("Resume", elem_id="run-resume")
        retry = gr.Button("Retry from the start", elem_id="run-retry")
        first = gr.Button("Move to the front", elem_id="run-first")
        copy = gr.Button("Run again as a copy", elem_id="run-copy")
        cancel = gr.Button("Cancel run", elem_id="run-cancel")
        delete = gr.Button("Delete", elem_id="run-delete")
    parts = [
        canvas(elem_id="run-figures"),
        canvas(elem_id="run-curves"),
        canvas(elem_id="run-records"),
    ]
    about = gr.Accordion("Log and files", open=False, visible=False, elem_id="run-files")
    with about:
        log = canvas(elem_id="run-log")
        with gr.Row(elem_classes="download"):
            name = gr.Dropdown([], label="File of this run", elem_id="run-file")
            get = gr.Button("Download", elem_id="download")
        offered = gr.DownloadButton(elem_id="offered-file", visible="hidden")
    seen = gr.Textbox("", visible=False)

    buttons = [use, keep, resume, retry, first, copy, cancel, delete]
    live: dict[str, Any] = {
        "fn": partial(show_runs, context),
        "inputs": [run, seen],
        "outputs": [table, head, *parts, log, name, about, *buttons, seen],
        "show_progress": "hidden",
        "queue": False,
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    gr.Timer(PERIOD).tick(**live)
    tab.select(**live)
    run.change(**live)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    use.click(partial(use_model, context), run, **quiet).then(**live)
    keep.click(partial(stop_run, context, Stop.KEEP), run, **quiet).then(**live)
    resume.click(partial(resume_run, context), run, **quiet).then(**live)
    retry.click(partial(retry_run, context), run, **quiet).then(**live)
    first.click(partial(move_first, context), run, **quiet).then(**live)
    copy.click(partial(copy_run, context), run, run, **quiet).then(
        None, run, None, js=SHOW_RUN, show_progress="hidden"
    ).then(**live)
    cancel.click(
        partial(stop_run, context, Stop.CANCEL), run, js="medvae.confirmCancel", **quiet
    ).then(**live)
    delete.click(partial(delete_run, context), run, run, js="medvae.confirmDelete", **quiet).then(
        None, run, None, js=SHOW_RUN, show_progress="hidden"
    ).then(**live)
    get.click(partial(hand_out, context, offered), [run, name], offered, **quiet).success(
        None, js="medvae.fetchOffered", show_progress="hidden"
    )


@patient
def show_runs(context: Context, run: str, seen: str) -> Any:
    """Table, heading, three parts of details, log, files and their frame, the buttons, a token.

    Only what is new since that token.
    """
    rows = list_rows(context, run)
    listed = [each for row in rows for each in (row, *row.runs)]
    chosen = next((row for row in listed if row.job.id == run), None) or _older(context, run)
    parts = [views.runs_table(rows, run), *_about(context, chosen, run)]
    files = list(files_of(context.workspace, chosen.job)) if chosen else []
    tokens = [str(hash(part)) for part in parts] + [str(hash(tuple(files)))]
    known = seen.split("|")
    if tokens == known:
        return gr.skip()
    known += [""] * len(tokens)
    changed = [token != old for token, old in zip(tokens, known, strict=False)]
    choices = gr.Dropdown(choices=files, value=files[0] if files else None)
    return (
        *(part if new else gr.skip() for part, new in zip(parts, changed, strict=False)),
        choices if changed[-1] else gr.skip(),
        gr.Accordion(visible=bool(chosen and files)),
        *(gr.Button(visible=possible) for possible in possible_actions(context, chosen)),
        "|".join(tokens),
    )


def list_rows(context: Context, run: str = "") -> list[Row]:
    """The newest jobs; the sweep that was chosen, or one of whose runs was, is opened."""
    return [_row(context, job, run) for job in context.service.jobs(LISTED)]


def possible_actions(context: Context, row: Row | None) -> list[bool]:
    """Whether to offer: use, stop and keep, resume, retry, move first, copy, cancel, delete."""
    if row is None:
        return [False] * 8
    job = row.job
    model = context.workspace.run_folder(job.id) / MODEL
    running = job.status is Status.RUNNING and job.stop is None
    again = job.status in UNFINISHED or any(each.job.status in UNFINISHED for each in row.runs)
    finished = job.kind == "train" and job.status is Status.SUCCEEDED
    learnt = any(each.history.epochs for each in (row, *row.runs))
    return [
        finished and not row.in_use and model.is_file(),
        running and learnt,
        again and (job.kind == SWEEP or context.service.has_resume_point(job.id)),
        again,
        job.status is Status.QUEUED,
        job.status.ended,
        running or job.status is Status.QUEUED,
        job.status is not Status.RUNNING,
    ]


@told
@allowed("operator")
def use_model(context: Context, run: str) -> None:
    """Make the run's model the one that Detect uses."""
    from medvae.engine.checkpoint import promote

    promote(context.workspace.run_folder(run) / MODEL, context.workspace)
    context.model.detector()
    gr.Info(f"Detect now uses the model of {run}.")


@told
@allowed("operator")
def retry_run(context: Context, run: str) -> None:
    context.service.retry(run)


@told
@allowed("operator")
def resume_run(context: Context, run: str) -> None:
    context.service.resume(run)


@told
@allowed("operator")
def move_first(context: Context, run: str) -> None:
    context.service.move_first(run)


@told
@allowed("operator")
def copy_run(context: Context, run: str) -> str:
    """Returns the run to show then: the new one."""
    return context.service.clone(run)


@told
@allowed("operator")
def delete_run(context: Context, run: str) -> Any:
    """Returns the run to show then: none. An empty run is a question answered with no."""
    if not run:
        return gr.skip()
    context.service.delete(run)
    return ""


@told
@allowed("operator")
def hand_out(context: Context, offered: gr.DownloadButton, run: str, name: str | None) -> str:
    """A copy of a run's file among those that Gradio serves, and removes again after a while."""
    file = find_file(context.workspace, context.service.job(run), name)
    return str(offered.move_resource_to_block_cache(str(file)))


def _row(context: Context, job: JobView, run: str = "") -> Row:
    history = context.histories.of(job)
    in_use = job.id == context.model.look().run
    if job.kind == "score":
        return Row(job, history, in_use, parts=context.service.parts(job.id))
    if job.kind != SWEEP:
        return Row(job, history, in_use)
    runs = [_row(context, each) for each in context.service.jobs(MOST_RUNS, parent=job.id)]
    opened = run == job.id or any(row.job.id == run for row in runs)
    return Row(job, history, in_use, runs, opened=opened)


def _about(context: Context, chosen: Row | None, run: str) -> tuple[str, str, str, str, str]:
    """Heading, figures, curves, records and log of the chosen run."""
    if chosen is None:
        return unknown_run(run) if run else "", "", "", "", ""
    job = chosen.job
    records = views.records(job, context.workspace.run_folder(job.id))
    if job.kind == SWEEP:
        ranking = sweep_ranking(ranked([row.job for row in chosen.runs]))
        return views.heading(chosen), ranking, "", records, ""
    log = log_panel(log_tail(context.service, job))
    return views.heading(chosen), views.figures(chosen), curves(chosen.history), records, log


def _older(context: Context, run: str) -> Row | None:
    """A run that the table is too short for."""
    try:
        job = context.service.job(run)
    except StoreUnavailable:
        raise
    except JobError:
        return None
    return _row(context, job, run)
