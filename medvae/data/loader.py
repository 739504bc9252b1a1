"""Batches of healthy images, made on the device; no loader is built past the leak guard.

A public data set is tens of megabytes to a few gigabytes as uint8, so it lives on the device
for the whole run where it fits: an epoch is then indexing, scaling and augmenting there. A larger
one is read ahead (CUDA), or taken from the memory map, which on a CPU is as close as it gets.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medvae.data.augment import augment
from medvae.data.cache import ImageSet
from medvae.data.catalog import Record
from medvae.data.leak_guard import check_no_leak
from medvae.data.ring import Ring
from medvae.data.splits import Split
from medvae.device import Compute
from medvae.distributed import ALONE, World

logger = logging.getLogger(__name__)
MB = 2**20
VALIDATION_BATCH = 32  # whatever a run trains with: exams are drawn batch by batch


class XRayDataset(Dataset[Tensor]):
    """The images of some records: item i is (1, S, S) uint8, in the order of the records."""

    def __init__(self, images: ImageSet, records: Sequence[Record]) -> None:
        self.records = list(records)
        self._pixels = images.pixels
        self._rows = np.array([record.row for record in self.records], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Tensor:
        return self.take(np.array([index]))[0]

    @property
    def size(self) -> int:
        """Side of an image, in pixels."""
        return int(self._pixels.shape[-1])

    @property
    def nbytes(self) -> int:
        return len(self) * self.size**2

    def read(self, indices: np.ndarray, into: np.ndarray) -> None:
        """Copy images to `into`: (N, 1, S, S) uint8."""
        np.take(self._pixels, self._rows[indices], axis=0, out=into[:, 0], mode="clip")

    def take(self, indices: np.ndarray | slice) -> Tensor:
        """Images (N, 1, S, S) uint8, in memory."""
        return torch.from_numpy(self._pixels[self._rows[indices]]).unsqueeze(1)


class XRayLoader:
    """Cuts a data set into batches (B, 1, S, S) float32 in [0, 1] on the device.

    Every random draw follows from seed, epoch and step alone, so that an epoch can be entered
    in the middle and goes on exactly as it would have. Where several processes train together,
    each gets its share of every batch, with the draws that it has in the whole batch.
    """

    def __init__(
        self,
        dataset: XRayDataset,
        batch_size: int,
        compute: Compute,
        seed: int,
        augment: bool,
        world: World = ALONE,
        least_images: int = 0,
    ) -> None:
        """least_images: an epoch passes through a smaller set several times, to about so many."""
        self.dataset = dataset
        self.passes = max(1, round(least_images / max(1, len(dataset))))
        self.batch_size = batch_size
        self.compute = compute
        self.seed = seed
        self.augment = augment
        self.world = world
        self.resident = dataset.nbytes <= compute.resident_budget()
        self._images = dataset.take(slice(None)).to(compute.device) if self.resident else None
        shape = (min(batch_size, len(dataset)), 1, dataset.size, dataset.size)
        streamed = compute.reads_ahead and not self.resident
        self._ring = Ring(dataset.read, shape, compute.device) if streamed else None

    @property
    def images_per_epoch(self) -> int:
        return self.passes * len(self.dataset)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.images_per_epoch // self.batch_size)

    def batch_at(self, step: int) -> int:
        """Images of a whole batch: fewer in an epoch's last one."""
        return min(self.batch_size, self.images_per_epoch - step * self.batch_size)

    def generator(self, step: int) -> torch.Generator:
        """The source of all random draws of one step, counted from the start of the run."""
        generator = torch.Generator(self.compute.device)
        generator.manual_seed(self.seed * 1_000_003 + step)
        return generator

    def shuffled(self, epoch: int, first_step: int = 0) -> Iterator[Tensor]:
        """One epoch's batches from `first_step` on, in that epoch's own random order."""
        rng = np.random.default_rng((self.seed, epoch))
        order = np.concatenate([rng.permutation(len(self.dataset)) for _ in range(self.passes)])
        steps = range(first_step, self.steps_per_epoch)
        batches = [order[step * self.batch_size :][: self.batch_size] for step in steps]
        shares = self._gathered(self.world.part(indices) for indices in batches)
        for step, indices, images in zip(steps, batches, shares, strict=True):
            if self.augment and len(images):
                drawn = self.generator(epoch * self.steps_per_epoch + step)
                images = augment(images, drawn, len(indices), self.world.share(len(indices)))
            yield images

    def ordered(self) -> Iterator[Tensor]:
        """All images once, in the data set's order, as they are."""
        everything = np.arange(len(self.dataset))
        starts = range(0, len(everything), self.batch_size)
        yield from self._gathered(everything[start:][: self.batch_size] for start in starts)

    def _gathered(self, choices: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """The images of each choice of indices: (N, 1, S, S) float32 in [0, 1] on the device."""
        for pixels in self._ring.batches(choices) if self._ring else map(self._gather, choices):
            yield pixels.float().div_(255.0)

    def _gather(self, indices: np.ndarray) -> Tensor:
        if self._images is not None:
            return self._images[torch.from_numpy(indices).to(self.compute.device)]
        return self.dataset.take(indices).to(self.compute.device)

    def residence(self) -> str:
        """For the log: where the images are during the run, and what was allowed."""
        size, budget = self.dataset.nbytes / MB, self.compute.resident_budget() / MB
        if self.resident:
            return f"{size:,.0f} MB of images stay on the device"
        how = "read ahead" if self._ring else "taken from the memory map"
        return f"{size:,.0f} MB of images are {how} (the device may keep {budget:,.0f} MB)"


@dataclass(frozen=True)
class HealthyLoaders:
    train: XRayLoader
    validation: XRayLoader


def build_healthy_loaders(
    images: ImageSet,
    split: Split,
    compute: Compute,
    *,
    batch_size: int,
    seed: int,
    augment: bool,
    world: World = ALONE,
    least_images: int = 0,
) -> HealthyLoaders:
    """The only way to training data: checks for leaks, then builds both loaders.

    Raises `LeakError` when any sick or test image could reach either.
    """
    check_no_leak(split, images)
    train, validation = (XRayDataset(images, part) for part in (split.train, split.validation))
    loaders = HealthyLoaders(
        XRayLoader(train, batch_size, compute, seed, augment, world, least_images),
        XRayLoader(validation, VALIDATION_BATCH, compute, seed, False, world),
    )
    logger.info("training: %s", loaders.train.residence())
    logger.info("validation: %s", loaders.validation.residence())
    return loaders
