"""The consumer process: takes one job after the other and sees each through to an end.

Runs Huey's consumer with a single thread and never forks, because a device once started does not
survive a fork. Knows nothing of what a job does: that is the runners' business.
"""

import argparse
import importlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

from huey.consumer import Consumer

from jobs.assignment import Assignment, Outcome, Runner
from jobs.attempt import LOG, Attempt
from jobs.database import StoreUnavailable
from jobs.failures import explain
from jobs.locks import lock_device
from jobs.queue import close_queue, open_queue, queue_url
from jobs.store import PART, Store, database_url
from jobs.tasks import RUNNERS, attach, find_device, recover, warm_up
from jobs.views import JobView, Status
from medvae.engine.events import Stop
from medvae.errors import JobError, MedVAEError
from medvae.workspace import Workspace

logger = logging.getLogger(__name__)

_TICK = 0.1
_NUDGED_PARTS = 100  # of a new family; each part that ends nudges for one more
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    lease: float = 15.0  # a job whose worker is silent for this long is given to another one
    heartbeat: float = 0.5
    housekeeping: float = 2.0  # between two looks for dead workers and lost nudges
    lost_nudge: float = 5.0  # a nudge that led to nothing for this long is sent again
    grace: float = 30.0  # for the job to save itself when the worker is told to leave


