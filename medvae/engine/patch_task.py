"""Sets the second task's exams: a healthy batch in, patched images and their answers out."""

from typing import NamedTuple

import torch
from torch import Tensor

from medvae.config import PatchConfig
from medvae.data.acquisition import reacquire
from medvae.data.chest_field import learn_chest_field, mean_image
from medvae.data.loader import XRayLoader
from medvae.data.patches import paste_patches


class Exam(NamedTuple):
    """(B, 1, S, S) each, 0..1."""

    images: Tensor  # what the network sees: patched, and as another machine would show it
    clean: Tensor  # what it shall reconstruct
    changed: Tensor  # where the patches are


class PatchTask:
    """Patches land inside the chest field of the training images."""

    def __init__(self, config: PatchConfig, training: XRayLoader) -> None:
        self.config = config
        self.field = learn_chest_field(mean_image(training.ordered())).to(training.compute.device)

    def set(self, images: Tensor, generator: torch.Generator) -> Exam:
        """One exam a batch; every draw comes from the generator."""
        pasted = paste_patches(images, self.field, self.config, generator)
        seen, clean = reacquire(pasted.images, images, self.config.reacquire, generator)
        return Exam(seen, clean, pasted.changed)
