"""What the rest of the program sees of jobs and workers: frozen values, read at one moment.

They know nothing of the tables they came from. Times are seconds since 1970 by the database's
clock, never by the clock of the machine that asks.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from medvae.engine.events import Stop


class Status(str, Enum):
    """Where a job stands; the last three are final until somebody retries or resumes it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (Status.QUEUED, Status.RUNNING)


@dataclass(frozen=True)
class JobView:
    """One job. `attempt` counts its claims and fences its writes: 0 = nobody took it yet."""

    id: str
    kind: str
    status: Status
    name: str
    config: dict[str, Any] | None
    payload: dict[str, Any]
    parent: str | None
    priority: int
    attempt: int
    max_attempts: int
    owner: str | None  # the worker that runs it, or ran it last
    stop: Stop | None  # what a person asked of the running job
    created: float
    started: float | None  # start of the latest attempt
    ended: float | None
    seconds: float | None  # how long the latest attempt has run, or ran
    error: str | None
    result: dict[str, Any] | None
    version: str
    last_seq: int  # number of the newest event

    def line(self) -> str:
        """One line for the terminal: id, status, kind, duration, name, and what came of it."""
        duration = "" if self.seconds is None else f"{self.seconds:.0f} s"
        name = "" if self.name == self.id else self.name
        columns = f"{self.id:<22} {self.status.value:<9} {self.kind:<8} {duration:>8}"
        return "  ".join(part for part in (columns, name, self.error or self._figures()) if part)

    def _figures(self) -> str:
        evaluation = (self.result or {}).get("evaluation")
        if not evaluation:
            return ""
        return f"AUROC {evaluation['auroc'][evaluation['score']]['value']:.3f}"


@dataclass(frozen=True)
class WorkerView:
    """One worker process; `alive` = it gave a sign of life in the last seconds."""

    id: str
    host: str
    pid: int
    device: str | None
    version: str
    started: float
    seen_at: float
    job: str | None
    alive: bool

    @property
    def busy(self) -> bool:
        return self.alive and self.job is not None
