"""Several processes that train one model together, each on its slice of every batch.

`World` is a process by itself: there is nothing to divide and nobody to wait for. `Ranks` is one of
the processes that `torchrun` started. Both answer the same calls, so that the loader and the
trainer need not ask which one they have; neither knows what a run is.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from medvae.device import Compute
from medvae.errors import DeviceError, MedVAEError

PATIENCE = timedelta(minutes=10)  # for one that is still there but no longer answers
AGREE_EVERY = 0.5  # seconds between two looks at whether anybody wants to stop
POLL_EVERY = 0.1  # seconds

Batch = TypeVar("Batch", Tensor, np.ndarray)
Answer = TypeVar("Answer")


class World:
    """A process that trains by itself."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes files and tells events."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """The device of this process, for what the configuration asks for."""
        return wanted

    def connect(self, compute: Compute) -> None:
        """Be ready for the calls below, from all processes at once."""

    def leave(self) -> None:
        """The end of what is done together; rank 0 may go on alone."""

    def told(self, name: str, value: str) -> str:
        """Rank 0's value of something that all must agree on."""
        return value

    @contextmanager
    def leader_first(self, while_waiting: Callable[[], None]) -> Iterator[None]:
        """Let rank 0 do something before the others, who call `while_waiting` until then."""
        yield

    def share(self, count: int) -> slice:
        """Which of `count` images are this process's."""
        return slice(0, count)

    def part(self, batch: Batch) -> Batch:
        """This process's images of a whole batch; none where there are fewer than processes."""
        return batch[self.share(len(batch))]

    def network(self, model: nn.Module) -> nn.Module:
        """What to call in training; batch statistics and gradients are then the whole batch's."""
        return model

    def weigh(self, loss: Tensor, count: int, batch: int) -> Tensor:
        """The loss to differentiate: a mean over `count` images of a batch of `batch`."""
        return loss

    def total(self, means: Sequence[Tensor], count: int) -> Tensor:
        """Sums over every process's images, of scalars that are means over its `count` images."""
        return torch.stack(tuple(means)).detach() * count

    def agreed(
        self, ask: Callable[[], Answer | None], answers: Sequence[Answer], compute: Compute
    ) -> Callable[[], Answer | None]:
        """Like `ask`, but with one answer for all; they must call it equally often."""
        return ask


ALONE = World()


class Ranks(World):
    """One of several processes that `torchrun` started."""

    def __init__(self) -> None:
        from torch.distributed.rendezvous import rendezvous

        self.store, self.rank, self.size = next(rendezvous("env://", timeout=PATIENCE))

    def device(self, wanted: str) -> str:
        """One GPU for each process of a machine, or the CPU for all."""
        local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if wanted == "cpu" or (wanted == "auto" and not torch.accelerator.is_available()):
            return "cpu"
        if wanted not in ("auto", "cuda") or not torch.cuda.is_available():
            raise DeviceError(
                f"device {wanted} cannot be shared by {here} processes; expected cuda or cpu, or "
                "start without torchrun"
            )
        if here > torch.cuda.device_count():
            raise DeviceError(
                f"{here} processes for {torch.cuda.device_count()} GPUs; expected one each: "
                f"torchrun --nproc-per-node={torch.cuda.device_count()}"
            )
        return f"cuda:{local}"

    def connect(self, compute: Compute) -> None:
        import torch.distributed as dist

        if compute.device.type == "cuda":
            torch.cuda.set_device(compute.device)
        dist.init_process_group(
            "nccl" if compute.device.type == "cuda" else "gloo",
            store=self.store,
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
        )

    def leave(self) -> None:
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()

    def told(self, name: str, value: str) -> str:
        if self.leads:
            self.store.set(name, value)
        return str(self.store.get(name).decode())

    @contextmanager
    def leader_first(self, while_waiting: Callable[[], None]) -> Iterator[None]:
        while not self.leads and not self.store.check(["leader is done"]):
            while_waiting()
            time.sleep(POLL_EVERY)
        yield
        if self.leads:
            self.store.set("leader is done", "")

    def share(self, count: int) -> slice:
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def network(self, model: nn.Module) -> nn.Module:
        share_statistics(model)
        # The running statistics are the same everywhere already: no need to send them each step.
        return nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False)

    def weigh(self, loss: Tensor, count: int, batch: int) -> Tensor:
        # So that the mean of the ranks' gradients, which is what they exchange, is the batch's.
        return loss * (count * self.size / batch)

    def total(self, means: Sequence[Tensor], count: int) -> Tensor:
        sums = super().total(means, count)
        return _summed(sums if count else torch.zeros_like(sums))  # a mean over no images is NaN

    def agreed(
        self, ask: Callable[[], Answer | None], answers: Sequence[Answer], compute: Compute
    ) -> Callable[[], Answer | None]:
        return _Agreement(ask, answers, compute.device)

    def is_first_to_fail(self) -> bool:
        """True in one process only: its error is the cause, and those of the others follow."""
        return int(self.store.add("failures", 1)) == 1


class _Agreement:
    """One answer for all ranks, at the same step; the last of `answers` that any of them gives.

    Asking costs a wait for the device, so the ranks also agree after how many calls to ask again.
    """

    def __init__(
        self, ask: Callable[[], Any], answers: Sequence[Any], device: torch.device
    ) -> None:
        self._ask = ask
        self._answers = (None, *answers)
        self._device = device
        self._calls, self._due, self._asked_at = 0, 1, time.monotonic()

    def __call__(self) -> Any:
        import torch.distributed as dist

        self._calls += 1
        if self._calls < self._due:
            return None
        per_call = (time.monotonic() - self._asked_at) / self._calls
        calls = max(1, int(AGREE_EVERY / max(per_call, 1e-6)))
        mine = [self._answers.index(self._ask()), -calls]  # the slowest sets the pace
        message = torch.tensor(mine, device=self._device)
        dist.all_reduce(message, dist.ReduceOp.MAX)
        answer, due = message.tolist()
        self._calls, self._due, self._asked_at = 0, -due, time.monotonic()
        return self._answers[answer]


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all ranks' images, on any backend.

    PyTorch's own `SyncBatchNorm` runs on CUDA only. A rank may have no images at all.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        images = input.to(torch.promote_types(input.dtype, torch.float32))  # (B, C, H, W)
        own = images.new_full((1,), images[:, 0].numel())
        sums: Tensor = _SumOverRanks.apply(torch.cat([images.sum((0, 2, 3)), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count  # (C,)
        centred = images - mean[:, None, None]
        variance = _SumOverRanks.apply(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * (count / (count - 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def share_statistics(model: nn.Module) -> None:
    """Replace each batch norm inside a model; parameters and their names stay the same."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            for buffer, value in child.named_buffers():
                setattr(shared, buffer, value)
            setattr(model, name, shared)
        else:
            share_statistics(child)


class _SumOverRanks(torch.autograd.Function):
    """A sum over ranks that gradients pass through: each rank's loss depends on every addend."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return _summed(values.clone())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient.clone())


def _summed(values: Tensor) -> Tensor:
    import torch.distributed as dist

    dist.all_reduce(values)
    return values


@contextmanager
def join() -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone.

    When one of them fails, its error alone is told: the others, who can then only fail too, end
    without a word.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        yield ALONE
        return
    ranks = Ranks()
    try:
        yield ranks
    except Exception as error:
        if not ranks.is_first_to_fail():
            raise SystemExit(1) from None
        if _is_lost_contact(error):
            raise MedVAEError(
                "another process of this run ended unexpectedly; go on with the same command and "
                "--name of the run"
            ) from error
        raise


def _is_lost_contact(error: Exception) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)
