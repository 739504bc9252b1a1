"""A context of the page on a real job table, without a browser, a worker or a server."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from jobs.service import JobService
from jobs.store import Store, database_url
from jobs.views import Status
from medvae.engine.events import EpochEnded, Event, RunStarted
from medvae.workspace import Workspace
from tests.conftest import TrainedRun
from ui.app import build_context
from ui.context import Context

STARTED = RunStarted("some cpu", "fp32", 1000, 40, 12, 3, 5, 0)


def epoch(number: int, validation_loss: float = 2.0, epochs: int = 3) -> EpochEnded:
    return EpochEnded(number, epochs, 3.0, 1.0, 2.0, validation_loss, 0.5, 1.5, True, 4.0, 10.0)


@pytest.fixture
def context(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.delenv("MEDVAE_DATABASE_URL", raising=False)
    monkeypatch.delenv("MEDVAE_QUEUE_URL", raising=False)
    with closing(JobService(workspace)) as service:
        made = build_context(workspace, service)
        yield made
        made.sandbox.close()


@pytest.fixture
def with_model(context: Context, trained: TrainedRun) -> Context:
    """The context of a home in which the trained model is promoted, with its data at hand."""
    home = context.workspace
    home.checkpoints.mkdir(parents=True, exist_ok=True)
    shutil.copy(trained.best, home.promoted)
    return context


class Puppet:
    """Plays the worker: claims a job, tells events, ends it. Time is the database's own."""

    def __init__(self, workspace: Workspace) -> None:
        self.store = Store(database_url(workspace))

    def begin(self, job: str, events: Sequence[Event] = ()) -> None:
        self.store.claim("puppet", 60, job)
        self.tell(job, *events)

    def tell(self, job: str, *events: Event) -> None:
        self.store.extend_lease(job, self.store.job(job).attempt, 60, events)

    def end(self, job: str, status: Status, **told: object) -> None:
        attempt = self.store.job(job).attempt
        self.store.finish(job, attempt, status, **told)  # type: ignore[arg-type]


@pytest.fixture
def puppet(context: Context) -> Iterator[Puppet]:
    played = Puppet(context.workspace)
    yield played
    played.store.close()


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """The folder into which Gradio would put an uploaded file."""
    folder = tmp_path / "uploads" / "d41d8cd9"
    folder.mkdir(parents=True)
    return folder
