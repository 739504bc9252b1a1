"""The training loop. Knows the outside only as two callables: `on_event` and `should_stop`.

Everything random follows from the seed and the step number, and the resume point holds all
the rest, so that an interrupted run goes on exactly as it would have.
"""

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from medvae.config import Config
from medvae.data.loader import HealthyLoaders
from medvae.device import Compute
from medvae.engine import checkpoint
from medvae.engine.attempts import RESUME_POINT
from medvae.engine.background import Background
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
from medvae.engine.learner import Learner
from medvae.engine.patch_task import PatchTask
from medvae.engine.samples import SAMPLES, draw_samples
from medvae.errors import MedVAEError
from medvae.memory import freed_memory_kept
from medvae.model.loss import LossParts
from medvae.model.vae import VAE
from medvae.telemetry import Telemetry, Waited

PROGRESS_EVERY = 0.5  # seconds; reading the sums is the only wait for the device inside an epoch
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
        self.world = loaders.train.world
        self.learner = self._new_learner()
        self.task = PatchTask(config.patch, loaders.train) if config.model.patch_head else None
        self.best = Best()
        self.history: list[EpochEnded] = []
        self.epoch = 0  # epochs finished
        self.step = 0  # steps finished within the current epoch
        self.sums = torch.zeros(3, device=compute.device)  # loss, mse, kld over those steps

    def _new_learner(self) -> Learner:
        steps = self.loaders.train.steps_per_epoch * self.config.training.epochs
        return Learner(self.config, self.compute, steps, self.world)

    @property
    def model(self) -> VAE:
        """In training; see `Learner.judged` for the weights that count."""
        return self.learner.model

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
        self.files: Background[SamplesDrawn | CheckpointSaved] = Background()
        memory = freed_memory_kept(self.compute.device)
        with memory, Telemetry(self.compute) as self.telemetry, self.files:
            while self.epoch < training.epochs and stopped is None:
                stopped = self._run_epoch(on_event, should_stop)
            if stopped is Stop.KEEP:
                self._validate_and_compare(self.epoch + 1)
                if not self.best.weights:
                    raise self._diverged()
            if stopped is not Stop.CANCEL:
                self._save()
            for written in self.files.wait():
                on_event(written)
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
                self._save()
            for written in self.files.finished():
                on_event(written)
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
        exam = None
        if self.task:
            exam = self.task.set(images, generator, batch, augmented=train.augment)
        beta = self.learner.loss.beta_at(global_step / train.steps_per_epoch)
        return self.learner.step(images, exam, self.world.part(noise), beta, batch, global_step)

    def _finish_epoch(self, on_event: OnEvent, steps: int, begun: float) -> None:
        trained = time.monotonic() - begun
        loss, mse, kld = (self.sums / self.loaders.train.images_per_epoch).tolist()
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
            self._draw_samples()

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
                means[0], epoch, means[1] + means[2], checkpoint.weights_of(self.learner.judged)
            )
        return means, is_best

    @torch.inference_mode()
    def _validate(self) -> list[float]:
        """Mean loss at the final beta, MSE and KLD over the validation images, through mu."""
        model = self.learner.judged.eval()
        sums = torch.zeros(3, device=self.compute.device)
        for index, batch in enumerate(self.loaders.validation.ordered()):
            images = self.world.part(batch)
            generator = self.loaders.validation.generator(index)  # the same exams in every epoch
            exam = None
            if self.task:
                exam = self.task.set(images, generator, len(batch), augmented=False)
            with self.compute.autocast():
                output = model(exam.images if exam else images)
            sums += self.world.total(self.learner.judge(output, images, exam), len(images))
        means: list[float] = (sums / len(self.loaders.validation.dataset)).tolist()
        return means

    @torch.inference_mode()
    def _draw_samples(self) -> None:
        images = next(self.loaders.validation.ordered())[:SAMPLES]
        with self.compute.autocast():
            reconstructions = self.learner.judged.eval()(images).reconstruction.cpu()
        epoch, path = self.epoch, self.folder / "samples" / f"epoch_{self.epoch:04d}.png"

        def write() -> SamplesDrawn:
            return SamplesDrawn(epoch, str(draw_samples(images.cpu(), reconstructions, path)))

        self.files.put(path.name, write)

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
        seen = min(self.step * training.batch_size, self.loaders.train.images_per_epoch)
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

    def _save(self) -> None:
        """Have a resume point written, of this moment."""
        if not self.world.leads:
            return
        content = {
            "config": self.config.model_dump(),
            "compute": self.compute.choice(),
            **checkpoint.snapshot(self.learner.state()),
            "best": asdict(self.best),
            "history": [asdict(epoch) for epoch in self.history],
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums.tolist(),
        }

        def write() -> CheckpointSaved:
            checkpoint.save(self.resume_point, "resume point", content)
            return CheckpointSaved(str(self.resume_point))

        self.files.put(RESUME_POINT, write)
        self._saved_at = time.monotonic()

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
        self.config.check_same_run(content["config"], self.resume_point)
        self.compute = self.compute.as_chosen(content["compute"])
        self.learner = self._new_learner()
        self.learner.restore(content)
        self.best = Best(**content["best"])
        self.history = [EpochEnded(**epoch) for epoch in content["history"]]
        self.epoch, self.step = content["epoch"], content["step"]
        self.sums = torch.tensor(content["sums"], device=self.compute.device)
