"""Worker side of `benchmarks.chaos`: real trainings in a process that is about to be killed.

`CHAOS_MOMENT` says when, `CHAOS_DELAY` how many seconds after that. The process kills itself by
SIGKILL, which nothing in it can catch; moments that only show outside are left to the parent.
"""

import os
import signal
import threading
from dataclasses import replace

from jobs.assignment import Assignment, Outcome
from jobs.tasks import train
from medvae.engine.events import Event, OnEvent, Preparing, RunStarted, ShouldStop

MOMENTS = ("claim", "start", "calibration", "publishing", "published")


def doomed_train(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """The worker's own `train`, with death as a listener."""

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, RunStarted):
            _die_if("start")
        if isinstance(event, Preparing) and event.stage.startswith("Calibrating"):
            _die_if("calibration")

    def may_publish() -> bool:
        allowed = assignment.may_publish()
        _die_if("publishing")
        return allowed

    _die_if("claim")
    outcome = train(replace(assignment, may_publish=may_publish), listen, should_stop)
    _die_if("published")
    return outcome


def _die_if(moment: str) -> None:
    if os.environ.get("CHAOS_MOMENT") == moment:
        delay = float(os.environ["CHAOS_DELAY"])
        if delay:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)


RUNNERS = {"train": doomed_train}