class Worker:
    """One process, one device, one job at a time."""

    def __init__(
        self,
        store: Store,
        queue: Any,
        workspace: Workspace,
        *,
        runners: Mapping[str, Runner] = RUNNERS,
        device: str | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.id = f"{self.host}-{self.pid}-{secrets.token_hex(2)}"
        self._store = store
        self._queue = queue
        self._workspace = workspace
        self._runners = runners
        self._device = device
        self._timing = timing or Timing()
        self._nudge = attach(queue, self.take)
        self._job_id: str | None = None
        # Plain values: a signal handler must not wait for a lock that its own thread may hold.
        self._leaving = False
        self._signals = 0

    def take(self, job_id: str) -> None:
        """See the first job in line through; the id only says whose nudge this is."""
        if self._leaving:
            self._nudge(job_id)
            time.sleep(_TICK)  # until the consumer has heard of it too
            return
        job = self._store.claim(self.id, self._timing.lease)
        if job is not None:
            self._job_id = job.id
            try:
                self._see_through(job)
            finally:
                self._job_id = None

    def leave(self) -> None:
        """Pause the running job, hand it back and end; may be called from anywhere."""
        self._leaving = True

    def run(self) -> None:
        """Work until told to leave, by SIGTERM, SIGINT or `leave`. For the main thread only."""
        consumer = _Consumer(
            self._queue,
            workers=1,
            periodic=False,
            initial_delay=0.05,
            max_delay=0.25,
            scheduler_interval=60,
        )
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        self._keep_house(older_than=0)
        consumer.start()
        logger.info("worker %s is ready", self.id)
        due = time.monotonic() + self._timing.housekeeping
        while not self._leaving:
            time.sleep(_TICK)
            if time.monotonic() >= due:
                due = time.monotonic() + self._timing.housekeeping
                consumer.check_worker_health()
                self._keep_house(self._timing.lost_nudge)
        self._leave(consumer)

    def _leave(self, consumer: Any) -> None:
        deadline = time.monotonic() + self._timing.grace
        consumer.stop_flag.set()
        while any(thread.is_alive() for _, thread in consumer.worker_threads):
            if time.monotonic() > deadline:
                logger.error("worker %s ends without its job, which did not stop", self.id)
                os._exit(1)
            time.sleep(_TICK)
        try:
            self._store.roster.retire(self.id)
        except StoreUnavailable as error:
            logger.warning("worker %s leaves unseen: %s", self.id, error)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._leaving = True
        if self._signals > 1:
            os._exit(128 + signum)

    def _keep_house(self, older_than: float) -> None:
        try:
            self._store.roster.beat(self.id, self.host, self.pid, self._device, self._job_id)
            if self._job_id is None:
                recover(self._store, self._nudge, older_than)
        except StoreUnavailable as error:
            logger.warning("worker %s: %s", self.id, error)

    def _see_through(self, job: JobView) -> None:
        folder = self._workspace.job_folder(job.id)
        attempt = Attempt(
            self._store,
            job,
            folder,
            lease=self._timing.lease,
            period=self._timing.heartbeat,
            pausing=lambda: self._leaving,
        )
        with attempt:
            outcome = self._work(job, folder, attempt)
            attempt.conclude(lambda: self._write_end(job, outcome))

    def _work(self, job: JobView, folder: Path, attempt: Attempt) -> Outcome:
        assignment = Assignment(job, folder, self._workspace, self._device, attempt.may_publish)
        try:
            with _log_into(folder / LOG):
                logger.info("job %s (%s), attempt %d on %s", job.id, job.kind, job.attempt, self.id)
                if job.kind not in self._runners:
                    raise JobError(f"this version of the program cannot do jobs of kind {job.kind}")
                return self._runners[job.kind](assignment, attempt.on_event, attempt.should_stop)
        except BaseException as error:  # not even sys.exit in a runner may take the worker along
            return Outcome(error=explain(error, job.config, folder / LOG))

    def _write_end(self, job: JobView, outcome: Outcome) -> None:
        self._write_status(job, outcome)
        if job.parent is not None:
            self._store.families.settle(job.parent)

    def _write_status(self, job: JobView, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._store.finish(job.id, job.attempt, Status.FAILED, error=outcome.error)
        elif outcome.stopped is Stop.CANCEL:
            self._store.finish(job.id, job.attempt, Status.CANCELLED)
        elif outcome.parts:
            for part_id in self._store.split(job.id, job.attempt, outcome.parts)[:_NUDGED_PARTS]:
                self._nudge(part_id)
        elif outcome.stopped is not Stop.PAUSE:
            self._store.finish(job.id, job.attempt, Status.SUCCEEDED, outcome.result)
        elif self._store.release(job.id, job.attempt) is Status.QUEUED:
            self._nudge(job.id)
        if job.kind.endswith(PART) and job.parent is not None:
            self._nudge(job.parent)  # whatever is next in line: another part, or the parent itself


class _Consumer(Consumer):  # type: ignore[misc]
    """Huey's, with the signals left to us: its own handlers do not let a job save itself."""

    def _set_signal_handlers(self) -> None:
        pass


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """Everything logged meanwhile goes into the file too, and an escaping error's traceback."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except BaseException:
        logger.exception("the job failed")
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def run_worker(
    workspace: Workspace,
    device: str | None = None,
    watch_stdin: bool = False,
    *,
    runners: Mapping[str, Runner] = RUNNERS,
    timing: Timing | None = None,
) -> None:
    """Work on the workspace's jobs until told to leave. Raises `MedVAEError`.

    device: has one worker on this machine at a time.
    watch_stdin: leave when standard input ends, which is how a parent's death shows.
    """
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    logging.getLogger("huey").setLevel(logging.WARNING)
    if runners is RUNNERS:
        device = find_device(device)
    with lock_device(workspace, device) if device else nullcontext():
        _work(workspace, device, watch_stdin, runners, timing)


def _work(
    workspace: Workspace,
    device: str | None,
    watch_stdin: bool,
    runners: Mapping[str, Runner],
    timing: Timing | None,
) -> None:
    store, queue = Store(database_url(workspace)), open_queue(queue_url(workspace))
    worker = Worker(store, queue, workspace, runners=runners, device=device, timing=timing)
    if runners is RUNNERS:
        threading.Thread(target=warm_up, daemon=True).start()
    if watch_stdin:
        threading.Thread(target=_leave_at_end_of_input, args=[worker], daemon=True).start()
    worker.run()
    close_queue(queue)
    store.close()


def _leave_at_end_of_input(worker: Worker) -> None:
    # On the descriptor: a daemon thread inside sys.stdin would break the interpreter's shutdown.
    while os.read(0, 1024):
        pass
    logger.info("standard input ended: the parent is gone")
    worker.leave()


def _main() -> int:
    """`python -m jobs.worker`: a worker with other runners or timing, as tests need it."""
    parser = argparse.ArgumentParser(prog="python -m jobs.worker")
    parser.add_argument("--runners", default="jobs.tasks:RUNNERS", help="MODULE:NAME")
    parser.add_argument("--device")
    parser.add_argument("--watch-stdin", action="store_true")
    for period in fields(Timing):
        parser.add_argument(f"--{period.name}", type=float, default=period.default)
    options = parser.parse_args()
    module, _, name = options.runners.partition(":")
    runners = getattr(importlib.import_module(module), name)
    timing = Timing(**{period.name: getattr(options, period.name) for period in fields(Timing)})
    try:
        run_worker(
            Workspace.current(),
            options.device,
            options.watch_stdin,
            runners=runners,
            timing=timing,
        )
    except MedVAEError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
