"""What jobs told while they ran: numbered rows, read from an offset by any number of pages.

Knows nothing of who may write: `Store.extend_lease` appends, in the transaction that proves it.
"""

from collections.abc import Sequence
from typing import Any

from peewee import fn

from jobs.database import Database
from jobs.schema import EventRow
from medvae.engine.events import Event, to_record


class EventLog:
    """The operations on the table of events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, job_id: str, attempt: int, first: int, events: Sequence[Event]) -> None:
        """Store events under the numbers from `first` on."""
        rows = []
        for seq, event in enumerate(events, first):
            record = to_record(event)
            rows.append((job_id, seq, attempt, self._database.now, record.pop("kind"), record))
        fields = ["job", "seq", "attempt", "time", "kind", "body"]
        self._database.change(EventRow.insert_many(rows, fields))

    def after(
        self, job_id: str, seq: int = 0, limit: int = 5000
    ) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and records (see `medvae.engine.events`) newer than `seq`, oldest first."""
        query = (
            EventRow.select(EventRow.seq, EventRow.kind, EventRow.body)
            .where((EventRow.job == job_id) & (EventRow.seq > seq))
            .order_by(EventRow.seq)
            .limit(limit)
        )
        rows = self._database.rows(query.tuples())
        return [(number, {"kind": kind, **body}) for number, kind, body in rows]

    def thin(self, job_id: str, kind: str, keep: int) -> None:
        """Leave between about `keep` and 2 `keep` evenly spaced events of one kind."""
        chosen = (EventRow.job == job_id) & (EventRow.kind == kind)
        span = EventRow.select(fn.COUNT(EventRow.seq), fn.MAX(EventRow.seq)).where(chosen)
        ((count, newest),) = self._database.rows(span.tuples())
        if count > 2 * keep:
            # A power of two, so that what one call leaves is what the next one starts from.
            stride = 1 << ((newest // keep).bit_length() - 1)
            between = EventRow.seq.bin_and(stride - 1) != 0
            extra = chosen & between & (EventRow.seq < newest)
            self._database.change(EventRow.delete().where(extra))

    def forget(self, job_id: str) -> None:
        self._database.change(EventRow.delete().where(EventRow.job == job_id))
