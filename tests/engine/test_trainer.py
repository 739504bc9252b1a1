"""The loop: it learns, tells what it does, stops when asked, and goes on as if it never had."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_leaves

from medvae.device import Compute
from medvae.engine import checkpoint
from medvae.engine.detector import load_model
from medvae.engine.events import (
    CheckpointSaved,
    EpochEnded,
    Event,
    Progress,
    RunEnded,
    RunStarted,
    SamplesDrawn,
    Stop,
    ignore,
    never,
)
from medvae.engine.trainer import FitResult, Trainer
from medvae.errors import CheckpointError, ConfigError, MedVAEError
from tests.engine.conftest import CPU, MakeTrainer, stop_after


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return checkpoint.weights_of(trainer.model)


def assert_same_end(one: tuple[Trainer, FitResult], other: tuple[Trainer, FitResult]) -> None:
    """Bit for bit: weights, best weights, optimizer and every loss on the way."""
    for first, second in (
        (weights(one[0]), weights(other[0])),
        (one[1].best.weights, other[1].best.weights),
    ):
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
    moments = [
        tree_leaves(trainer.learner.optimizer.state_dict()["state"]) for trainer, _ in (one, other)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))
    assert one[1].best.epoch == other[1].best.epoch
    timeless = [
        [replace(epoch, seconds=0.0, images_per_second=0.0) for epoch in result.history]
        for _, result in (one, other)
    ]
    assert timeless[0] == timeless[1]


# --- Learning ------------------------------------------------------------------------------------


def test_the_loss_falls(make_trainer: MakeTrainer) -> None:
    changes = {"training.epochs": 8, "training.learning_rate": 0.01, "loss.kl_warmup_epochs": 0}
    history = make_trainer(**changes).fit(ignore, never).history
    assert history[-1].loss < 0.8 * history[0].loss
    assert history[-1].validation_loss < 0.8 * history[0].validation_loss


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(**{"training.epochs": 5})
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def remember_and_spoil(event: Event) -> None:
        if isinstance(event, EpochEnded):
            kept[event.epoch] = weights(trainer)
            if event.epoch == 3:  # so that the last epoch is not the best one
                torch.nn.init.constant_(trainer.model.to_mu.weight, 9.0)

    result = trainer.fit(remember_and_spoil, never)
    losses = {epoch.epoch: epoch.validation_loss for epoch in result.history}
    best = min(losses, key=losses.__getitem__)
    assert best < 4
    assert (result.best.epoch, result.best.loss) == (best, losses[best])
    assert all(torch.equal(result.best.weights[name], kept[best][name]) for name in kept[best])
    so_far = math.inf
    for epoch in result.history:
        assert epoch.best == (epoch.validation_loss < so_far)
        so_far = min(so_far, epoch.validation_loss)


def test_the_validation_loss_is_that_of_the_final_beta_through_the_mean(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(**{"training.epochs": 1, "loss.beta": 3.0})
    result = trainer.fit(ignore, never)
    model = load_model(trainer.config, result.best.weights, Path("weights"), CPU)
    images = torch.cat(list(trainer.loaders.validation.ordered()))
    with torch.inference_mode():
        parts = trainer.learner.loss(model(images), images)
    ended = result.history[0]
    assert ended.validation_loss == pytest.approx(float(parts.loss), rel=1e-5)
    assert ended.validation_loss == pytest.approx(
        ended.validation_mse + 3 * ended.validation_kld, rel=1e-5
    )


@pytest.mark.parametrize("patch_head", [False, True])
def test_runs_of_any_batch_size_are_judged_on_the_same_pictures(
    make_trainer: MakeTrainer, patch_head: bool
) -> None:
    small, large = (
        make_trainer(**{"training.batch_size": size, "model.patch_head": patch_head})._validate()
        for size in (2, 8)
    )
    assert small == pytest.approx(large, rel=1e-5)


def test_the_same_seed_repeats_and_another_does_not(make_trainer: MakeTrainer) -> None:
    runs = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        trainer = make_trainer(folder, **{"training.seed": seed})
        runs.append((trainer, trainer.fit(ignore, never)))
    assert_same_end(runs[0], runs[1])
    with pytest.raises(AssertionError):
        assert_same_end(runs[0], runs[2])


@pytest.mark.parametrize(
    "changes", [{"training.augment": True}, {"loss.beta": 9.0}, {"training.batch_size": 5}]
)
def test_settings_make_a_difference(make_trainer: MakeTrainer, changes: dict[str, Any]) -> None:
    plain, changed = make_trainer("plain"), make_trainer("changed", **changes)
    plain.fit(ignore, never)
    changed.fit(ignore, never)
    assert any(
        not torch.equal(one, other)
        for one, other in zip(weights(plain).values(), weights(changed).values(), strict=True)
    )


def test_a_loss_that_is_no_number_ends_the_run_with_what_to_try(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**{"training.learning_rate": 0.003})
    torch.nn.init.constant_(trainer.model.to_mu.bias, math.nan)
    with pytest.raises(MedVAEError, match=r"diverged in epoch 1.*learning rate of 0\.001"):
        trainer.fit(ignore, never)


def test_keeping_a_run_that_has_no_number_yet_says_so_too(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    torch.nn.init.constant_(trainer.model.to_mu.bias, math.nan)
    with pytest.raises(MedVAEError, match="diverged"):
        trainer.fit(ignore, stop_after(2, Stop.KEEP))


# --- Events --------------------------------------------------------------------------------------


def test_events_come_in_order_and_say_what_happened(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medvae.engine.trainer.PROGRESS_EVERY", 0.0)
    trainer = make_trainer()
    events: list[Event] = []
    result = trainer.fit(events.append, never)
    steps = trainer.loaders.train.steps_per_epoch

    started, ended = events[0], events[-1]
    assert isinstance(started, RunStarted)
    assert isinstance(ended, RunEnded)
    assert started.parameters == sum(weight.numel() for weight in trainer.model.parameters())
    assert started.train_images == len(trainer.loaders.train.dataset)
    assert (started.epochs, started.steps_per_epoch, started.resumed_at_step) == (2, steps, 0)
    assert (ended.stopped, ended.epochs_run) == (None, 2)
    assert (ended.best_epoch, ended.best_validation_loss) == (result.best.epoch, result.best.loss)

    files = (CheckpointSaved, SamplesDrawn)  # told when they are written, which nobody waits for
    middle = [type(event) for event in events[1:-1] if not isinstance(event, files)]
    assert middle == ([Progress] * steps + [EpochEnded]) * 2
    for drawn in (event for event in events if isinstance(event, SamplesDrawn)):
        assert events.index(result.history[drawn.epoch - 1]) < events.index(drawn)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(event.epoch, event.step) for event in progress] == [
        (epoch, step) for epoch in (1, 2) for step in range(1, steps + 1)
    ]
    assert progress[-1].seconds_left == 0
    assert all(event.images_per_second > 0 for event in progress)
    epochs = [event for event in events if isinstance(event, EpochEnded)]
    assert epochs == result.history
    assert progress[steps - 1].loss == pytest.approx(epochs[0].loss, rel=1e-5)


def test_samples_show_images_above_their_reconstructions(make_trainer: MakeTrainer) -> None:
    events: list[Event] = []
    make_trainer().fit(events.append, never)
    drawn = [event for event in events if isinstance(event, SamplesDrawn)]
    assert [event.epoch for event in drawn] == [1, 2]
    assert len({event.path for event in drawn}) == 2
    for event in drawn:
        with Image.open(event.path) as strip:
            assert strip.size == (4 * 33 + 1, 2 * 33 + 1)


# --- Stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", Stop)
def test_a_stop_takes_effect_after_the_step_that_is_running(
    make_trainer: MakeTrainer, stop: Stop
) -> None:
    trainer = make_trainer(**{"training.epochs": 100})
    events: list[Event] = []
    result = trainer.fit(events.append, stop_after(7, stop))
    done = trainer.epoch * trainer.loaders.train.steps_per_epoch + trainer.step
    assert done == 7
    assert result.stopped is stop
    assert isinstance(events[-1], RunEnded)
    assert events[-1].stopped is stop


def test_cancelling_writes_no_resume_point(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.fit(ignore, stop_after(3, Stop.CANCEL))
    assert not trainer.resume_point.exists()


def test_keeping_in_the_first_epoch_gives_usable_weights(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    result = trainer.fit(ignore, stop_after(2, Stop.KEEP))
    assert result.best.epoch == 1
    assert math.isfinite(result.best.loss)
    assert all(
        torch.equal(result.best.weights[name], tensor) for name, tensor in weights(trainer).items()
    )


def test_keeping_after_the_best_epoch_keeps_the_best(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**{"training.epochs": 3})
    per_epoch = trainer.loaders.train.steps_per_epoch

    def spoil(event: Event) -> None:
        if isinstance(event, EpochEnded):
            torch.nn.init.constant_(trainer.model.to_mu.weight, 9.0)

    result = trainer.fit(spoil, stop_after(per_epoch + 1, Stop.KEEP))
    assert result.best.epoch == 1
    assert result.best.loss == result.history[0].validation_loss


# --- Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("augment", [False, True])
def test_a_paused_run_ends_bit_for_bit_as_the_uninterrupted_one(
    make_trainer: MakeTrainer, precision: str, augment: bool
) -> None:
    compute = Compute(torch.device("cpu"), precision)
    changes = {"training.augment": augment, "training.epochs": 3}
    straight = make_trainer("straight", compute, **changes)
    steps = straight.loaders.train.steps_per_epoch
    whole = straight, straight.fit(ignore, never)
    # In the middle of an epoch, after its last step, and after the first step of another.
    for pause in (2, steps, steps + 1, 2 * steps + 2):
        first = make_trainer(f"paused {pause}", compute, **changes)
        assert first.fit(ignore, stop_after(pause, Stop.PAUSE)).stopped is Stop.PAUSE
        torch.manual_seed(pause)  # another process would have other global draws
        second = make_trainer(f"paused {pause}", compute, **changes)
        events: list[Event] = []
        result = second.fit(events.append, never)
        assert isinstance(events[0], RunStarted)
        assert events[0].resumed_at_step == pause
        assert_same_end(whole, (second, result))


def test_a_run_paused_again_and_again_still_ends_the_same(make_trainer: MakeTrainer) -> None:
    straight = make_trainer("straight")
    whole = straight, straight.fit(ignore, never)
    for _ in range(100):
        trainer = make_trainer("often")
        result = trainer.fit(ignore, stop_after(3, Stop.PAUSE))
        if result.stopped is None:
            break
    assert_same_end(whole, (trainer, result))


def test_a_resume_point_that_cannot_be_written_ends_the_run(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**{"training.save_every_seconds": 1e-9, "training.epochs": 10_000})

    def stand_in_the_way(event: Event) -> None:
        if isinstance(event, RunStarted):
            (trainer.resume_point / "occupied").mkdir(parents=True)

    with pytest.raises(CheckpointError, match="not written"):
        trainer.fit(stand_in_the_way, never)


def test_a_resume_point_is_of_the_moment_it_was_asked_for(make_trainer: MakeTrainer) -> None:
    """Steps made while it is written do not get into it."""
    trainer = make_trainer()
    before = weights(trainer)
    state = checkpoint.snapshot(trainer.learner.state())
    trainer.fit(ignore, stop_after(2, Stop.CANCEL))
    assert all(torch.equal(state["weights"][name], before[name]) for name in before)
    assert not all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def test_a_run_killed_between_two_resume_points_goes_on_from_the_last_one(
    make_trainer: MakeTrainer,
) -> None:
    straight = make_trainer("straight")
    whole = straight, straight.fit(ignore, never)

    class Killed(Exception):
        pass

    trainer = make_trainer("killed", **{"training.save_every_seconds": 1e-9})

    def kill(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            raise Killed

    with pytest.raises(Killed):
        trainer.fit(kill, never)
    second = make_trainer("killed")
    assert_same_end(whole, (second, second.fit(ignore, never)))


def test_a_resume_point_remembers_the_precision_it_was_made_with(make_trainer: MakeTrainer) -> None:
    first = make_trainer("run", Compute(torch.device("cpu"), "bf16"))
    first.fit(ignore, stop_after(2, Stop.PAUSE))
    events: list[Event] = []
    make_trainer("run").fit(events.append, never)
    assert isinstance(events[0], RunStarted)
    assert events[0].precision == "bf16"


@pytest.mark.parametrize(
    "changes", [{"training.device": "auto"}, {"training.save_every_seconds": 5}]
)
def test_a_run_may_go_on_elsewhere(make_trainer: MakeTrainer, changes: dict[str, Any]) -> None:
    make_trainer().fit(ignore, stop_after(2, Stop.PAUSE))
    assert len(make_trainer(**changes).fit(ignore, never).history) == 2


@pytest.mark.parametrize(
    "changes", [{"loss.beta": 2.0}, {"training.epochs": 5}, {"model.width": 8}]
)
def test_a_run_does_not_go_on_with_another_configuration(
    make_trainer: MakeTrainer, changes: dict[str, Any]
) -> None:
    make_trainer().fit(ignore, stop_after(2, Stop.PAUSE))
    [key] = changes
    with pytest.raises(ConfigError, match=rf"{key} was .*another name"):
        make_trainer(**changes).fit(ignore, never)
