import os
import shutil
import threading
import time

import pytest

from medvae.errors import CheckpointError, DeviceError
from tests.conftest import TrainedRun
from ui.context import Context
from ui.models import ActiveModel


def test_without_a_file_there_is_no_model(context: Context) -> None:
    assert context.model.look().status == "absent"
    with pytest.raises(CheckpointError, match="no model yet"):
        context.model.detector()


def test_the_model_is_described_once_it_is_loaded(with_model: Context) -> None:
    model = with_model.model
    detector = model.detector()
    view = model.look()
    assert view.status == "ready"
    assert view.run == detector.card.run
    assert view.threshold > 0
    assert view.metrics["auroc"]
    assert not view.phantoms
    assert model.detector() is detector


def test_looking_never_waits_and_loads_in_the_background(with_model: Context) -> None:
    assert with_model.model.look().status == "loading"
    deadline = time.monotonic() + 30
    while with_model.model.look().status == "loading" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert with_model.model.look().status == "ready"
    assert with_model.model.device


def test_only_one_thread_loads_however_many_look(
    with_model: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, others = [], threading.Event(), threading.enumerate()

    def choose(*_: str) -> None:
        begun.append(threading.current_thread())
        go_on.wait()
        raise DeviceError("no such device")

    monkeypatch.setattr("medvae.device.choose_compute", choose)
    for tries in (1, 2):  # the second after the first has failed
        for _ in range(100):
            assert with_model.model.look().status == "loading"
        started = [each for each in threading.enumerate() if each not in others]
        go_on.set()
        for thread in started:
            thread.join()
        assert len(begun) == tries
        go_on.clear()


def test_a_replaced_file_is_loaded_again(with_model: Context, trained: TrainedRun) -> None:
    first = with_model.model.detector()
    promoted = with_model.workspace.promoted
    shutil.copy(trained.best, promoted.with_suffix(".new"))
    os.utime(promoted.with_suffix(".new"), (1, 1))
    promoted.with_suffix(".new").replace(promoted)
    assert with_model.model.detector() is not first


def test_a_damaged_file_is_said_to_be_one_and_not_tried_again(context: Context) -> None:
    context.workspace.checkpoints.mkdir(parents=True)
    context.workspace.promoted.write_bytes(b"no checkpoint")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            context.model.detector()
    view = context.model.look()
    assert view.status == "damaged"
    assert "not a checkpoint" in view.message


def test_a_model_that_is_taken_away_is_absent_again_and_nothing_loads(
    with_model: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: ActiveModel = with_model.model
    model.detector()
    with_model.workspace.promoted.unlink()
    loads: list[str] = []
    monkeypatch.setattr(model, "warm_up", lambda: loads.append("one more"))
    assert model.look().status == "absent"
    assert loads == []
    with pytest.raises(CheckpointError, match="no model yet"):
        model.detector()
