"""The training loop. Knows the outside only as two callables: `on_event` and `should_stop`.

Everything random follows from the seed and the step number, and the resume point holds all
the rest, so that an interrupted run goes on exactly as it would have.
"""

import copy
import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medvae.config import Config
from medvae.data.loader import HealthyLoaders
from medvae.device import Compute
from medvae.engine import checkpoint
from medvae.engine.attempts import RESUME_POINT
from medvae.engine.events import (
    CheckpointSaved,
    EpochEnded,
    OnEvent,
    Progress,
    RunEnded,
    RunStarted,
    SamplesDrawn,
    ShouldStop,
    Stop,
)
from medvae.engine.patch_task import Exam, PatchTask
from medvae.engine.samples import SAMPLES, draw_samples
from medvae.errors import MedVAEError
from medvae.model.loss import LossParts, VAELoss, patch_error
from medvae.model.vae import VAE, VAEOutput
from medvae.telemetry import Telemetry, Waited

PROGRESS_EVERY = 0.5  # seconds; reading the sums is the only wait for the device inside an epoch
RISE = 0.08  # share of the steps in which the learning rate rises to its peak
NOISE_STREAM = 500_009  # sets the reparameterisation noise apart from the augmentation's draws


@dataclass
class Best:
    """The weights with the lowest validation loss so far; epoch counts from 1.

    elbo: MSE + KLD at beta 1 over the same images, which unlike the loss can be compared between
    runs of different beta.
    """

    loss: float = math.inf
    epoch: int = 0
    elbo: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    best: Best
    history: list[EpochEnded]
    stopped: Stop | None


