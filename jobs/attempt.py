"""One attempt at one job: keeps its lease alive, stores its events and writes its end.

The heart beats in a thread of its own, so that the work itself never waits for the database.
Knows nothing of what the work is.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from jobs.database import StoreUnavailable
from jobs.store import LeaseLost, Store
from jobs.views import JobView, Status
from medvae.engine.events import EpochEnded, Event, Preparing, Progress, Stop, to_record

logger = logging.getLogger(__name__)

LOG = "log.txt"
EVENTS = "events.jsonl"
KEPT_PROGRESS = 1000  # rows of progress a job keeps, about; everything is in the events file
_UNSTORABLE = "what came of the job could not be stored; the worker's output says why"
_FLEETING = (Preparing, Progress)  # of these only the newest counts


class Attempt:
    """Use as a context: the heart beats inside, every `period` seconds."""

    def __init__(
        self,
        store: Store,
        job: JobView,
        folder: Path,
        *,
        lease: float,
        period: float,
        pausing: Callable[[], bool],
    ) -> None:
        self._store = store
        self._job = job
        self._folder = folder
        self._lease = lease
        self._period = period
        self._pausing = pausing
        self._asked: Stop | None = None
        self._pending: list[Event] = []
        self._lock = threading.Lock()
        self._beating = threading.Lock()  # events must reach the table in their order
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._live, name="heartbeat", daemon=True)

    def __enter__(self) -> "Attempt":
        self._heart.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._heart.join()

    def on_event(self, event: Event) -> None:
        """Keep the event for the next beat; of progress only the newest."""
        with self._lock:
            if isinstance(event, _FLEETING):
                self._pending = [kept for kept in self._pending if type(kept) is not type(event)]
            self._pending.append(event)

    def should_stop(self) -> Stop | None:
        """What a person asked, else PAUSE when the worker is about to leave. Costs nothing."""
        return self._asked or (Stop.PAUSE if self._pausing() else None)

    def may_publish(self) -> bool:
        """Whether the job is still this attempt's, which a fresh lease then proves for a while.

        Asks the job table, and waits for it while it is away: without it the job cannot end anyway.
        """
        while True:
            try:
                self._beat()
                return True
            except LeaseLost:
                self._asked = Stop.CANCEL
                return False
            except StoreUnavailable as error:
                logger.warning("job %s cannot publish yet: %s", self._job.id, error)
                time.sleep(self._period)

    def conclude(self, write_end: Callable[[], object]) -> None:
        """Store the last events, then write the end; goes on trying while the database is away.

        Writes nothing when the job has meanwhile been given to somebody else.
        """
        self._over.set()
        self._heart.join()
        try:
            self._insist(write_end)
        except Exception:  # a job without an end would be done again
            logger.exception("the end of job %s", self._job.id)
            job_id, attempt = self._job.id, self._job.attempt
            self._insist(
                lambda: self._store.finish(job_id, attempt, Status.FAILED, error=_UNSTORABLE)
            )

    def _insist(self, write_end: Callable[[], object]) -> None:
        while True:
            try:
                self._beat()
                write_end()
                return
            except LeaseLost:
                logger.info("job %s went on without this attempt", self._job.id)
                return
            except StoreUnavailable as error:
                logger.warning("job %s cannot write its end yet: %s", self._job.id, error)
                time.sleep(self._period)

    def _live(self) -> None:
        while not self._over.wait(self._period):
            try:
                self._beat()
            except LeaseLost:
                self._asked = Stop.CANCEL
                return
            except StoreUnavailable as error:
                logger.warning("no heartbeat for job %s: %s", self._job.id, error)
            except Exception:  # a heart that stops would lose the job
                logger.exception("heartbeat of job %s", self._job.id)

    def _beat(self) -> None:
        with self._beating:
            self._beat_once()

    def _beat_once(self) -> None:
        with self._lock:
            events, self._pending = self._pending, []
        try:
            self._asked = self._store.extend_lease(
                self._job.id, self._job.attempt, self._lease, events
            )
        except StoreUnavailable:
            with self._lock:
                self._pending = events + self._pending
            raise
        self._write_down(events)
        if any(isinstance(event, EpochEnded) for event in events):
            self._store.events.thin(self._job.id, Progress.__name__, KEPT_PROGRESS)

    def _write_down(self, events: list[Event]) -> None:
        """The same events in the run folder, for those who have only the files."""
        if not events:
            return
        head = {"time": datetime.now(timezone.utc).isoformat(), "attempt": self._job.attempt}
        try:
            with (self._folder / EVENTS).open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps({**head, **to_record(event)}, default=str) + "\n" for event in events
                )
        except OSError as error:
            logger.warning("%s not written: %s", self._folder / EVENTS, error)
