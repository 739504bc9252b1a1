"""Sets the second task's exams: a healthy batch in, patched images and their answers out."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from medvae.config import PatchConfig
from medvae.data import acquisition, patches
from medvae.data.acquisition import reacquire
from medvae.data.augment import augment
from medvae.data.chest_field import learn_chest_field, mean_image
from medvae.data.loader import XRayLoader
from medvae.data.patches import paste_patches

DONORS = 512  # training images, of all the set, kept at hand as sources of patches


class Exam(NamedTuple):
    """(B, 1, S, S) each, 0..1."""

    images: Tensor  # what the network sees: patched, and as another machine would show it
    clean: Tensor  # what it shall reconstruct
    changed: Tensor  # where the patches are


class PatchTask:
    """Patches come from training images and land inside their chest field.

    Half of the exams are mirrored: twice as many lungs to learn from.
    """

    def __init__(self, config: PatchConfig, training: XRayLoader) -> None:
        device = training.compute.device
        self.config = config
        self.world = training.world
        self.field = learn_chest_field(mean_image(training.ordered())).to(device)
        known = len(training.dataset)
        chosen = np.linspace(0, known - 1, min(known, DONORS)).astype(np.int64)
        self.donors = training.dataset.take(chosen).to(device)  # (N, 1, S, S) uint8

    def set(
        self, images: Tensor, generator: torch.Generator, batch: int, *, augmented: bool
    ) -> Exam:
        """The exam of a batch, or of this process's share of `batch` images.

        augmented: whether the images were. Donors then are too: that softens them a little, and
        sharper patches would give themselves away.

        Every draw comes from the generator, and an image's exam from its own draws alone, so that
        a batch divided over processes sits the same exam as a whole one.
        """

        def drawn(*shape: int) -> Tensor:
            numbers = torch.rand((batch, *shape), generator=generator, device=images.device)
            return self.world.part(numbers)

        own, own_patches = drawn(2 + acquisition.DRAWS), drawn(self.config.patches, patches.DRAWS)
        noise = torch.randn((batch, *images.shape[1:]), generator=generator, device=images.device)
        mirrored = (own[:, 0] < 0.5).view(-1, 1, 1, 1)
        clean = torch.where(mirrored, images.flip(-1), images)
        donors = self.donors[(own[:, 1] * len(self.donors)).long()].float() / 255.0
        if augmented:
            donors = augment(donors, generator, batch, self.world.share(batch))
        pasted = paste_patches(clean, donors, self.field, own_patches, self.config)
        strength = self.config.reacquire
        seen, clean = reacquire(pasted.images, clean, own[:, 2:], self.world.part(noise), strength)
        return Exam(seen, clean, pasted.changed)
