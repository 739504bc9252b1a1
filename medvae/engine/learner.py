"""The weights, and all that changes with them at a step: optimiser, schedule, average.

Knows nothing of epochs, files or events. The same seed makes the same learner.
"""

import copy
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from medvae.config import Config
from medvae.device import Compute
from medvae.distributed import ALONE, World
from medvae.engine.patch_task import Exam
from medvae.model.loss import LossParts, VAELoss, patch_error
from medvae.model.vae import VAE, VAEOutput

RISE = 0.08  # share of the steps in which the learning rate rises to its peak


class Learner:
    """One VAE in training on one device, in that device's number format and memory layout."""

    def __init__(self, config: Config, compute: Compute, steps: int, world: World = ALONE) -> None:
        """steps: of the whole run, over which the learning rate falls."""
        self.config = config
        self.compute = compute
        self.world = world
        torch.manual_seed(config.training.seed)
        self.model = VAE(config.model)
        compute.place(self.model)
        self._network = world.network(self.model)  # the same weights, for training steps
        self._compiled = compute.compiled_network(self._network)
        self.loss = VAELoss(config.loss)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), config.training.learning_rate, fused=True
        )
        self.scheduler = _schedule(self.optimizer, config, steps)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
        averaging = config.training.weight_average > 0
        self.average = copy.deepcopy(self.model).eval() if averaging else None

    @property
    def judged(self) -> VAE:
        """The weights that count: the averaged ones where there are any."""
        return self.model if self.average is None else self.average

    def step(
        self, images: Tensor, exam: Exam | None, noise: Tensor, beta: float, batch: int, number: int
    ) -> LossParts:
        """Learn from this process's images of a batch of `batch`; `number` counts steps from 0.

        images: (B, 1, S, S) in [0, 1]. exam: of these images, where there is a second task.
        noise: (B, Z). Returns means over the B images.
        """
        self.compute.begin_step()
        whole = len(images) == self.config.training.batch_size
        network = self._compiled if whole else self._network  # no program for an epoch's last batch
        with self.compute.autocast():
            output = network(exam.images if exam else images, noise)
        parts = self.judge(output, images, exam, beta)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.world.weigh(parts.loss, len(images), batch)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self._move_average(number)
        return parts

    def judge(
        self, output: VAEOutput, images: Tensor, exam: Exam | None, beta: float | None = None
    ) -> LossParts:
        """MSE + beta × KLD, and the patch map's error where there is a second task."""
        if exam is None:
            return self.loss(output, images, beta)
        parts = self.loss(output, exam.clean, beta)
        second = self.config.patch.weight * patch_error(output, exam.changed)
        return parts._replace(loss=parts.loss + second)

    def state(self) -> dict[str, Any]:
        """All of it, for a resume point: live tensors, which the next step changes."""
        return {
            "weights": dict(self.model.state_dict()),
            "average": dict(self.average.state_dict()) if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["weights"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])

    @torch.no_grad()
    def _move_average(self, number: int) -> None:
        """Move the averaged weights towards the current ones; faster in the first steps."""
        if self.average is None:
            return
        decay = min(self.config.training.weight_average, number / (number + 10))
        averages = list(self.average.state_dict().values())
        currents = list(self.model.state_dict().values())
        moving = [value.is_floating_point() for value in averages]
        torch._foreach_lerp_(
            list(compress(averages, moving)), list(compress(currents, moving)), 1 - decay
        )
        for average, current, moves in zip(averages, currents, moving, strict=True):
            if not moves:  # the count of batches
                average.copy_(current)


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
