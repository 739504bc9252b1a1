"""The Huey object, made from one URL. It carries nudges, never work: losing one loses no job.

Knows nothing of the job table.
"""

import os
from pathlib import Path
from typing import Any

from huey import PostgresHuey, PriorityRedisHuey, SqliteHuey
from huey.serializer import SignedSerializer

from medvae.errors import JobError
from medvae.workspace import Workspace

_NAME = "medvae"


def queue_url(workspace: Workspace) -> str:
    """`MEDVAE_QUEUE_URL`, else the PostgreSQL of the job table, else a file in the workspace."""
    database = os.environ.get("MEDVAE_DATABASE_URL", "")
    shared = database if database.startswith("postgres") else ""
    return os.environ.get("MEDVAE_QUEUE_URL") or shared or f"sqlite:///{workspace.state}/queue.db"


def open_queue(url: str) -> Any:
    """A Huey that keeps no results. `JobError` for a URL it cannot use."""
    scheme, _, rest = url.partition("://")
    try:
        if scheme == "sqlite" and len(rest) > 1:
            path = Path(rest[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            return SqliteHuey(_NAME, filename=str(path), results=False, utc=True)
        if scheme in ("postgresql", "postgres"):
            return PostgresHuey(_NAME, dsn=url, results=False, utc=True, serializer=_signed())
        if scheme in ("redis", "rediss"):
            return PriorityRedisHuey(_NAME, url=url, results=False, utc=True, serializer=_signed())
    except JobError:
        raise
    except Exception as error:  # each driver has errors of its own
        reason = " ".join(str(error).split())
        raise JobError(f"cannot open the queue at {scheme}://…: {reason}") from None
    raise JobError(
        f"cannot use {scheme}://… as queue: expected sqlite:///FILE, postgresql://… or redis://…"
    )


def close_queue(queue: Any) -> None:
    """Give its connections back."""
    if isinstance(queue, PriorityRedisHuey):
        queue.storage.pool.disconnect()
    else:
        queue.storage.close()


def _signed() -> SignedSerializer:
    """Messages are pickles, so whoever can write to a shared queue could run code in a worker."""
    secret = os.environ.get("MEDVAE_QUEUE_SECRET")
    if not secret:
        raise JobError(
            "a queue that is shared over the network needs MEDVAE_QUEUE_SECRET: the same long "
            "random text on every machine"
        )
    return SignedSerializer(secret=secret)
