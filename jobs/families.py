"""Keeps the state of sweeps in step with their runs: one statement, derived anew each time.

A sweep is `running` from its submission until its last run has ended, and nobody claims it. Then
it has succeeded if any run has, else failed if any has, else it is cancelled.
"""

from typing import Any

from peewee import Case, fn

from jobs.database import Database
from jobs.schema import Job
from jobs.sweeps import SWEEP
from jobs.views import Status

_ALL_FAILED = "every run of the sweep failed; each says why"


class Families:
    """The operations on parent jobs."""

    def __init__(self, database: Database) -> None:
        self._database, self._now = database, database.now

    def settle(self, sweep_id: str | None = None) -> None:
        """Bring one sweep, or all that seem to run, up to date; any number of processes may."""
        open_runs = _count(Status.QUEUED, Status.RUNNING)
        succeeded, failed = _count(Status.SUCCEEDED), _count(Status.FAILED)
        status = Case(
            None,
            [
                (open_runs > 0, Status.RUNNING.value),
                (succeeded > 0, Status.SUCCEEDED.value),
                (failed > 0, Status.FAILED.value),
            ],
            Status.CANCELLED.value,
        )
        chosen = Job.status == Status.RUNNING.value if sweep_id is None else Job.id == sweep_id
        change = Job.update(
            status=status,
            ended=Case(None, [(open_runs > 0, None)], self._now),
            error=Case(
                None, [((open_runs == 0) & (succeeded == 0) & (failed > 0), _ALL_FAILED)], None
            ),
        )
        self._database.change(change.where((Job.kind == SWEEP) & chosen & (Job.status != status)))


def _count(*statuses: Status) -> Any:
    run = Job.alias()
    mine = (run.parent == Job.id) & run.status.in_([status.value for status in statuses])
    return run.select(fn.COUNT(run.id)).where(mine)
