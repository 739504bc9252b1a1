"""Which jobs the Runs tab lists, and in which order. Reads the job table, draws nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.database import StoreUnavailable
from jobs.sweeps import MOST_RUNS, SWEEP
from jobs.views import JobView, Status
from medvae.errors import JobError
from ui.context import Context
from ui.runs_views import Row
from ui.views import STATUS_WORDS, data_name

LISTED = 100
SEARCHED = 2000  # the newest jobs, among which is looked for words
ANY_STATUS = ""
STATUS_CHOICES = [("Any status", ANY_STATUS), *((w, s.value) for s, w in STATUS_WORDS.items())]

# Not by AUROC: a model picked from a list by its test figures would be one chosen by sick images.
NEWEST, NAME, LOSS, DURATION = "newest", "name", "loss", "duration"
ORDER_CHOICES = [
    ("Newest first", NEWEST),
    ("Name", NAME),
    ("Lowest validation loss", LOSS),
    ("Longest", DURATION),
]
_ORDERS: dict[str, Callable[[Row], tuple[float, str]]] = {
    NAME: lambda row: (0.0, row.job.name.casefold()),
    LOSS: lambda row: (math.inf if row.best_loss is None else row.best_loss, ""),
    DURATION: lambda row: (-(row.job.seconds or 0.0), ""),
}


@dataclass(frozen=True)
class Wanted:
    """What a person asked to see: words in name, id or data set; a status; an order."""

    words: str = ""
    status: str = ANY_STATUS
    order: str = NEWEST

    @property
    def filters(self) -> bool:
        return bool(self.words.strip()) or self.status != ANY_STATUS

    def fits(self, job: JobView) -> bool:
        text = f"{job.name} {job.id} {data_name(job.config)}".casefold()
        return all(word in text for word in self.words.casefold().split())


def list_rows(context: Context, run: str = "", wanted: Wanted | None = None) -> list[Row]:
    """At most LISTED jobs; the sweep that was chosen, or one of whose runs was, is opened."""
    wanted = wanted or Wanted()
    statuses = [Status(wanted.status)] if wanted.status else []
    searched = SEARCHED if wanted.filters else LISTED
    jobs = [job for job in context.service.jobs(searched, statuses) if wanted.fits(job)]
    in_use = context.model.look().run
    rows = [_row(context, job, run, in_use) for job in jobs[:LISTED]]
    order = _ORDERS.get(wanted.order)
    return sorted(rows, key=order) if order else rows


def find_row(context: Context, rows: Sequence[Row], run: str) -> Row | None:
    """The row of a run, be it listed or not; None when there is no such run."""
    listed = [each for row in rows for each in (row, *row.runs)]
    found = next((row for row in listed if row.job.id == run), None)
    if found is not None or not run:
        return found
    try:
        job = context.service.job(run)
    except StoreUnavailable:
        raise
    except JobError:
        return None
    return _row(context, job, run, context.model.look().run)


def _row(context: Context, job: JobView, run: str, in_use: str) -> Row:
    """in_use: the run whose model is."""
    history = context.histories.of(job)
    if job.kind == "score":
        return Row(job, history, parts=context.service.parts(job.id))
    if job.kind != SWEEP:
        return Row(job, history, job.id == in_use)
    listed = context.service.jobs(MOST_RUNS, parent=job.id)
    runs = [_row(context, each, run, in_use) for each in listed]
    opened = run == job.id or any(row.job.id == run for row in runs)
    return Row(job, history, runs=runs, opened=opened)
