"""What every tab works with, made once and shared by all pages of this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from html import escape
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.launcher import WorkerProcess
from jobs.service import JobService
from medvae.data.sandbox import Sandbox
from medvae.errors import MedVAEError
from medvae.workspace import Workspace
from ui.access import Access
from ui.history import Histories
from ui.models import ActiveModel
from ui.neighbours import Neighbours
from ui.results import RecentResults

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Context:
    """`worker` is None when the workers run elsewhere; `data` is the folder named at the start."""

    workspace: Workspace
    service: JobService
    model: ActiveModel
    histories: Histories
    results: RecentResults
    neighbours: Neighbours
    sandbox: Sandbox
    access: Access
    worker: WorkerProcess | None = None
    data: str | None = None
    born: float = field(default_factory=time.monotonic)


def told(handler: Callable[P, R]) -> Callable[P, R]:
    """Show the errors that a user is meant to read as a message on the page."""

    @wraps(handler)
    def with_message(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except MedVAEError as error:
            # Gradio draws markup in a message, and errors repeat what the URL or a file says.
            raise gr.Error(escape(str(error), quote=False), print_exception=False) from None

    with_message.tells = True  # type: ignore[attr-defined]
    return with_message


def tells(handler: Callable[..., Any] | None) -> bool:
    """Whether the handler, or what it was made of, is `told`."""
    while isinstance(handler, partial):
        handler = handler.func
    return hasattr(handler, "tells")


def patient(handler: Callable[P, R]) -> Callable[P, R | dict[str, Any]]:
    """For what is asked every second: while the job table is away, the page stays as it is."""

    @wraps(handler)
    def with_patience(*args: P.args, **kwargs: P.kwargs) -> R | dict[str, Any]:
        try:
            return handler(*args, **kwargs)
        except StoreUnavailable:
            return gr.skip()

    return with_patience
