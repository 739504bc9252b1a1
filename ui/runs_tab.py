"""The Runs tab: every job with its figures, and what can be done with each.

The chosen run is the one in the URL.
"""

from functools import partial
from typing import Any

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.views import JobView, Status
from medvae.engine.events import Stop
from medvae.errors import JobError
from ui.context import Context, patient, told
from ui.runs_views import Row, figures, heading, records, runs_table
from ui.theme import canvas
from ui.train_tab import stop_run
from ui.train_views import curves, unknown_run

PERIOD = 2.0
LISTED = 100
MODEL = "best.pth"


def build_runs_tab(context: Context, tab: gr.Tab, run: gr.Textbox) -> None:
    """The table above, the chosen run with its buttons below."""
    table = canvas(elem_id="runs")
    head = canvas(elem_id="run-head")
    with gr.Row(elem_classes="actions"):
        use = gr.Button("Use this model for Detect", variant="primary", elem_id="use-model")
        keep = gr.Button("Stop and keep", elem_id="run-stop-keep")
        resume = gr.Button("Resume", elem_id="run-resume")
        retry = gr.Button("Retry from the start", elem_id="run-retry")
        cancel = gr.Button("Cancel run", elem_id="run-cancel")
        delete = gr.Button("Delete", elem_id="run-delete")
    about = [
        canvas(elem_id="run-figures"),
        canvas(elem_id="run-curves"),
        canvas(elem_id="run-records"),
    ]
    seen = gr.Textbox("", visible=False)

    buttons = [use, keep, resume, retry, cancel, delete]
    live: dict[str, Any] = {
        "fn": partial(show_runs, context),
        "inputs": [run, seen],
        "outputs": [table, head, *about, *buttons, seen],
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
    cancel.click(
        partial(stop_run, context, Stop.CANCEL), run, js="medvae.confirmCancel", **quiet
    ).then(**live)
    delete.click(partial(delete_run, context), run, run, js="medvae.confirmDelete", **quiet).then(
        None, run, None, js="(run) => medvae.show({ run })", show_progress="hidden"
    ).then(**live)


@patient
def show_runs(context: Context, run: str, seen: str) -> Any:
    """Table, heading, three parts of details, six buttons, a token; only what is new since that."""
    rows = list_rows(context)
    chosen = next((row for row in rows if row.job.id == run), None) or _older(context, run)
    parts = [runs_table(rows, run), *_about(context, chosen, run)]
    tokens = [str(hash(part)) for part in parts]
    known = seen.split("|")
    if tokens == known:
        return gr.skip()
    known += [""] * len(parts)
    return (
        *(gr.skip() if t == k else part for part, t, k in zip(parts, tokens, known, strict=False)),
        *(gr.Button(visible=possible) for possible in possible_actions(context, chosen)),
        "|".join(tokens),
    )


def list_rows(context: Context) -> list[Row]:
    used = context.model.look().run
    return [
        Row(job, context.histories.of(job), job.id == used) for job in context.service.jobs(LISTED)
    ]


def possible_actions(context: Context, row: Row | None) -> list[bool]:
    """Whether to offer: use, stop and keep, resume, retry, cancel, delete."""
    if row is None:
        return [False] * 6
    job = row.job
    folder = context.workspace.run_folder(job.id)
    running = job.status is Status.RUNNING and job.stop is None
    again = job.status in (Status.FAILED, Status.CANCELLED)
    finished = job.kind == "train" and job.status is Status.SUCCEEDED
    return [
        finished and not row.in_use and (folder / MODEL).is_file(),
        running and bool(row.history.epochs),
        again and (folder / "last.pth").is_file(),
        again,
        running or job.status is Status.QUEUED,
        job.status is not Status.RUNNING,
    ]


@told
def use_model(context: Context, run: str) -> None:
    """Make the run's model the one that Detect uses."""
    from medvae.engine.checkpoint import promote

    promote(context.workspace.run_folder(run) / MODEL, context.workspace)
    context.model.detector()
    gr.Info(f"Detect now uses the model of {run}.")


@told
def retry_run(context: Context, run: str) -> None:
    context.service.retry(run)


@told
def resume_run(context: Context, run: str) -> None:
    context.service.resume(run)


@told
def delete_run(context: Context, run: str) -> Any:
    """Returns the run to show then: none. An empty run is a question answered with no."""
    if not run:
        return gr.skip()
    context.service.delete(run)
    return ""


def _about(context: Context, chosen: Row | None, run: str) -> tuple[str, str, str, str]:
    """Heading, figures, curves and records of the chosen run."""
    if chosen is None:
        return unknown_run(run) if run else "", "", "", ""
    job = chosen.job
    folder = context.workspace.run_folder(job.id)
    return heading(chosen), figures(job), curves(chosen.history), records(job, folder)


def _older(context: Context, run: str) -> Row | None:
    """A run that the table is too short for."""
    try:
        job: JobView = context.service.job(run)
    except StoreUnavailable:
        raise
    except JobError:
        return None
    return Row(job, context.histories.of(job), job.id == context.model.look().run)
