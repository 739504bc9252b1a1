"""What a run has told so far, folded from its events: one value that the views can draw.

The event table is the truth; this is a cache over it, filled from where it left off.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from jobs.service import JobService
from jobs.views import JobView
from medvae.engine.events import (
    EpochEnded,
    Event,
    Preparing,
    Progress,
    RunEnded,
    RunStarted,
    SamplesDrawn,
)


@dataclass(frozen=True)
class RunHistory:
    """The state of a run after its event number `seq`."""

    seq: int = 0
    preparing: Preparing | None = None  # set while no step is being made
    started: RunStarted | None = None
    progress: Progress | None = None
    epochs: dict[int, EpochEnded] = field(default_factory=dict)
    samples: dict[int, str] = field(default_factory=dict)  # epoch → path of its PNG
    ended: RunEnded | None = None

    @property
    def best(self) -> EpochEnded | None:
        """The epoch of the lowest validation loss."""
        return min(self.epochs.values(), key=lambda e: e.validation_loss, default=None)

    def after(self, events: Iterable[tuple[int, Event]]) -> "RunHistory":
        """This history, some events later. A start from step 0 forgets what was before it."""
        now = replace(self, epochs=dict(self.epochs), samples=dict(self.samples))
        for seq, event in events:
            now = replace(now._with(event), seq=seq)
        return now

    def _with(self, event: Event) -> "RunHistory":
        if isinstance(event, Preparing):
            return replace(self, preparing=event)
        if isinstance(event, RunStarted):
            if event.resumed_at_step == 0:
                return RunHistory(started=event)
            return replace(self, started=event, preparing=None, ended=None)
        if isinstance(event, Progress):
            return replace(self, progress=event, preparing=None)
        if isinstance(event, EpochEnded):
            self.epochs[event.epoch] = event
            return replace(self, progress=self._after_epoch(event), preparing=None)
        if isinstance(event, SamplesDrawn):
            self.samples[event.epoch] = event.path
        elif isinstance(event, RunEnded):
            return replace(self, ended=event)
        return self

    def _after_epoch(self, ended: EpochEnded) -> Progress:
        """Where the run stands between two epochs; short ones tell nothing else of themselves."""
        steps = self.started.steps_per_epoch if self.started else 1
        is_last = ended.epoch == ended.epochs
        return Progress(
            ended.epoch if is_last else ended.epoch + 1,
            ended.epochs,
            steps if is_last else 0,
            steps,
            ended.loss,
            ended.mse,
            ended.kld,
            ended.images_per_second,
            ended.seconds * (ended.epochs - ended.epoch),
        )


class Histories:
    """The histories of all runs that somebody looked at; shared by all pages."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._known: dict[str, RunHistory] = {}
        self._lock = threading.Lock()

    def of(self, job: JobView) -> RunHistory:
        """The history of a job, at least up to the moment this view of it was read."""
        with self._lock:
            known = self._known.get(job.id, RunHistory())
            while known.seq < job.last_seq:
                _, events = self._service.follow(job.id, known.seq)
                known = known.after(events) if events else replace(known, seq=job.last_seq)
            self._known[job.id] = known
            return known
