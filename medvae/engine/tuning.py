"""`precision: auto`: which number format, layout and compilation is fastest here, found by trying.

Each candidate makes a few steps of the real model on a real batch, from the same weights. It counts
only where its losses agree with those of float32.
"""

import logging
import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medvae.config import Config
from medvae.data.loader import HealthyLoaders
from medvae.device import Compute
from medvae.engine.events import FormatChosen, OnEvent, Preparing
from medvae.engine.learner import Learner
from medvae.engine.patch_task import Exam

logger = logging.getLogger(__name__)

WORTH_TRYING = 200  # steps of a run, of which trying costs about ten
SECONDS = 0.15  # that a candidate is timed for, after a first step that is not
AGREEMENT = 0.02  # of the loss of float32
CLEARLY = 1.03  # times as fast a candidate must be as the best before it
COMPILES_IN = 60.0  # seconds that a compilation for the CPU takes
COMPILED_SAVES = 0.1  # share of a step there that it may save


@dataclass(frozen=True)
class Trial:
    """What came of one candidate: seconds a step, or why it does not count."""

    compute: Compute
    losses: tuple[
        float, ...
    ] = ()  # of the first step and, its gradients having been used, of the second
    seconds: float = math.inf
    refused: str = ""

    def __str__(self) -> str:
        return self.refused or f"{1000 * self.seconds:.1f} ms a step"


def fastest(
    config: Config, loaders: HealthyLoaders, compute: Compute, on_event: OnEvent
) -> Compute:
    """The device in the format that trains fastest; as it is for a run too short to try others."""
    if loaders.train.steps_per_epoch * config.training.epochs < WORTH_TRYING:
        on_event(FormatChosen(compute.format, {}))
        return compute
    on_event(Preparing("Choosing the number format", 0, 1))
    tuning = Tuning(config, loaders, compute)
    on_event(tuning.run())
    return tuning.best.compute


class Tuning:
    """Tries one thing at a time: number format, then layout, then compilation."""

    def __init__(self, config: Config, loaders: HealthyLoaders, compute: Compute) -> None:
        self._config = config
        self._steps = loaders.train.steps_per_epoch * config.training.epochs
        self._may_compile = loaders.train.world.size == 1
        self._images = next(loaders.train.ordered())
        self._noise = torch.randn(
            (len(self._images), config.model.latent_size),
            generator=loaders.train.generator(0),
            device=compute.device,
        )
        self._plain = replace(compute, precision="fp32")
        self.best = Trial(self._plain, *self._timed(self._plain))
        self.trials = [self.best]

    def run(self) -> FormatChosen:
        """Leaves the fastest that agrees with float32 in `best`."""
        for precision in self._plain.precisions:
            if precision != "fp32":
                self._consider(replace(self._plain, precision=precision))
        if self._plain.channels_last:
            self._consider(replace(self.best.compute, contiguous=True))
        if self._compilation_may_pay():
            self._consider(replace(self.best.compute, compiled=True))
        found = {trial.compute.format: str(trial) for trial in self.trials}
        logger.info("training in %s; tried %s", self.best.compute.format, found)
        return FormatChosen(self.best.compute.format, found)

    def _consider(self, candidate: Compute) -> None:
        trial = self._agreeing(self._try(candidate))
        self.trials.append(trial)
        if trial.seconds * CLEARLY < self.best.seconds:
            self.best = trial

    def _try(self, candidate: Compute) -> Trial:
        try:
            return Trial(candidate, *self._timed(candidate))
        except RuntimeError as error:  # an operator or a compiler is missing, memory is short, ...
            reason = " ".join(str(error).split())[:200]
            return Trial(candidate, refused=f"failed: {reason}")

    def _timed(self, compute: Compute) -> tuple[tuple[float, ...], float]:
        """Losses of the first two steps, and seconds a step."""
        learner, size = Learner(self._config, compute, self._steps), len(self._images)
        learner.model.train()
        losses: list[Tensor] = []

        def step() -> None:
            number = len(losses)
            parts = learner.step(
                self._images, self._exam(), self._noise, self._config.loss.beta, size, number
            )
            losses.append(parts.loss.detach())

        step()
        compute.wait()
        begun = time.perf_counter()
        while len(losses) < 2 or time.perf_counter() - begun < SECONDS:
            if len(losses) == self._steps:  # the schedule of the learning rate ends there
                break
            step()
        compute.wait()
        seconds = (time.perf_counter() - begun) / (len(losses) - 1)
        return tuple(torch.stack(losses[:2]).tolist()), seconds

    def _exam(self) -> Exam | None:
        """One without patches: what is in the pictures does not change how long a step takes."""
        if not self._config.model.patch_head:
            return None
        return Exam(self._images, self._images, torch.zeros_like(self._images))

    def _agreeing(self, trial: Trial) -> Trial:
        """The trial, refused where its losses are not those of float32."""
        pairs = list(zip(trial.losses, self.trials[0].losses, strict=False))
        off = [abs(mine / right - 1) for mine, right in pairs]
        if all(share <= AGREEMENT for share in off):  # which a loss that is no number never is
            return trial
        broken = any(map(math.isnan, off))
        refused = "the loss is no longer a number" if broken else f"loss off by {max(off):.1%}"
        return replace(trial, seconds=math.inf, refused=refused)

    def _compilation_may_pay(self) -> bool:
        """Not on MPS, nor on a CPU that has less to save in this run than a compilation costs."""
        if not self._may_compile or len(self._images) < self._config.training.batch_size:
            return False
        saved = COMPILED_SAVES * self.best.seconds * self._steps
        kind = self._plain.device.type
        return kind == "cuda" or (kind == "cpu" and saved > COMPILES_IN)
