"""The trainer with the second task and averaged weights: pausing changes nothing, bit for bit."""

from pathlib import Path

import pytest
import torch

from medvae.config import Config
from medvae.data.loader import build_healthy_loaders
from medvae.data.phantom_set import write_phantoms
from medvae.data.splits import split
from medvae.device import choose_compute
from medvae.engine.events import Stop, ignore, never
from medvae.engine.experiment import load_images
from medvae.engine.trainer import FitResult, Trainer
from medvae.workspace import Workspace

SETTINGS = {
    "model.image_size": 32,
    "model.width": 4,
    "model.latent_size": 8,
    "model.refine": True,
    "model.patch_head": True,
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.weight_average": 0.9,
    "training.augment": True,
    "training.device": "cpu",
    "training.precision": "fp32",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    root = write_phantoms(home / "phantoms", 48, size=32)
    config = Config().override({**SETTINGS, "data.root": str(root)})
    images = load_images(config, Workspace(home), ignore, never)
    return config, images, split(images.catalog, config.data, 0)


def _fit(data, folder: Path, stop_after: int | None = None) -> FitResult:
    config, images, divided = data
    compute = choose_compute("cpu", "fp32")
    training = config.training
    loaders = build_healthy_loaders(
        images, divided, compute, batch_size=training.batch_size, seed=0, augment=training.augment
    )
    steps = iter(range(10_000))

    def should_stop() -> Stop | None:
        return Stop.PAUSE if stop_after is not None and next(steps) >= stop_after else None

    return Trainer(config, loaders, compute, folder).fit(ignore, should_stop)


def test_a_paused_run_ends_where_the_uninterrupted_one_does(data, tmp_path):
    whole = _fit(data, tmp_path / "whole")
    for part in ("first", "second"):
        assert _fit(data, tmp_path / "parts", stop_after=1).stopped is Stop.PAUSE, part
    parts = _fit(data, tmp_path / "parts")
    assert parts.best.loss == whole.best.loss
    for name, weight in whole.best.weights.items():
        assert torch.equal(weight, parts.best.weights[name]), name


def test_the_averaged_weights_are_the_ones_kept(data, tmp_path):
    config, images, divided = data
    compute = choose_compute("cpu", "fp32")
    loaders = build_healthy_loaders(images, divided, compute, batch_size=8, seed=0, augment=True)
    trainer = Trainer(config, loaders, compute, tmp_path)
    trainer.fit(ignore, never)
    name = "to_mu.weight"
    assert trainer.learner.average is not None
    assert torch.equal(
        trainer.learner.average.state_dict()[name], trainer.learner.judged.state_dict()[name]
    )
    assert not torch.equal(
        trainer.model.state_dict()[name], trainer.learner.judged.state_dict()[name]
    )
