"""Several attempts at one run: the furthest resume point goes on, a zombie disturbs nobody."""

import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.chaos import tiny_config as chaos_config
from medvae.config import Config
from medvae.engine import checkpoint
from medvae.engine.attempts import attempt_folder, clear, publish, resume_points, take_over
from medvae.engine.events import EpochEnded, Event, ShouldStop, Stop, ignore, never
from medvae.engine.experiment import TrainingOutcome, run_training
from medvae.workspace import Workspace


@pytest.fixture
def config() -> Config:
    return chaos_config(0).override({"training.epochs": 8})


@pytest.fixture
def run(workspace: Workspace) -> Path:
    return workspace.run_folder("run")


def resume_point(folder: Path, epoch: int, step: int) -> Path:
    content = {"epoch": epoch, "step": step}
    checkpoint.save(folder / "last.pth", "resume point", content)
    return folder / "last.pth"


def pausing_after(epochs: int) -> tuple[list[Event], ShouldStop]:
    events: list[Event] = []

    def should_stop() -> Stop | None:
        ended = sum(isinstance(event, EpochEnded) for event in events)
        return Stop.PAUSE if ended >= epochs else None

    return events, should_stop


def attempt(config: Config, run: Path, workspace: Workspace, number: int) -> TrainingOutcome:
    own = attempt_folder(run, number)
    return run_training(config, run, workspace, ignore, never, attempt=own)


def test_the_furthest_readable_resume_point_moves_to_the_new_attempt(run: Path) -> None:
    resume_point(run, 1, 9)
    resume_point(attempt_folder(run, 1), 3, 2)
    resume_point(attempt_folder(run, 2), 2, 7)
    damaged = resume_point(attempt_folder(run, 3), 9, 9)
    damaged.write_bytes(damaged.read_bytes()[:100])
    own = attempt_folder(run, 4)
    take_over(run, own)
    assert checkpoint.load(own / "last.pth", "resume point")["epoch"] == 3
    assert not (attempt_folder(run, 1) / "last.pth").exists()
    take_over(run, own)
    assert len(resume_points(run)) == 4
    clear(run)
    assert resume_points(run) == []


def test_without_a_resume_point_nothing_is_taken_over(run: Path) -> None:
    take_over(run, attempt_folder(run, 1))
    assert not attempt_folder(run, 1).exists()


def test_publishing_moves_the_model_last(run: Path) -> None:
    own = attempt_folder(run, 1)
    own.mkdir(parents=True)
    for name in ("a.png", "best.pth", "evaluation.json", "last.pth"):
        (own / name).write_text(name)
    (run / "evaluation.json").mkdir()  # in the way: the files cannot all be moved
    with pytest.raises(OSError):
        publish(own, run)
    assert not (run / "best.pth").exists()
    (run / "evaluation.json").rmdir()
    publish(own, run)
    assert {path.name for path in run.iterdir() if path.is_file()} == {
        "a.png",
        "best.pth",
        "evaluation.json",
    }
    assert (own / "last.pth").exists()


def test_an_attempt_that_may_not_publish_leaves_the_run_to_its_successor(
    config: Config, run: Path, workspace: Workspace
) -> None:
    own = attempt_folder(run, 1)
    refused = run_training(
        config, run, workspace, ignore, never, attempt=own, may_publish=lambda: False
    )
    assert refused.stopped is Stop.CANCEL
    assert not (run / "best.pth").exists() and not workspace.promoted.exists()
    assert attempt(config, run, workspace, 2).checkpoint == run / "best.pth"
    assert workspace.promoted.exists()


def test_a_zombie_that_goes_on_writing_changes_no_bit_of_its_successors_model(
    config: Config, run: Path, workspace: Workspace
) -> None:
    events, should_stop = pausing_after(3)
    own = attempt_folder(run, 1)
    run_training(config, run, workspace, events.append, should_stop, attempt=own)
    stale = shutil.copy(own / "last.pth", workspace.home / "stale.pth")

    def zombie(event: Event) -> None:
        if isinstance(event, EpochEnded):  # it saves whenever its successor ends an epoch
            shutil.copy(stale, own / "last.pth")

    run_training(config, run, workspace, zombie, never, attempt=attempt_folder(run, 2))
    shutil.copy(stale, own / "last.pth")
    run_training(config, run, workspace, ignore, never, attempt=attempt_folder(run, 3))
    whole = workspace.run_folder("whole")
    run_training(config, whole, workspace, ignore, never)
    ours, theirs = (
        checkpoint.load(folder / "best.pth", "model")["weights"] for folder in (run, whole)
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert resume_points(run) == []
