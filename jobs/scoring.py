"""Scoring an archive as a job: the parent plans, its parts score a shard each, the parent merges.

Payload of the parent: a `ScoreRequest`; of a part: `shard`. The work itself is
`medvae.engine.archive`, in the parent's folder.
"""

from functools import lru_cache
from pathlib import Path

from jobs.assignment import Assignment, Outcome
from medvae.engine import archive
from medvae.engine.archive_plan import SHARDS, Archive, plan_archive
from medvae.engine.detector import AnomalyDetector
from medvae.engine.events import OnEvent, ShouldStop, Stop, Stopped
from medvae.engine.score_request import ScoreRequest
from medvae.errors import JobError


def score_archive(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Plan and hand out the shards; when they are done, merge them.

    A shard that a part left undone is scored here, so that its trouble becomes this job's error.
    """
    job, folder = assignment.job, assignment.folder
    try:
        request = ScoreRequest.from_plain(job.payload)
        plan = Archive.open(folder) or plan_archive(folder, request, on_event, should_stop)
        missing = plan.missing()
        if len(missing) > 1 and job.result is None:
            # Named after the folder of the shards, which then holds their logs too.
            return Outcome(parts={f"{SHARDS}/{n:06d}": {"shard": n} for n in missing})
        detector = _detector(plan, assignment.device)
        return Outcome(archive.finish_archive(plan, detector, on_event, should_stop))
    except Stopped as request_to_stop:
        return _stopped(request_to_stop)


def score_shard(assignment: Assignment, should_stop: ShouldStop) -> Outcome:
    """Do one part; its result is a file in the parent's folder."""
    job = assignment.job
    plan = Archive.open(assignment.workspace.run_folder(job.parent or ""))
    if plan is None:
        raise JobError(f"job {job.parent} has lost its plan: retry it")
    try:
        archive.score_shard(
            plan, job.payload["shard"], _detector(plan, assignment.device), should_stop
        )
    except Stopped as request_to_stop:
        return _stopped(request_to_stop)
    return Outcome()


def _stopped(request: Stopped) -> Outcome:
    """There is no keeping half of a table: the request to keep is one to cancel."""
    return Outcome(stopped=Stop.PAUSE if request.stop is Stop.PAUSE else Stop.CANCEL)


def _detector(plan: Archive, device: str | None) -> AnomalyDetector:
    return _load(plan.model, plan.model_sha256, device or "auto")


@lru_cache(maxsize=1)
def _load(model: Path, sha256: str, device: str) -> AnomalyDetector:
    """Once for all shards of a family that this worker takes."""
    return AnomalyDetector.load(model, device)
