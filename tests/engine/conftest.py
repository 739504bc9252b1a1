"""A trainer of a tiny model in a folder of its own, and the events it sends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medvae.config import Config
from medvae.data.cache import ImageSet
from medvae.data.loader import build_healthy_loaders
from medvae.data.splits import Split
from medvae.device import Compute
from medvae.engine.events import Stop
from medvae.engine.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def make_trainer(
    images: ImageSet, divided: Split, tiny_config: Config, tmp_path: Path
) -> MakeTrainer:
    """`make_trainer("name", compute, **{"training.epochs": 3})`: a trainer in that folder."""

    def make(folder: str = "run", compute: Compute = CPU, **changes: Any) -> Trainer:
        config = tiny_config.override({"training.save_every_seconds": 3600, **changes})
        training = config.training
        loaders = build_healthy_loaders(
            images,
            divided,
            compute,
            batch_size=training.batch_size,
            seed=training.seed,
            augment=training.augment,
        )
        return Trainer(config, loaders, compute, tmp_path / folder)

    return make


def stop_after(steps: int, stop: Stop) -> Callable[[], Stop | None]:
    """A `should_stop` that asks once that many steps are done."""
    answers: Iterator[Stop | None] = iter([None] * (steps - 1) + [stop])
    return lambda: next(answers, stop)
