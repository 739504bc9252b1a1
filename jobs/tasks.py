"""What travels through the queue (a job's id) and what is run for each kind of job.

Importing it does not import torch: a runner imports the science when it is called.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from jobs.assignment import Assignment, Outcome, Runner
from jobs.store import Store
from medvae.config import Config
from medvae.engine.attempts import attempt_folder
from medvae.engine.events import OnEvent, ShouldStop, Stopped

logger = logging.getLogger(__name__)

Nudge = Callable[[str], None]


def attach(queue: Any, take: Callable[[str], None]) -> Nudge:
    """Register the one task of the queue; returns what sends it. Only a worker's `take` is run."""

    @queue.task(name="take_job")  # type: ignore[untyped-decorator]
    def take_job(job_id: str) -> None:
        take(job_id)

    def nudge(job_id: str) -> None:
        try:
            take_job(job_id)
        except Exception as error:  # each queue has errors of its own, and a sweep makes up for all
            logger.warning("could not nudge a worker for job %s: %s", job_id, error)

    return nudge


def recover(store: Store, nudge: Nudge, older_than: float) -> None:
    """Queue the jobs of dead workers again and send the nudges that may be lost."""
    for job in store.reap():
        logger.warning("job %s lost its worker and is now %s", job.id, job.status.value)
    for job_id in store.sweep(older_than):
        nudge(job_id)
    store.families.settle()


def train(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    from medvae.engine.experiment import run_training

    config = Config.parse(assignment.job.config, f"job {assignment.job.id}")
    if assignment.device is not None:
        config = config.override({"training.device": assignment.device})
    run = run_training(
        config,
        assignment.folder,
        assignment.workspace,
        on_event,
        should_stop,
        attempt=attempt_folder(assignment.folder, assignment.job.attempt),
        may_publish=assignment.may_publish,
    )
    return Outcome(run.summary(), run.stopped)


def evaluate(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Payload: `run`, whose model is evaluated; `data`, a folder other than the run's own."""
    from medvae.engine.experiment import BEST, run_evaluation

    payload, workspace = assignment.job.payload, assignment.workspace
    run = run_evaluation(
        workspace.run_folder(payload["run"]) / BEST,
        workspace,
        on_event,
        should_stop,
        data=payload.get("data"),
        folder=assignment.folder if payload.get("data") else None,
    )
    return Outcome(run.summary(), run.stopped)


def import_data(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Decode a data set, or draw one, and look through it. The job's config says which.

    Payload: `download`, the name of a public set to fetch first, in place of a config.
    """
    from medvae.engine.experiment import download_images, import_and_survey

    job, workspace = assignment.job, assignment.workspace
    try:
        if "download" in job.payload:
            root = download_images(job.payload["download"], workspace, on_event, should_stop)
            config = Config().override({"data.root": str(root)})
        else:
            config = Config.parse(job.config, f"job {job.id}")
        folder = import_and_survey(config, workspace, on_event, should_stop)
    except Stopped as request:
        return Outcome(stopped=request.stop)
    return Outcome({"imported": folder.name})


def find_device(name: str | None) -> str:
    """The device that work will be done on, by its full name: `cuda` and `auto` may be `cuda:0`."""
    from medvae.device import choose_compute

    return str(choose_compute(name or "auto").device)


def score(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    from jobs.scoring import score_archive

    return score_archive(assignment, on_event, should_stop)


def score_part(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    from jobs.scoring import score_shard

    return score_shard(assignment, should_stop)


def warm_up() -> None:
    """Import what the runners need, so that the first job does not wait for it."""
    import medvae.engine.experiment  # noqa: F401


RUNNERS: Mapping[str, Runner] = {
    "train": train,
    "evaluate": evaluate,
    "import": import_data,
    "score": score,
    "score part": score_part,
}
