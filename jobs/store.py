"""The job table: the only truth about jobs.

Every operation is one statement or one short transaction, timed by the database's clock, so any
number of processes may call them at once. A write of a running attempt names that attempt and
changes nothing once another one has begun. Knows nothing of queues, files or processes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peewee import EXCLUDED, Case, chunked, fn

from jobs.database import Database
from jobs.event_log import EventLog
from jobs.families import Families
from jobs.names import new_name
from jobs.roster import Roster
from jobs.schema import Job
from jobs.sweeps import SWEEP
from jobs.views import JobView, Status
from medvae import __version__
from medvae.engine.events import Event, Stop
from medvae.errors import JobError
from medvae.workspace import Workspace

MAX_ATTEMPTS = 3
PART = " part"  # ends the kind of a job that only does part of its parent's work
_SWEEP_LIMIT = 100
_INSERT_LIMIT = 500  # rows a statement: SQLite takes 32,766 values, PostgreSQL 65,535
_QUEUED, _RUNNING, _FAILED, _CANCELLED = (
    status.value for status in (Status.QUEUED, Status.RUNNING, Status.FAILED, Status.CANCELLED)
)
_DIED_TOO_OFTEN = (
    "the worker died each time it ran this job, and its tries are used up; when memory runs out, "
    "a smaller training.batch_size helps"
)


class LeaseLost(Exception):
    """The attempt is no longer the current one: whoever made it must stop and write nothing."""


def database_url(workspace: Workspace) -> str:
    """`MEDVAE_DATABASE_URL`, else a SQLite file in the workspace."""
    return os.environ.get("MEDVAE_DATABASE_URL") or f"sqlite:///{workspace.state / 'jobs.db'}"


class Store:
    """The operations on one job table."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._now = self._database.now
        self._columns = (Job, self._now.alias("now"))
        self.events = EventLog(self._database)
        self.roster = Roster(self._database)
        self.families = Families(self._database)

    def close(self) -> None:
        self._database.close()

    # Submitting and reading

    def add(
        self,
        kind: str,
        *,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        payload: dict[str, Any] | None = None,
        parent: str | None = None,
        priority: int = 0,
        max_attempts: int = MAX_ATTEMPTS,
        status: Status = Status.QUEUED,
        result: dict[str, Any] | None = None,
    ) -> str:
        """Put a new job at the end of the line of its priority; returns its id.

        status: other than `queued` for a job that no worker does: a parent, which is `running`
        until its family has ended, or a run that was finished elsewhere, with its `result`.
        """
        began = None if status is Status.QUEUED else self._now
        while True:
            job_id = new_name()
            row = Job.insert(
                id=job_id,
                kind=kind,
                status=status.value,
                started=began,
                ended=began if status.ended else None,
                result=result,
                name=name or job_id,
                config=config,
                payload=payload or {},
                parent=parent,
                priority=priority,
                position=Job.select(fn.COALESCE(fn.MAX(Job.position), 0) + 1),
                max_attempts=max_attempts,
                created=self._now,
                nudged_at=self._now,
                version=__version__,
            )
            with self._database.transaction(alone=True):  # two would take the same place
                if self._database.change(row.on_conflict_ignore()):
                    return job_id

    def add_family(self, parent: dict[str, Any], children: Sequence[dict[str, Any]]) -> list[str]:
        """One job that no worker does and its children, all or none (see `add` for the keys).

        Returns their ids, the parent's first.
        """
        with self._database.transaction():
            head = self.add(**parent, status=Status.RUNNING)
            return [head, *(self.add(**child, parent=head) for child in children)]

    def add_finished(self, events: Sequence[Event], **job: Any) -> str:
        """A job that was done elsewhere, with what it told there (see `add` for the keys)."""
        with self._database.transaction():
            job_id = self.add(**job, status=Status.SUCCEEDED)
            if events:
                self.events.append(job_id, 0, 1, events)
                self._change(Job.id == job_id, last_seq=len(events))
        return job_id

    def job(self, job_id: str) -> JobView:
        found = self._database.rows(Job.select(*self._columns).where(Job.id == job_id))
        if not found:
            raise JobError(f"there is no job {job_id!r}")
        return _view(found[0])

    def jobs(
        self, limit: int = 50, statuses: Sequence[Status] = (), parent: str | None = None
    ) -> list[JobView]:
        """The newest first. Parts, and the runs of a sweep, are listed only with their parent."""
        query = Job.select(*self._columns).order_by(Job.created.desc()).limit(limit)
        query = query.where(_stands_alone() if parent is None else Job.parent == parent)
        # One query a status: each is a short walk along an index, all in one would sort the table.
        queries = [query.where(Job.status == status.value) for status in statuses] or [query]
        found = [_view(row) for query in queries for row in self._database.rows(query)]
        return sorted(found, key=lambda job: job.created, reverse=True)[:limit]

    def queue_position(self, job_id: str) -> int | None:
        """1 = next in line; None when the job does not wait."""
        other = Job.alias()
        ahead = (other.priority > Job.priority) | (
            (other.priority == Job.priority) & (other.position < Job.position)
        )
        count = other.select(fn.COUNT(other.id)).where((other.status == _QUEUED) & ahead)
        query = Job.select(count).where((Job.id == job_id) & (Job.status == _QUEUED))
        return next((int(number) + 1 for (number,) in self._database.rows(query.tuples())), None)

    def line(self) -> list[JobView]:
        """The waiting jobs in the order in which they are taken; parts wait with their parent."""
        query = Job.select(*self._columns).where((Job.status == _QUEUED) & ~_is_part(Job))
        ordered = query.order_by(Job.priority.desc(), Job.position)
        return [_view(row) for row in self._database.rows(ordered)]

    def waiting(self) -> int:
        """How many jobs are in line."""
        query = Job.select(fn.COUNT(Job.id)).where(Job.status == _QUEUED)
        return int(self._database.rows(query.tuples())[0][0])

    def parts(self, job_id: str) -> dict[Status, int]:
        """How many parts of a job stand where; empty for a job without parts."""
        mine = (Job.parent == job_id) & _is_part(Job)
        query = Job.select(Job.status, fn.COUNT(Job.id)).where(mine).group_by(Job.status)
        return {Status(status): count for status, count in self._database.rows(query.tuples())}

    # The life of one attempt

    def claim(self, worker_id: str, lease: float, job_id: str | None = None) -> JobView | None:
        """Take the named job or the first in line; None when there is none to take.

        A job that was split is not taken before all its parts have ended.
        """
        part = Job.alias()
        unfinished = part.status.in_([_QUEUED, _RUNNING]) & (part.parent == Job.id)
        waits = fn.EXISTS(part.select(part.id).where(unfinished & _is_part(part)))
        line = Job.select(Job.id).where((Job.status == _QUEUED) & ~waits)
        if job_id is not None:
            line = line.where(Job.id == job_id)
        line = line.order_by(Job.priority.desc(), Job.position).limit(1)
        if self._database.row_locks:
            line = line.for_update(skip_locked=True)
        return self._change(
            (Job.id == line) & (Job.status == _QUEUED),
            status=_RUNNING,
            attempt=Job.attempt + 1,
            owner=worker_id,
            lease_until=self._now + lease,
            started=self._now,
        )

    def extend_lease(
        self, job_id: str, attempt: int, lease: float, events: Sequence[Event] = ()
    ) -> Stop | None:
        """A sign of life, with what happened since the last one; returns what a person asked.

        Raises `LeaseLost`, and stores nothing, when the attempt is no longer the current one.
        """
        extend = (
            Job.update(lease_until=self._now + lease, last_seq=Job.last_seq + len(events))
            .where(_current(job_id, attempt))
            .returning(Job.last_seq, Job.stop)
        )
        with self._database.transaction():
            found = self._database.rows(extend)
            if not found:
                raise LeaseLost(f"{job_id}, attempt {attempt}")
            if events:
                first = found[0].last_seq - len(events) + 1
                self.events.append(job_id, attempt, first, events)
        return None if found[0].stop is None else Stop(found[0].stop)

    def finish(
        self,
        job_id: str,
        attempt: int,
        status: Status,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """The end of the job; raises `LeaseLost` for an attempt that is not the current one."""
        finished = self._change(
            _current(job_id, attempt),
            status=status.value,
            result=result,
            error=error,
            ended=self._now,
            lease_until=None,
            stop=None,
        )
        if finished is None:
            raise LeaseLost(f"{job_id}, attempt {attempt}")

    def release(self, job_id: str, attempt: int) -> Status:
        """Give a paused job back to its place in the line; the pause does not count as a try."""
        cancelled = Job.stop == Stop.CANCEL.value
        released = self._change(
            _current(job_id, attempt),
            status=Case(None, [(cancelled, _CANCELLED)], _QUEUED),
            ended=Case(None, [(cancelled, self._now)], None),
            stop=Case(None, [(Job.stop == Stop.KEEP.value, Stop.KEEP.value)], None),
            max_attempts=Job.max_attempts + 1,
            nudged_at=self._now,
            lease_until=None,
        )
        if released is None:
            raise LeaseLost(f"{job_id}, attempt {attempt}")
        return released.status

    def split(self, job_id: str, attempt: int, parts: Mapping[str, dict[str, Any]]) -> list[str]:
        """Give a job back to the line until its parts, name → payload, are done.

        They stand where their parent stands; those that ended before are done again. Returns
        their ids: none when the job was asked to stop. Raises `LeaseLost` like `finish`.
        """
        asked = Job.stop.is_null(False)
        with self._database.transaction():
            parent = self._change(
                _current(job_id, attempt),
                status=Case(None, [(asked, _CANCELLED)], _QUEUED),
                ended=Case(None, [(asked, self._now)], None),
                result={"parts": len(parts)},
                max_attempts=Job.max_attempts + 1,
                nudged_at=self._now,
                lease_until=None,
                stop=None,
            )
            if parent is None:
                raise LeaseLost(f"{job_id}, attempt {attempt}")
            if parent.status is Status.CANCELLED:
                return []
            position = Job.select(Job.position).where(Job.id == job_id)
            ((place,),) = self._database.rows(position.tuples())
            rows = [self._part(parent, place, *part) for part in parts.items()]
            again = {
                Job.status: _QUEUED,
                Job.payload: EXCLUDED.payload,
                Job.max_attempts: Job.attempt + MAX_ATTEMPTS,
                Job.nudged_at: self._now,
                Job.ended: None,
                Job.error: None,
                Job.stop: None,
            }
            for some in chunked(rows, _INSERT_LIMIT):
                insert = Job.insert_many(some).on_conflict(
                    conflict_target=[Job.id],
                    update=again,
                    where=Job.status.not_in([_QUEUED, _RUNNING]),
                )
                self._database.change(insert)
        return [row["id"] for row in rows]

    # What people ask

    def request_stop(self, job_id: str, stop: Stop) -> JobView | None:
        """Ask a running job to end; None when it does not run. A cancel is never weakened."""
        strongest = Case(None, [(Job.stop == Stop.CANCEL.value, Stop.CANCEL.value)], stop.value)
        return self._change((Job.id == job_id) & (Job.status == _RUNNING), stop=strongest)

    def cancel_idle(self, job_id: str) -> JobView | None:
        """Cancel a job that waits, or whose worker is gone; None when it is neither."""
        idle = (Job.status == _QUEUED) | ((Job.status == _RUNNING) & (Job.lease_until < self._now))
        return self._change(
            (Job.id == job_id) & idle,
            status=_CANCELLED,
            ended=self._now,
            lease_until=None,
            stop=None,
        )

    def cancel_parts(self, job_id: str) -> None:
        """Cancel the parts that wait, and ask those that run to end."""
        mine = (Job.parent == job_id) & _is_part(Job)
        idle = (Job.status == _QUEUED) | ((Job.status == _RUNNING) & (Job.lease_until < self._now))
        self._change_all(
            mine & idle, status=_CANCELLED, ended=self._now, lease_until=None, stop=None
        )
        self._change_all(mine & (Job.status == _RUNNING), stop=Stop.CANCEL.value)

    def requeue(self, job_id: str, *, discard: Callable[[], None] | None = None) -> JobView | None:
        """Put a failed or cancelled job back in line with fresh tries; None when it is neither.

        discard: for a job that begins anew. Its events are forgotten, and this is called before
        anybody else can see the change and take the job; if it raises, nothing has changed.
        """
        with self._database.transaction():
            queued = self._change(
                (Job.id == job_id) & Job.status.in_([_FAILED, _CANCELLED]),
                status=_QUEUED,
                max_attempts=Job.attempt + MAX_ATTEMPTS,
                nudged_at=self._now,
                ended=None,
                error=None,
                result=None,
                stop=None,
            )
            if queued and discard:
                self.events.forget(job_id)
                discard()
        return queued

    def move_first(self, job_id: str) -> JobView | None:
        """Make a waiting job, with its parts, the next in line; None when it does not wait."""
        other = Job.alias()
        waiting = other.status == _QUEUED
        with self._database.transaction(alone=True):
            moved = self._change(
                (Job.id == job_id) & (Job.status == _QUEUED),
                priority=other.select(fn.MAX(other.priority)).where(waiting),
                # Before all jobs: one that does not wait now may come back to its own place.
                position=other.select(fn.MIN(other.position) - 1),
            )
            if moved:
                place = other.select(other.position).where(other.id == job_id)
                mine = (Job.parent == job_id) & _is_part(Job)
                self._change_all(mine, priority=moved.priority, position=place)
        return moved

    def change_places(self, job_id: str, other_id: str) -> bool:
        """Two waiting jobs take each other's place in line; False when one no longer waits."""
        both = Job.id.in_([job_id, other_id]) & (Job.status == _QUEUED)
        with self._database.transaction():
            query = Job.select(Job.id, Job.priority, Job.position).where(both).order_by(Job.id)
            if self._database.row_locks:
                query = query.for_update()
            places = {name: place for name, *place in self._database.rows(query.tuples())}
            if len(places) < 2:
                return False
            for one, other in ((job_id, other_id), (other_id, job_id)):
                priority, position = places[other]
                own = (Job.id == one) | ((Job.parent == one) & _is_part(Job))
                self._change_all(own, priority=priority, position=position)
        return True

    def rename(self, job_id: str, name: str) -> JobView | None:
        return self._change(Job.id == job_id, name=name)

    def delete(self, job_id: str) -> bool:
        """Remove a job that does not run, with its parts and events; False when there is none."""
        part = Job.alias()
        runs = (part.parent == job_id) & (part.status == _RUNNING) & _is_part(part)
        idle = (Job.status != _RUNNING) & ~fn.EXISTS(part.select(part.id).where(runs))
        with self._database.transaction():
            deleted = bool(self._database.change(Job.delete().where((Job.id == job_id) & idle)))
            if deleted:
                self._database.change(Job.delete().where((Job.parent == job_id) & _is_part(Job)))
                self.events.forget(job_id)
        return deleted

    # Dead workers and lost nudges

    def expire(self, worker_ids: Sequence[str]) -> None:
        """These workers are known to be dead: their leases end now."""
        theirs = (Job.status == _RUNNING) & Job.owner.in_(worker_ids)
        self._change_all(theirs, lease_until=self._now - 1)

    def reap(self) -> list[JobView]:
        """Queue the jobs whose lease ran out again; end those cancelled, or out of tries."""
        cancelled = Job.stop == Stop.CANCEL.value
        spent = Job.attempt >= Job.max_attempts
        return self._change_all(
            (Job.status == _RUNNING) & (Job.lease_until < self._now),
            status=Case(None, [(cancelled, _CANCELLED), (spent, _FAILED)], _QUEUED),
            error=Case(None, [(cancelled, None), (spent, _DIED_TOO_OFTEN)], None),
            ended=Case(None, [(cancelled | spent, self._now)], None),
            stop=Case(None, [(cancelled | spent, None)], Job.stop),
            lease_until=None,
            nudged_at=0.0,
        )

    def sweep(self, older_than: float) -> list[str]:
        """Waiting jobs, first in line first, whose nudge may be lost; it counts as sent now."""
        lost = (
            Job.select(Job.id)
            .where((Job.status == _QUEUED) & (Job.nudged_at <= self._now - older_than))
            .order_by(Job.priority.desc(), Job.position)
            .limit(_SWEEP_LIMIT)
        )
        return [job.id for job in self._change_all(Job.id.in_(lost), nudged_at=self._now)]

    # Within

    def _part(
        self, parent: JobView, place: float, name: str, payload: dict[str, Any]
    ) -> dict[str, Any]:
        """The row of a new part. Its id is also the path of its folder, inside its parent's."""
        return {
            "id": f"{parent.id}/{name}",
            "kind": parent.kind + PART,
            "status": _QUEUED,
            "name": f"{parent.name}: {name}",
            "config": parent.config,
            "payload": payload,
            "parent": parent.id,
            "priority": parent.priority,
            "position": place,
            "max_attempts": MAX_ATTEMPTS,
            "created": self._now,
            "nudged_at": self._now,
            "version": __version__,
        }

    def _change(self, where: Any, **values: Any) -> JobView | None:
        """The one changed row, as it is after the change."""
        changed = self._change_all(where, **values)
        return changed[0] if changed else None

    def _change_all(self, where: Any, **values: Any) -> list[JobView]:
        query = Job.update(**values).where(where).returning(*self._columns)
        return [_view(row) for row in self._database.rows(query)]


def _is_part(job: Any) -> Any:
    return job.kind.endswith(PART)


def _stands_alone() -> Any:
    sweep = Job.alias()
    its_sweep = sweep.select(sweep.id).where((sweep.id == Job.parent) & (sweep.kind == SWEEP))
    return ~_is_part(Job) & ~fn.EXISTS(its_sweep)


def _current(job_id: str, attempt: int) -> Any:
    return (Job.id == job_id) & (Job.attempt == attempt) & (Job.status == _RUNNING)


_PLAIN_FIELDS = sorted(JobView.__dataclass_fields__.keys() - {"status", "stop", "seconds"})


def _view(row: Any) -> JobView:
    status = Status(row.status)
    until = row.ended if status.ended else row.now
    begun = row.started is not None and status is not Status.QUEUED
    return JobView(
        **{name: getattr(row, name) for name in _PLAIN_FIELDS},
        status=status,
        stop=None if row.stop is None else Stop(row.stop),
        seconds=max(0.0, until - row.started) if begun else None,
    )
