"""The table of workers: who is there, on which machine and device, and busy with what.

Knows nothing of what a job is; a worker that dies without a word is simply not seen any more.
"""

from typing import Any

from jobs.database import Database
from jobs.schema import WorkerRow
from jobs.views import WorkerView
from medvae import __version__

ALIVE_SECONDS = 8.0  # a worker unseen for longer counts as gone
_FORGET_SECONDS = 86_400.0


class Roster:
    """The operations on the table of workers."""

    def __init__(self, database: Database) -> None:
        self._database, self._now = database, database.now

    def beat(
        self, worker_id: str, host: str, pid: int, device: str | None, job_id: str | None
    ) -> None:
        """A sign of life; the first one registers the worker."""
        row = WorkerRow.insert(
            id=worker_id,
            host=host,
            pid=pid,
            device=device,
            version=__version__,
            started=self._now,
            seen_at=self._now,
            job=job_id,
        ).on_conflict(
            conflict_target=[WorkerRow.id],
            update={WorkerRow.seen_at: self._now, WorkerRow.job: job_id},
        )
        self._database.change(row)

    def retire(self, worker_id: str) -> None:
        """A worker leaves in good order; with it goes who has not been seen for a day."""
        forgotten = WorkerRow.seen_at < self._now - _FORGET_SECONDS
        self._database.change(WorkerRow.delete().where((WorkerRow.id == worker_id) | forgotten))

    def bury(self, host: str, pid: int) -> list[str]:
        """Strike out the workers of a process that is known to be dead; returns their ids."""
        dead = (WorkerRow.host == host) & (WorkerRow.pid == pid)
        rows = self._database.rows(WorkerRow.delete().where(dead).returning(WorkerRow.id))
        return [row.id for row in rows]

    def workers(self) -> list[WorkerView]:
        """In the order they came, the recently dead included."""
        query = WorkerRow.select(WorkerRow, self._now.alias("now")).order_by(WorkerRow.started)
        return [_view(row) for row in self._database.rows(query)]


def _view(row: Any) -> WorkerView:
    fields = ("id", "host", "pid", "device", "version", "started", "seen_at", "job")
    return WorkerView(
        **{name: getattr(row, name) for name in fields},
        alive=row.now - row.seen_at < ALIVE_SECONDS,
    )
