"""One database behind one URL: SQLite (embedded) or PostgreSQL (shared), through a small pool.

Opens it, creates the tables, tells its time, and turns its failures into `StoreUnavailable`.
Knows nothing of jobs.
"""

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase, PooledSqliteDatabase

from jobs.schema import SCHEMA_VERSION, EventRow, Job, SchemaRow, WorkerRow
from medvae.errors import JobError

_OPENING_SECONDS = 10.0
_LONGEST_PAUSE_MS = 4000  # inside a transaction
_LOCK = 7_046_029_254  # any constant that no other program locks on the same server
_OUTAGES = (peewee.OperationalError, peewee.InterfaceError, MaxConnectionsExceeded)


class StoreUnavailable(JobError):
    """The database does not answer just now; trying again later may help."""


class Database:
    """Connections on loan. `now` is the database's own time in seconds since 1970, as SQL."""

    def __init__(self, url: str) -> None:
        self._pool, self.now = _pool(url)
        self.row_locks: bool = self._pool.for_update
        try:
            self._prepare(url)
        except JobError:
            self.close()
            raise

    def rows(self, query: Any) -> list[Any]:
        """What one peewee query returns, read to its end."""
        with self._connection():
            return list(query.execute(self._pool))

    def change(self, query: Any) -> int:
        """How many rows one peewee query inserted, updated or deleted."""
        if isinstance(query, peewee.Insert):
            query = query.as_rowcount()
        with self._connection():
            return int(query.execute(self._pool))

    @contextmanager
    def transaction(self, *, alone: bool = False) -> Iterator[None]:
        """For several queries that count together or not at all.

        alone: no two such transactions at once, for what is derived from rows of others.
        """
        with self._connection(), self._atomic():
            if alone:
                self._lock()
            yield

    def close(self) -> None:
        self._pool.close_all()

    @contextmanager
    def _connection(self) -> Iterator[None]:
        try:
            with self._pool.connection_context():
                yield
        except _OUTAGES as error:
            raise StoreUnavailable(f"the job table does not answer: {_line(error)}") from error

    def _atomic(self) -> Any:
        # SQLite would refuse at once, however long its busy time-out, to let a transaction write
        # that began by reading, when another process wrote in between: so writing comes first.
        return self._pool.atomic() if self.row_locks else self._pool.atomic("IMMEDIATE")

    def _lock(self) -> None:
        """Until the transaction ends; SQLite has but one at a time anyway."""
        if self.row_locks:
            self._pool.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))

    def _prepare(self, url: str) -> None:
        deadline = time.monotonic() + _OPENING_SECONDS
        while True:
            try:
                with self._pool.connection_context():
                    self._create_tables()
                return
            except peewee.DatabaseError as error:
                # Two processes that open a new SQLite file at once may both want to switch it to
                # WAL, and there the busy time-out does not apply.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise JobError(
                        f"cannot open the job table {_without_password(url)}: {_line(error)}"
                    ) from None
                time.sleep(0.05)

    def _create_tables(self) -> None:
        """Create what is missing; refuse tables that a newer program has written."""
        with self._atomic():
            self._lock()
            self._create(SchemaRow)
            found = SchemaRow.select(SchemaRow.version).scalar(self._pool)
            if found is None:
                for model in (Job, EventRow, WorkerRow):
                    self._create(model)
                SchemaRow.insert(version=SCHEMA_VERSION).execute(self._pool)
            elif found > SCHEMA_VERSION:
                raise JobError(
                    f"the job table was written by a newer version of the program (schema {found}, "
                    f"this one knows {SCHEMA_VERSION}): update the program"
                )

    def _create(self, model: type[peewee.Model]) -> None:
        peewee.SchemaManager(model, database=self._pool).create_all(safe=True)


def _pool(url: str) -> tuple[Any, peewee.SQL]:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return _sqlite(Path(rest[1:])), peewee.SQL("((julianday('now') - 2440587.5) * 86400.0)")
    if scheme in ("postgresql", "postgres"):
        if importlib.util.find_spec("psycopg") is None:
            raise JobError("PostgreSQL needs one more package: pip install 'psycopg[binary]'")
        pool = PooledPostgresqlDatabase(
            f"postgresql://{rest}",
            prefer_psycopg3=True,
            options=_options(f"postgresql://{rest}"),
            timeout=10,  # seconds to wait for a free connection of the pool
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
        return pool, peewee.SQL("cast(extract(epoch from now()) as double precision)")
    raise JobError(
        f"cannot use {_without_password(url)!r} as job table: expected sqlite:///FILE or "
        "postgresql://USER@HOST/NAME"
    )


def _options(url: str) -> str:
    """Those of the URL, and an end to transactions that nobody goes on with.

    A worker that is cut off inside one would otherwise keep its job's row locked for hours, and
    with it everybody who looks for jobs to recover.
    """
    from psycopg.conninfo import conninfo_to_dict

    own = conninfo_to_dict(url).get("options") or ""
    return f"{own} -c idle_in_transaction_session_timeout={_LONGEST_PAUSE_MS}".strip()


def _sqlite(path: Path) -> Any:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"cannot create the folder of the job table: {error}") from None
    return PooledSqliteDatabase(
        str(path),
        pragmas={"busy_timeout": 5000, "journal_mode": "wal", "synchronous": "normal"},
        timeout=10,
        check_same_thread=False,
        returning_clause=True,
    )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
