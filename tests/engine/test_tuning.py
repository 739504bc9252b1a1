"""Which format is chosen: the fastest that computes what float32 computes."""

from dataclasses import dataclass, replace

import pytest
import torch

from medvae.config import Config
from medvae.device import Compute
from medvae.engine import checkpoint, tuning
from medvae.engine.events import Event, FormatChosen, RunStarted, Stop, never
from medvae.engine.experiment import run_training
from medvae.engine.tuning import Tuning, fastest
from medvae.workspace import Workspace
from tests.engine.conftest import CPU, MakeTrainer


@dataclass(frozen=True)
class Able(Compute):
    """A CPU that says it can do bfloat16, and does it, in whatever way."""

    @property
    def precisions(self) -> list[str]:
        return ["fp32", "bf16"]


@dataclass(frozen=True)
class Apple(Able):
    """The CPU in the layout of an Apple GPU."""

    @property
    def channels_last(self) -> bool:
        return Compute(torch.device("mps"), "fp32").channels_last


ABLE = Able(torch.device("cpu"), "bf16")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SECONDS", 0.0)
    monkeypatch.setattr(tuning, "WORTH_TRYING", 0)


def tuned(make_trainer: MakeTrainer, compute: Compute = ABLE, **changes: object) -> Tuning:
    trainer = make_trainer("run", compute, **changes)
    return Tuning(trainer.config, trainer.loaders, compute)


@pytest.mark.parametrize("patch_head", [False, True])
def test_the_fastest_of_those_that_agree_is_taken(
    make_trainer: MakeTrainer, patch_head: bool
) -> None:
    tuner = tuned(make_trainer, **{"model.patch_head": patch_head})
    told = tuner.run()
    names = [trial.compute.format for trial in tuner.trials]
    assert names[:2] == ["fp32, channels last", "bf16, channels last"]
    assert names[2].endswith("contiguous")
    assert list(told.tried) == names
    assert told.format == tuner.best.compute.format
    assert all(not trial.refused for trial in tuner.trials)
    fastest = min(trial.seconds for trial in tuner.trials)
    assert fastest <= tuner.best.seconds <= fastest * tuning.CLEARLY**2


def test_one_whose_loss_is_not_that_of_float32_is_refused(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "AGREEMENT", 1e-9)
    tuner = tuned(make_trainer)
    told = tuner.run()
    assert "loss off by" in told.tried["bf16, channels last"]
    assert tuner.best.compute.precision == "fp32"


def test_one_whose_gradients_are_no_numbers_is_refused(make_trainer: MakeTrainer) -> None:
    """As some compilers' are: the first loss is right, the next one is no number."""

    @dataclass(frozen=True)
    class Miscompiled(Able):
        def place(self, module: torch.nn.Module) -> torch.nn.Module:
            if self.precision == "bf16":
                next(module.parameters()).register_hook(lambda gradient: gradient * torch.nan)
            return super().place(module)

    tuner = tuned(make_trainer, Miscompiled(torch.device("cpu"), "fp32"))
    told = tuner.run()
    assert told.tried["bf16, channels last"] == "the loss is no longer a number"
    assert tuner.best.compute.precision == "fp32"


def test_one_that_fails_is_told_and_passed_over(make_trainer: MakeTrainer) -> None:
    @dataclass(frozen=True)
    class NoContiguous(Able):
        def place(self, module: torch.nn.Module) -> torch.nn.Module:
            if self.contiguous:
                raise RuntimeError("no kernel\nfor this layout")
            return super().place(module)

    told = tuned(make_trainer, NoContiguous(torch.device("cpu"), "fp32")).run()
    [failed] = [found for name, found in told.tried.items() if "contiguous" in name]
    assert failed == "failed: no kernel for this layout"
    assert "channels last" in told.format


def test_an_apple_gpu_is_not_even_asked_for_channels_last(make_trainer: MakeTrainer) -> None:
    tuner = tuned(make_trainer, Apple(torch.device("cpu"), "fp32"))
    tuner.run()
    assert [trial.compute.format for trial in tuner.trials] == [
        "fp32, contiguous",
        "bf16, contiguous",
    ]


@pytest.mark.parametrize(
    ("device", "epochs", "pays"),
    [("cpu", 20, False), ("cpu", 10_000, True), ("cuda", 20, True), ("mps", 10_000, False)],
)
def test_compiling_is_tried_where_the_run_has_more_to_save_than_it_costs(
    make_trainer: MakeTrainer, device: str, epochs: int, pays: bool
) -> None:
    tuner = tuned(make_trainer, **{"training.epochs": epochs})
    tuner._plain = Compute(torch.device(device), "fp32")
    tuner.best = replace(tuner.best, seconds=0.1)  # of 4 steps an epoch
    assert tuner._compilation_may_pay() == pays


def test_auto_is_told_written_into_the_run_and_kept_when_it_is_resumed(
    tiny_config: Config, workspace: Workspace
) -> None:
    config = tiny_config.override({"training.precision": "auto"})
    folder = workspace.run_folder("run")
    events: list[Event] = []

    def once_it_learns() -> Stop | None:
        return Stop.PAUSE if any(isinstance(event, RunStarted) for event in events) else None

    run_training(config, folder, workspace, events.append, once_it_learns)
    outcome = run_training(config, folder, workspace, events.append, never)
    [chosen] = [event for event in events if isinstance(event, FormatChosen)]
    starts = [event for event in events if isinstance(event, RunStarted)]
    assert len(starts) == 2
    assert starts[1].resumed_at_step > 0
    assert outcome.checkpoint is not None
    content = checkpoint.load(outcome.checkpoint, "model")
    kept = Compute(torch.device("cpu"), "fp32").as_chosen(content["compute"])
    assert kept.format == chosen.format
    assert {start.precision for start in starts} == {kept.precision}


def test_a_short_run_does_not_try(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "WORTH_TRYING", 9)  # it has 8 steps
    trainer = make_trainer("run", ABLE)
    events: list[Event] = []
    assert fastest(trainer.config, trainer.loaders, ABLE, events.append) == ABLE
    assert events == [FormatChosen("bf16, channels last", {})]


def test_a_precision_that_was_asked_for_is_not_tried(
    tiny_config: Config, workspace: Workspace
) -> None:
    events: list[Event] = []
    run_training(tiny_config, workspace.run_folder("run"), workspace, events.append, never)
    assert not any(isinstance(event, FormatChosen) for event in events)


def test_a_choice_is_void_on_another_kind_of_device() -> None:
    choice = replace(CPU, precision="bf16", contiguous=True).choice()
    assert CPU.as_chosen(choice) == replace(CPU, precision="bf16", contiguous=True)
    mps = Compute(torch.device("mps"), "fp32")
    assert mps.as_chosen(choice) == mps


def test_a_compiled_network_learns_the_same(make_trainer: MakeTrainer) -> None:
    compiled = replace(CPU, compiled=True)
    trial = tuned(make_trainer, CPU)._try(compiled)
    assert not trial.refused
    plain = tuned(make_trainer, CPU).trials[0]
    assert trial.losses == pytest.approx(plain.losses, rel=1e-4)
