"""What can be done with a run on the Runs tab: what is possible when, and the handlers that do it.

Handlers are plain functions; every refusal is a message on the page.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from jobs.sweeps import SWEEP
from jobs.views import Status
from medvae.engine.attempts import MODEL
from medvae.errors import JobError
from ui.context import Context, told
from ui.permission import allowed
from ui.run_files import find_file
from ui.runs_views import Row

UNFINISHED = (Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True)
class Actions:
    """Whether to offer each; the order is that of the buttons."""

    use: bool = False
    keep: bool = False
    resume: bool = False
    retry: bool = False
    first: bool = False
    copy: bool = False
    cancel: bool = False
    delete: bool = False
    export: bool = False


def possible_actions(context: Context, row: Row | None) -> Actions:
    """What may be done with a job in the state it is in."""
    if row is None:
        return Actions()
    job = row.job
    has_model = (context.workspace.job_folder(job.id) / MODEL).is_file()
    running = job.status is Status.RUNNING and job.stop is None
    again = job.status in UNFINISHED or any(each.job.status in UNFINISHED for each in row.runs)
    finished = job.kind == "train" and job.status is Status.SUCCEEDED and has_model
    learnt = any(each.history.epochs for each in (row, *row.runs))
    return Actions(
        use=finished and not row.in_use,
        keep=running and learnt,
        resume=again and (job.kind == SWEEP or context.service.has_resume_point(job.id)),
        retry=again,
        first=job.status is Status.QUEUED,
        copy=job.status.ended,
        cancel=running or job.status is Status.QUEUED,
        delete=job.status is not Status.RUNNING,
        export=finished,
    )


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
def rename_run(context: Context, run: str, name: str) -> None:
    context.service.rename(run, name)


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


@told
@allowed("operator")
def export_bundle(context: Context, offered: gr.DownloadButton, run: str) -> str:
    """The run as one ZIP, handed out in the same way."""
    from medvae.engine.bundle import export_run

    folder = context.workspace.job_folder(context.service.job(run).id)
    with tempfile.TemporaryDirectory() as scratch:
        archive = export_run(folder, Path(scratch) / f"{run}.zip")
        return str(offered.move_resource_to_block_cache(str(archive)))


@told
@allowed("operator")
def import_bundle(context: Context, uploaded: str | None) -> str:
    """Take over an uploaded bundle; returns the new run."""
    if not uploaded:
        raise JobError("no bundle was chosen; expected a ZIP that an export wrote")
    run = context.service.import_bundle(Path(uploaded))
    gr.Info(f"Imported as {run}.")
    return run
