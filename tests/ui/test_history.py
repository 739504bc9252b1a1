from dataclasses import replace

from jobs.views import Status
from medvae.config import Config
from medvae.engine.events import Preparing, Progress, RunEnded, SamplesDrawn
from tests.ui.conftest import STARTED, Puppet, epoch
from ui.context import Context
from ui.history import RunHistory

PROGRESS = Progress(2, 3, 4, 5, 1.0, 1.0, 1.0, 100.0, 9.0)


def folded(*events: object) -> RunHistory:
    return RunHistory().after((n, event) for n, event in enumerate(events, 1))  # type: ignore[misc]


def test_a_history_tells_where_the_run_stands() -> None:
    history = folded(Preparing("Importing", 1, 9), STARTED, epoch(1, 5.0), PROGRESS, epoch(2, 4.0))
    assert history.seq == 5
    assert history.preparing is None
    assert sorted(history.epochs) == [1, 2]
    assert history.best is not None
    assert history.best.epoch == 2


def test_epochs_too_short_for_progress_of_their_own_still_move_the_bar() -> None:
    history = folded(STARTED, epoch(1))
    assert history.progress is not None
    assert (history.progress.epoch, history.progress.step) == (2, 0)
    assert history.progress.seconds_left == 8.0
    last = folded(STARTED, epoch(3)).progress
    assert last is not None
    assert (last.epoch, last.step) == (3, STARTED.steps_per_epoch)


def test_a_new_start_forgets_and_a_resumed_one_goes_on() -> None:
    before = (STARTED, epoch(1), SamplesDrawn(1, "one.png"), RunEnded(None, 1, 1, 2.0, 3.0))
    again = folded(*before, STARTED)
    assert not again.epochs
    assert not again.samples
    resumed = folded(*before, replace(STARTED, resumed_at_step=5))
    assert sorted(resumed.epochs) == [1]
    assert resumed.ended is None


def test_histories_grow_with_the_event_table(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    puppet.begin(job, [STARTED, epoch(1)])
    first = context.histories.of(context.service.job(job))
    assert sorted(first.epochs) == [1]
    puppet.tell(job, epoch(2), epoch(3))
    puppet.end(job, Status.SUCCEEDED)
    second = context.histories.of(context.service.job(job))
    assert sorted(second.epochs) == [1, 2, 3]
    assert sorted(first.epochs) == [1]  # what a page drew from does not change under it
