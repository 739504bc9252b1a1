"""What a worker hands to the code that does a job, and what comes back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.views import JobView
from medvae.engine.events import MayPublish, OnEvent, ShouldStop, Stop, always
from medvae.workspace import Workspace


@dataclass(frozen=True)
class Assignment:
    """A claimed job and the place to do it in.

    may_publish: whether the job is still this worker's; asked of the job table at that moment.
    """

    job: JobView
    folder: Path
    workspace: Workspace
    device: str | None
    may_publish: MayPublish = always


@dataclass(frozen=True)
class Outcome:
    """How a runner ended: `stopped` is None when it went to its end, `error` is for the user.

    With `parts`, name → payload, the job is not at its end: it is run again once jobs of the kind
    "KIND part" have done them all. It tells by its `result`, which is {"parts": count} then.
    """

    result: dict[str, Any] = field(default_factory=dict)
    stopped: Stop | None = None
    error: str | None = None
    parts: Mapping[str, dict[str, Any]] = field(default_factory=dict)


Runner = Callable[[Assignment, OnEvent, ShouldStop], Outcome]
