"""What the page and the command line call: submit, follow, stop, retry, resume, delete jobs.

Knows nothing of gradio and starts no torch. Every refusal is a `JobError` of one line.
"""

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NoReturn

from jobs.attempt import EVENTS, LOG
from jobs.queue import close_queue, open_queue, queue_url
from jobs.store import Store, database_url
from jobs.sweeps import MOST_RUNS, SWEEP, SweepPlan, Trial, ranked, told
from jobs.tasks import attach, recover
from jobs.views import JobView, Status, WorkerView
from medvae.config import Config
from medvae.data.download import check_public_set
from medvae.engine.attempts import MODEL, resume_points
from medvae.engine.events import Event, Stop, from_record
from medvae.engine.score_request import PLAN, ScoreRequest
from medvae.errors import DataError, JobError, MedVAEError
from medvae.workspace import Workspace

_OPEN = (Status.QUEUED, Status.RUNNING)
_UNFINISHED = (Status.FAILED, Status.CANCELLED)
_TRASH = "trash-"  # begins the name of a folder of files that a retry removes


class JobService:
    """Stateless, so any number of pages and threads may share one, or each have their own."""

    def __init__(
        self, workspace: Workspace, database: str | None = None, queue: str | None = None
    ) -> None:
        """URLs: by default what the environment says, else SQLite files in the workspace."""
        self._workspace = workspace
        self._store = Store(database or database_url(workspace))
        self._queue = open_queue(queue or queue_url(workspace))
        self._nudge = attach(self._queue, _only_workers_take)

    def close(self) -> None:
        close_queue(self._queue)
        self._store.close()

    # Submitting

    def submit(
        self,
        config: Config | None,
        kind: str = "train",
        *,
        name: str | None = None,
        priority: int = 0,
        parent: str | None = None,
        payload: dict[str, Any] | None = None,
    ) -> str:
        """Queue a job behind those of the same or higher priority; returns its id.

        Every worker must see the data set under the same path; one that is not there is refused.
        """
        _refuse_missing_data(config)
        job_id = self._store.add(
            kind,
            name=name,
            config=None if config is None else config.model_dump(),
            payload=payload,
            parent=parent,
            priority=priority,
        )
        self._nudge(job_id)
        self._settle(parent)
        return job_id

    def submit_import(self, config: Config) -> str:
        """Decode and look through a data set, or draw one; returns the job's id."""
        root = config.data.root
        what = f"{config.data.phantoms:,} phantoms" if root is None else PurePath(root).name
        return self.submit(config, "import", name=f"Import of {what}")

    def submit_download(self, name: str) -> str:
        """Fetch a public data set (`PUBLIC_SETS`), then do as `submit_import`; returns the id."""
        check_public_set(name)
        return self.submit(None, "import", name=f"Download of {name}", payload={"download": name})

    def submit_evaluation(self, run_id: str, data: str | None = None) -> str:
        """Evaluate a finished run's model on its own test images, or on those in folder `data`."""
        run = self.job(run_id)
        if not (self._workspace.run_folder(run_id) / MODEL).is_file():
            raise JobError(f"job {run_id} has no finished model to evaluate ({run.status.value})")
        payload = {"run": run_id, "data": data}
        name = f"Evaluation of {run.name}"
        return self.submit(None, "evaluate", name=name, parent=run_id, payload=payload)

    def submit_sweep(
        self, config: Config, plan: SweepPlan, *, name: str | None = None, priority: int = 0
    ) -> str:
        """Queue a run for each combination of values to try; returns the id of their parent."""
        _refuse_missing_data(config)
        title = name or f"Sweep of {', '.join(key.partition('.')[2] for key in plan.space)}"
        runs = [
            {
                "kind": "train",
                "name": f"{title}: {told(changes)}",
                "config": changed.model_dump(),
                "payload": {"changes": changes},
                "priority": priority,
            }
            for changes, changed in plan.configs(config)
        ]
        parent = {"kind": SWEEP, "name": title, "config": config.model_dump()}
        sweep_id, *run_ids = self._store.add_family({**parent, "payload": plan.payload()}, runs)
        for run_id in run_ids:
            self._nudge(run_id)
        return sweep_id

    def submit_score(
        self, request: ScoreRequest, *, name: str | None = None, priority: int = 0
    ) -> str:
        """Score every image of a folder or list into one Parquet and one CSV; returns the job's id.

        The model is copied when a worker begins. Every worker must see the files under the same
        paths. `parts` tells how far it is.
        """
        request = request.checked()
        title = name or f"Scores of {request.source.name}"
        payload = dict(request.to_plain())
        return self.submit(None, "score", name=title, priority=priority, payload=payload)

    def import_bundle(self, archive: Path) -> str:
        """Take over a run that was exported elsewhere; returns its id. Raises `BundleError`.

        Nothing of it is run, and it is listed only when all of it was checked.
        """
        from medvae.engine.bundle import install, open_bundle  # late: it starts torch

        bundle = open_bundle(archive)
        evaluation = None if bundle.evaluation is None else bundle.evaluation.to_json()
        job_id = self._store.add_finished(
            bundle.history,
            kind="train",
            name=" ".join(bundle.run.split())[:100],
            config=bundle.config.model_dump(),
            payload={"imported": archive.name},
            result={
                "best_epoch": bundle.content["best_epoch"],
                "best_validation_loss": bundle.content["best_validation_loss"],
                "evaluation": evaluation,
            },
        )
        try:
            install(bundle, job_id, self._workspace.run_folder(job_id))
        except (MedVAEError, OSError):
            self.delete(job_id)
            raise
        return job_id

    def clone(self, job_id: str) -> str:
        """A new job that does what an old one did, from its start; returns its id."""
        old = self.job(job_id)
        config = None if old.config is None else Config.parse(old.config, f"job {job_id}")
        name = f"{old.name} (copy)"
        if old.kind == SWEEP and config is not None:
            return self.submit_sweep(config, SweepPlan.from_payload(old.payload), name=name)
        return self.submit(config, old.kind, name=name, parent=old.parent, payload=old.payload)

    # Looking

    def job(self, job_id: str) -> JobView:
        return self._store.job(job_id)

    def jobs(
        self, limit: int = 50, statuses: Sequence[Status] = (), parent: str | None = None
    ) -> list[JobView]:
        """The newest first. Parts, and the runs of a sweep, are listed only with their parent."""
        return self._store.jobs(limit, statuses, parent)

    def ranking(self, sweep_id: str) -> list[Trial]:
        """The runs of a sweep, the best first; see `jobs.sweeps` for what they are ranked by."""
        if self.job(sweep_id).kind != SWEEP:
            raise JobError(f"job {sweep_id} is no sweep")
        return ranked(self._runs_of(sweep_id))

    def parts(self, job_id: str) -> dict[Status, int]:
        """How many parts of a job stand where; empty for a job that is not split."""
        return self._store.parts(job_id)

    def follow(
        self, job_id: str, after_seq: int = 0, limit: int = 5000
    ) -> tuple[JobView, list[tuple[int, Event]]]:
        """The job as it is now, and its events after a number, at most `limit`, oldest first."""
        view = self.job(job_id)
        if view.last_seq <= after_seq:
            return view, []
        events = []
        for seq, record in self._store.events.after(job_id, after_seq, limit):
            try:
                events.append((seq, from_record(record)))
            except (KeyError, TypeError):  # written by another version of the program
                continue
        return view, events

    def queue_position(self, job_id: str) -> int | None:
        """1 = next in line; None when the job does not wait."""
        return self._store.queue_position(job_id)

    def line(self) -> list[JobView]:
        """The waiting jobs, the next one first; the parts of a job are not told one by one."""
        return self._store.line()

    def waiting(self) -> int:
        """How many jobs are in line."""
        return self._store.waiting()

    def workers(self) -> list[WorkerView]:
        return self._store.roster.workers()

    def log_file(self, job_id: str) -> Path:
        """Where the log of a job is, once it has begun."""
        return self._workspace.job_folder(self.job(job_id).id) / LOG

    # Changing

    def stop(self, job_id: str, stop: Stop = Stop.CANCEL) -> JobView:
        """Ask a running job to end; a waiting one is cancelled at once. A sweep: all its runs."""
        if self.job(job_id).kind == SWEEP:
            return self._for_all(job_id, "stop", _OPEN, lambda run: self.stop(run, stop))
        if stop is Stop.CANCEL:
            # First those whom nobody would hear: waiting, or left by a worker that died.
            view = (
                self._store.cancel_idle(job_id)
                or self._store.request_stop(job_id, stop)
                or self._store.cancel_idle(job_id)  # it went back into the line in between
            )
        else:
            view = self._store.request_stop(job_id, stop)
            if view is None and stop is Stop.KEEP:
                view = self._store.cancel_idle(job_id)
        if view is None:
            self._refuse(job_id, "stop")
        if view.status is Status.CANCELLED:
            self._store.cancel_parts(job_id)
            self._settle(view.parent)
        return view

    def retry(self, job_id: str) -> JobView:
        """Do a failed or cancelled job again from its start; only its logs are kept.

        Of a sweep, those of its runs that failed or were cancelled.
        """
        if self.job(job_id).kind == SWEEP:
            return self._for_all(job_id, "retry", _UNFINISHED, self.retry)
        trash = self._workspace.job_folder(job_id) / f"{_TRASH}{secrets.token_hex(4)}"
        view = self._requeue(job_id, "retry", discard=lambda: self._set_aside(job_id, trash))
        self._remove(job_id, trash)
        return view

    def resume(self, job_id: str) -> JobView:
        """Go on with a failed or cancelled job from its last resume point.

        Of a sweep, those of its runs that failed or were cancelled; without one, from their start.
        """
        if self.job(job_id).kind == SWEEP:
            return self._for_all(job_id, "resume", _UNFINISHED, self._resume_or_retry)
        if self.job(job_id).status not in (Status.FAILED, Status.CANCELLED):
            self._refuse(job_id, "resume")
        if not self.has_resume_point(job_id):
            raise JobError(f"job {job_id} has no resume point to go on from: retry it instead")
        return self._requeue(job_id, "resume")

    def has_resume_point(self, job_id: str) -> bool:
        """Whether `resume` has something to go on from."""
        folder = self._workspace.job_folder(job_id)
        return bool(resume_points(folder)) or (folder / PLAN).is_file()

    def move_first(self, job_id: str) -> JobView:
        """Make a waiting job the next in line."""
        return self._store.move_first(job_id) or self._refuse(job_id, "move")

    def move(self, job_id: str, *, earlier: bool) -> JobView:
        """Let a waiting job change places with the one before or after it, if there is one."""
        line = [job.id for job in self.line()]
        if job_id not in line:
            self._refuse(job_id, "move")
        place = line.index(job_id) + (-1 if earlier else 1)
        if 0 <= place < len(line) and not self._store.change_places(job_id, line[place]):
            self._refuse(job_id, "move")
        return self.job(job_id)

    def rename(self, job_id: str, name: str) -> JobView:
        title = " ".join(name.split())
        if not title:
            raise JobError("a job needs a name that can be read")
        return self._store.rename(job_id, title) or self._refuse(job_id, "rename")

    def delete(self, job_id: str) -> None:
        """Remove a job that does not run, and its folder; a promoted model is a copy and stays.

        A sweep goes with all its runs.
        """
        job = self.job(job_id)
        if job.kind == SWEEP and job.status.ended:
            for run in self._runs_of(job_id):
                self.delete(run.id)
        if not self._store.delete(job_id):
            if self.parts(job_id).get(Status.RUNNING):
                raise JobError(f"cannot delete job {job_id} yet: parts of it still run")
            self._refuse(job_id, "delete")
        self._settle(job.parent)
        self._remove(job_id, self._workspace.job_folder(job_id))

    def recover(self) -> None:
        """Queue the jobs of dead workers again and send lost nudges; for the start of a page."""
        recover(self._store, self._nudge, older_than=0)

    def worker_died(self, pid: int) -> None:
        """A worker process of this machine is known to be dead: do not wait for its leases."""
        dead = self._store.roster.bury(socket.gethostname(), pid)
        self._store.expire(dead)
        recover(self._store, self._nudge, older_than=0)

    # Within

    def _runs_of(self, sweep_id: str) -> list[JobView]:
        return self._store.jobs(MOST_RUNS, parent=sweep_id)

    def _for_all(
        self,
        sweep_id: str,
        verb: str,
        statuses: Sequence[Status],
        act: Callable[[str], object],
    ) -> JobView:
        """Do the same to every run of a sweep that is in one of these states."""
        chosen = [run for run in self._runs_of(sweep_id) if run.status in statuses]
        if not chosen:
            self._refuse(sweep_id, verb)
        for run in chosen:
            with contextlib.suppress(JobError):  # it has changed its state meanwhile
                act(run.id)
        self._store.families.settle(sweep_id)
        return self.job(sweep_id)

    def _resume_or_retry(self, run_id: str) -> JobView:
        return self.resume(run_id) if self.has_resume_point(run_id) else self.retry(run_id)

    def _requeue(
        self, job_id: str, verb: str, discard: Callable[[], None] | None = None
    ) -> JobView:
        view = self._store.requeue(job_id, discard=discard)
        if view is None:
            self._refuse(job_id, verb)
        self._nudge(job_id)
        self._settle(view.parent)
        return view

    def _settle(self, parent: str | None) -> None:
        if parent is not None:
            self._store.families.settle(parent)

    def _refuse(self, job_id: str, verb: str) -> NoReturn:
        """Says why the store changed nothing: no such job, or not in that state."""
        status = self.job(job_id).status
        raise JobError(f"cannot {verb} job {job_id}: it is {status.value}")

    def _set_aside(self, job_id: str, trash: Path) -> None:
        """Move all files of a job but its logs there: quick, however many there are."""
        folder = self._workspace.job_folder(job_id)
        with self._telling_of_files(job_id):
            for entry in list(folder.iterdir()) if folder.is_dir() else []:
                # Other trash is being removed by the retry that made it.
                if entry.name not in (LOG, EVENTS) and not entry.name.startswith(_TRASH):
                    trash.mkdir(exist_ok=True)
                    entry.rename(trash / entry.name)

    def _remove(self, job_id: str, folder: Path) -> None:
        with self._telling_of_files(job_id):
            if folder.is_dir():
                shutil.rmtree(folder)

    @contextlib.contextmanager
    def _telling_of_files(self, job_id: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JobError(f"cannot remove the files of job {job_id}: {error}") from None


def _refuse_missing_data(config: Config | None) -> None:
    root = None if config is None else config.data.root
    if root is not None and not os.path.exists(root):  # noqa: PTH110 (Path's may raise)
        raise DataError(f"{root}: no such folder or file; expected a data set")


def _only_workers_take(job_id: str) -> None:
    raise JobError(f"job {job_id} reached a process that is no worker")