class Trainer:
    """Trains one VAE on healthy images; picks the epoch with the lowest validation loss."""

    def __init__(
        self, config: Config, loaders: HealthyLoaders, compute: Compute, folder: Path
    ) -> None:
        self.config = config
        self.loaders = loaders
        self.compute = compute
        self.folder = folder
        torch.manual_seed(config.training.seed)
        self.model = VAE(config.model)
        compute.place(self.model)
        self.world = loaders.train.world
        self.network = self.world.network(self.model)  # the same weights, for training steps
        self.loss = VAELoss(config.loss)
        steps = loaders.train.steps_per_epoch * config.training.epochs
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), config.training.learning_rate, fused=True
        )
        self.scheduler = _schedule(self.optimizer, config, steps)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
        averaging = config.training.weight_average > 0
        self.average = copy.deepcopy(self.model).eval() if averaging else None
        self.task = PatchTask(config.patch, loaders.train) if config.model.patch_head else None
        self.best = Best()
        self.history: list[EpochEnded] = []
        self.epoch = 0  # epochs finished
        self.step = 0  # steps finished within the current epoch
        self.sums = torch.zeros(3, device=compute.device)  # loss, mse, kld over those steps

    @property
    def resume_point(self) -> Path:
        return self.folder / RESUME_POINT

    def fit(self, on_event: OnEvent, should_stop: ShouldStop) -> FitResult:
        """Run all epochs, or until asked to stop; goes on from a resume point if there is one.

        Raises `MedVAEError` when the loss is no longer a number.
        """
        training = self.config.training
        if self.resume_point.exists():
            self._restore()
        self._check_same_start()
        should_stop = self.world.agreed(should_stop, tuple(Stop), self.compute)
        on_event(self._started())
        begun = self._saved_at = time.monotonic()
        stopped: Stop | None = None
        with Telemetry(self.compute) as self.telemetry:
            while self.epoch < training.epochs and stopped is None:
                stopped = self._run_epoch(on_event, should_stop)
        if stopped is Stop.KEEP:
            self._validate_and_compare(self.epoch + 1)
            if not self.best.weights:
                raise self._diverged()
        if stopped is not Stop.CANCEL:
            self._save(on_event)
        on_event(
            RunEnded(stopped, self.epoch, self.best.epoch, self.best.loss, time.monotonic() - begun)
        )
        return FitResult(self.best, self.history, stopped)

    def _run_epoch(self, on_event: OnEvent, should_stop: ShouldStop) -> Stop | None:
        begun = reported = time.monotonic()
        first_step = self.step
        self.model.train()
        images_in_turn = Waited(self.loaders.train.shuffled(self.epoch, self.step))
        for images in images_in_turn:
            parts = self._train_step(images)
            self.sums += self.world.total(parts, len(images))
            self.step += 1
            now = time.monotonic()
            if now - reported >= PROGRESS_EVERY:
                steps_per_second = (self.step - first_step) / (now - begun)
                on_event(self._progress(steps_per_second, images_in_turn.seconds / (now - begun)))
                reported = now
            if now - self._saved_at >= self.config.training.save_every_seconds:
                self._save(on_event)
            stop = should_stop()
            if stop is not None:
                return stop
        self._finish_epoch(on_event, self.step - first_step, begun)
        return None

    def _train_step(self, images: Tensor) -> LossParts:
        train, batch = self.loaders.train, self.loaders.train.batch_at(self.step)
        global_step = self.epoch * train.steps_per_epoch + self.step
        generator = train.generator(global_step + NOISE_STREAM)
        noise = torch.randn(
            (batch, self.config.model.latent_size),
            generator=generator,
            device=self.compute.device,
        )
        exam = self.task.set(images, generator, batch) if self.task else None
        with self.compute.autocast():
            output = self.network(exam.images if exam else images, self.world.part(noise))
        beta = self.loss.beta_at(global_step / train.steps_per_epoch)
        parts = self._loss(output, images, exam, beta)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.world.weigh(parts.loss, len(images), batch)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self._average(global_step)
        return parts

    def _loss(
        self, output: VAEOutput, images: Tensor, exam: Exam | None, beta: float | None = None
    ) -> LossParts:
        """MSE + beta × KLD, and the patch map's error where there is a second task."""
        if exam is None:
            return self.loss(output, images, beta)
        parts = self.loss(output, exam.clean, beta)
        second = self.config.patch.weight * patch_error(output, exam.changed)
        return parts._replace(loss=parts.loss + second)

    @torch.no_grad()
    def _average(self, global_step: int) -> None:
        """Move the averaged weights towards the current ones; faster in the first steps."""
        if self.average is None:
            return
        decay = min(self.config.training.weight_average, global_step / (global_step + 10))
        current = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    @property
    def judged(self) -> VAE:
        """The weights that count: the averaged ones where there are any."""
        return self.model if self.average is None else self.average

    def _finish_epoch(self, on_event: OnEvent, steps: int, begun: float) -> None:
        trained = time.monotonic() - begun
        loss, mse, kld = (self.sums / len(self.loaders.train.dataset)).tolist()
        (validation_loss, validation_mse, validation_kld), is_best = self._validate_and_compare(
            self.epoch + 1
        )
        if not math.isfinite(loss + validation_loss):
            raise self._diverged()
        self.epoch, self.step = self.epoch + 1, 0
        self.sums.zero_()
        ended = EpochEnded(
            self.epoch,
            self.config.training.epochs,
            loss,
            mse,
            kld,
            validation_loss,
            validation_mse,
            validation_kld,
            is_best,
            time.monotonic() - begun,
            steps * self.config.training.batch_size / max(trained, 1e-9),
        )
        self.history.append(ended)
        on_event(ended)
        if self.world.leads:
            on_event(SamplesDrawn(self.epoch, str(self._draw_samples())))

    def _diverged(self) -> MedVAEError:
        return MedVAEError(
            f"training diverged in epoch {self.epoch + 1} (the loss is no longer a number); "
            f"try a learning rate of {self.config.training.learning_rate / 3:.1g}"
        )

    def _validate_and_compare(self, epoch: int) -> tuple[list[float], bool]:
        means = self._validate()
        is_best = means[0] < self.best.loss
        if is_best:
            self.best = Best(
                means[0], epoch, means[1] + means[2], checkpoint.weights_of(self.judged)
            )
        return means, is_best

    @torch.inference_mode()
    def _validate(self) -> list[float]:
        """Mean loss at the final beta, MSE and KLD over the validation images, through mu."""
        model = self.judged.eval()
        sums = torch.zeros(3, device=self.compute.device)
        for index, batch in enumerate(self.loaders.validation.ordered()):
            images = self.world.part(batch)
            generator = self.loaders.validation.generator(index)  # the same exams in every epoch
            exam = self.task.set(images, generator, len(batch)) if self.task else None
            with self.compute.autocast():
                output = model(exam.images if exam else images)
            sums += self.world.total(self._loss(output, images, exam), len(images))
        means: list[float] = (sums / len(self.loaders.validation.dataset)).tolist()
        return means

    @torch.inference_mode()
    def _draw_samples(self) -> Path:
        images = next(self.loaders.validation.ordered())[:SAMPLES]
        with self.compute.autocast():
            reconstructions = self.judged.eval()(images).reconstruction
        path = self.folder / "samples" / f"epoch_{self.epoch:04d}.png"
        return draw_samples(images, reconstructions, path)

    def _started(self) -> RunStarted:
        train = self.loaders.train
        return RunStarted(
            device=f"{self.world.size} × " * (self.world.size > 1) + self.compute.name,
            precision=self.compute.precision,
            parameters=sum(weight.numel() for weight in self.model.parameters()),
            train_images=len(train.dataset),
            validation_images=len(self.loaders.validation.dataset),
            epochs=self.config.training.epochs,
            steps_per_epoch=train.steps_per_epoch,
            resumed_at_step=self.epoch * train.steps_per_epoch + self.step,
        )

    def _progress(self, steps_per_second: float, waiting: float) -> Progress:
        training, per_epoch = self.config.training, self.loaders.train.steps_per_epoch
        seen = min(self.step * training.batch_size, len(self.loaders.train.dataset))
        loss, mse, kld = (self.sums / seen).tolist()
        left = (training.epochs - self.epoch) * per_epoch - self.step
        device = self.telemetry.latest
        return Progress(
            self.epoch + 1,
            training.epochs,
            self.step,
            per_epoch,
            loss,
            mse,
            kld,
            steps_per_second * training.batch_size,
            left / steps_per_second,
            waiting,
            device.busy,
            None if device.memory is None else device.memory / 2**20,
        )

    def _save(self, on_event: OnEvent) -> None:
        if not self.world.leads:
            return
        content = {
            "config": self.config.model_dump(),
            "precision": self.compute.precision,
            "weights": checkpoint.weights_of(self.model),
            "average": checkpoint.weights_of(self.average) if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": asdict(self.best),
            "history": [asdict(epoch) for epoch in self.history],
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums.cpu(),
        }
        checkpoint.save(self.resume_point, "resume point", content)
        self._saved_at = time.monotonic()
        on_event(CheckpointSaved(str(self.resume_point)))

    def _check_same_start(self) -> None:
        mine = f"epoch {self.epoch + 1}, step {self.step}"
        first = self.world.told("start", mine)
        if mine != first:
            raise MedVAEError(
                f"process {self.world.rank} would begin at {mine}, process 0 at {first}; all need "
                "the same folder: set MEDVAE_HOME to one that they share"
            )

    def _restore(self) -> None:
        content = checkpoint.load(self.resume_point, "resume point")
        if _what_decides(content["config"]) != _what_decides(self.config.model_dump()):
            raise MedVAEError(
                f"{self.resume_point}: belongs to a run with another configuration; "
                "start a new run instead"
            )
        self.compute = replace(self.compute, precision=content["precision"])
        self.model.load_state_dict(content["weights"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        self.scaler.load_state_dict(content["scaler"])
        self.best = Best(**content["best"])
        self.history = [EpochEnded(**epoch) for epoch in content["history"]]
        self.epoch, self.step = content["epoch"], content["step"]
        self.sums = content["sums"].to(self.compute.device)


def _schedule(
    optimizer: torch.optim.Optimizer, config: Config, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate falls as a cosine; with the second task it rises for a few steps first.

    Without that rise the second task's gradients drive the latent code far out. The plain VAE is
    better off without it: its healthy validation loss ends at 174 instead of 246.
    """
    if not config.model.patch_head:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        config.training.learning_rate,
        total_steps=steps + 1,
        pct_start=RISE,
        cycle_momentum=False,
    )


def _what_decides(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what may change on the way: device and how often it saves."""
    training = {**config["training"], "device": None, "precision": None, "save_every_seconds": None}
    return {**config, "training": training}
