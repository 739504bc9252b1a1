"""The tables as peewee models, the same on SQLite and PostgreSQL.

Bound to no database: `store.py` holds every statement and says where it runs. Knows nothing of
what the rows mean.
"""

import json
from typing import Any

from peewee import (
    BigIntegerField,
    CompositeKey,
    DoubleField,
    IntegerField,
    Model,
    TextField,
)

SCHEMA_VERSION = 1


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as numbers, anything else as text: storing must not fail."""
    return value.item() if hasattr(value, "item") else str(value)


class Text(TextField):
    """Any text: a file name may hold bytes that are no UTF-8, and a message a NUL."""

    def db_value(self, value: Any) -> Any:
        if value is None:
            return None
        return str(value).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


class JSONField(TextField):
    """Plain values as JSON text: the same on both databases, and key order is kept.

    JSON escapes what is not ASCII, so any text goes in, and comes back as it was.
    """

    def db_value(self, value: Any) -> Any:
        return None if value is None else json.dumps(value, default=_plain)

    def python_value(self, value: Any) -> Any:
        return None if value is None else json.loads(value)


class Job(Model):
    id = Text(primary_key=True)
    kind = Text()
    status = Text()
    name = Text()
    config = JSONField(null=True)
    payload = JSONField()
    parent = Text(null=True, index=True)
    priority = IntegerField()
    position = DoubleField(index=True)
    attempt = IntegerField(default=0)
    max_attempts = IntegerField()
    owner = Text(null=True)
    lease_until = DoubleField(null=True)
    nudged_at = DoubleField()
    stop = Text(null=True)
    created = DoubleField(index=True)
    started = DoubleField(null=True)
    ended = DoubleField(null=True)
    error = Text(null=True)
    result = JSONField(null=True)
    version = Text()
    last_seq = BigIntegerField(default=0)

    class Meta:
        table_name = "job"


Job.add_index(Job.status, Job.priority.desc(), Job.position)  # the waiting line, in its order
Job.add_index(Job.status, Job.created)  # "the newest that failed"


class EventRow(Model):
    job = Text()
    seq = BigIntegerField()
    attempt = IntegerField()
    time = DoubleField()
    kind = Text()
    body = JSONField()

    class Meta:
        table_name = "event"
        primary_key = CompositeKey("job", "seq")


class WorkerRow(Model):
    id = Text(primary_key=True)
    host = Text()
    pid = BigIntegerField()
    device = Text(null=True)
    version = Text()
    started = DoubleField()
    seen_at = DoubleField()
    job = Text(null=True)

    class Meta:
        table_name = "worker"


class SchemaRow(Model):
    version = IntegerField()

    class Meta:
        table_name = "schema_version"
        primary_key = False
