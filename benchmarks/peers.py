"""The same work by other programs, where they are installed (requirements-bench.txt).

pythae trains the same network on the same images, which it gets as float tensors in memory.
anomalib reads the same files into batches, as it does in each of its epochs, against our batches.
"""

import logging
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.training import Job, loaders_of, material, ours
from benchmarks.turns import in_turns, medians, ratios
from medvae.data.loader import XRayDataset
from medvae.device import choose_compute
from medvae.model.vae import VAE


def pythae_epoch(job: Job) -> float:
    """Images per second of an epoch of its trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    config, images, divided = material(job)
    network = VAE(config.model)

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            mu, logvar = self.network.encode(x)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.network.decode(z))

    logging.disable(logging.INFO)
    side = config.model.image_size
    pixels = XRayDataset(images, divided.train).take(slice(None)).float() / 255
    data = BaseDataset(pixels, torch.zeros(len(pixels)))
    model = PythaeVAE(
        VAEConfig(input_dim=(1, side, side), latent_dim=config.model.latent_size),
        encoder=Encoder(),
        decoder=Decoder(),
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            per_device_train_batch_size=job.batch_size,
            learning_rate=config.training.learning_rate,
        )
        trainer = BaseTrainer(model, data, training_config=settings)
        begun = time.perf_counter()
        trainer.train()
        return len(pixels) / (time.perf_counter() - begun)


def anomalib_batches(job: Job) -> float:
    """Images per second of an epoch of its data module, without a model."""
    from anomalib.data import Folder
    from torchvision.transforms import v2

    config, images, divided = material(job)
    size = config.model.image_size
    folder = images.catalog.root / Path(divided.train[0].path).parent
    data = Folder(
        name="chests",
        normal_dir=folder,
        train_batch_size=job.batch_size,
        num_workers=2,
        augmentations=v2.Resize((size, size)),
        test_split_mode="none",
        val_split_mode="none",
    )
    data.setup()
    begun, count = time.perf_counter(), 0
    for batch in data.train_dataloader():
        count += len(batch.image)
    return count / (time.perf_counter() - begun)


def our_batches(job: Job) -> float:
    loader = loaders_of(job, choose_compute()).train
    begun = time.perf_counter()
    count = sum(len(batch) for batch in loader.shuffled(0))
    return count / (time.perf_counter() - begun)


def measure(data: str | None, turns: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    job = Job(data, epochs=2)
    if find_spec("pythae"):
        rates = in_turns({"ours": partial(ours, job), "pythae": partial(pythae_epoch, job)}, turns)
        figures |= medians(rates, "images/s") | ratios(rates, "ours")
    else:
        print("  pythae is not installed: pip install -r requirements-bench.txt")
    if find_spec("anomalib"):
        rates = in_turns(
            {"our batches": partial(our_batches, job), "anomalib": partial(anomalib_batches, job)},
            turns,
        )
        figures |= medians(rates, "images/s") | ratios(rates, "our batches")
    else:
        print("  anomalib is not installed: pip install -r requirements-bench.txt")
    return figures
