"""Events survive the way through JSON, which is how a page in another process gets them."""

import json

import pytest

from medvae.engine.events import Event, RunEnded, Stop, from_record, ignore, never, to_record
from tests.conftest import TrainedRun


def test_every_event_of_a_run_comes_back_from_json(trained: TrainedRun) -> None:
    kinds = set()
    for event in trained.events:
        back = from_record(json.loads(json.dumps(to_record(event))))
        assert back == event
        kinds.add(type(back).__name__)
    assert kinds >= {
        "Preparing",
        "RunStarted",
        "EpochEnded",
        "SamplesDrawn",
        "CheckpointSaved",
        "RunEnded",
    }


@pytest.mark.parametrize("stop", [None, *Stop])
def test_why_a_run_ended_comes_back_as_what_it_was(stop: Stop | None) -> None:
    event: Event = RunEnded(stop, 3, 2, 41.5, 60.0)
    back = from_record(json.loads(json.dumps(to_record(event))))
    assert isinstance(back, RunEnded)
    assert back.stopped is stop


def test_a_listener_who_does_not_care_and_a_run_that_nobody_stops() -> None:
    ignore(RunEnded(None, 1, 1, 0.0, 0.0))
    assert never() is None
