"""What more images and larger networks cost.

A tiny network on small images, so that the way of the data is most of what is timed; a whole run
from decoded images on, with leak guard and validation. Each size has a process of its own, whose
peak memory is then known.
"""

import hashlib
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from medvae.config import Config
from medvae.data.cache import ImageSet
from medvae.data.catalog import Catalog, Record
from medvae.data.loader import build_healthy_loaders
from medvae.data.splits import Split
from medvae.device import choose_compute
from medvae.engine.events import ignore, never
from medvae.engine.learner import Learner
from medvae.engine.trainer import Trainer

SIZES = (1_000, 10_000, 100_000)
SEEN = 30_000  # images of a run at least
SIDE = 32
TINY = {"model.image_size": SIDE, "model.width": 4, "model.latent_size": 8}


def run(count: int) -> tuple[float, float, float]:
    """Microseconds an image to prepare and to train, and megabytes of peak memory."""
    compute = choose_compute()
    epochs = max(1, SEEN // count)
    config = Config().override({**TINY, "training.epochs": epochs, "training.batch_size": 256})
    with tempfile.TemporaryDirectory() as folder:
        images, divided = _drawn(count, Path(folder))
        begun = time.perf_counter()
        loaders = build_healthy_loaders(
            images, divided, compute, batch_size=256, seed=0, augment=False
        )
        prepared = time.perf_counter() - begun
        history = Trainer(config, loaders, compute, Path(folder)).fit(ignore, never).history
    seconds = sum(epoch.seconds for epoch in history)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (2**20 if sys.platform == "darwin" else 1024)
    return 1e6 * prepared / count, 1e6 * seconds / (epochs * count), megabytes


def _drawn(count: int, folder: Path) -> tuple[ImageSet, Split]:
    """Noise in a memory map, every tenth image of which is for validation."""
    pixels = np.lib.format.open_memmap(
        folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE)
    )
    draws = np.random.default_rng(0)
    for start in range(0, count, 10_000):
        pixels[start : start + 10_000] = draws.integers(
            0, 256, pixels[start : start + 10_000].shape, np.uint8
        )
    records = [
        Record(
            f"NORMAL/p{n}.png", "normal", f"p{n}", hashlib.sha256(b"%d" % n).hexdigest(), None, n
        )
        for n in range(count)
    ]
    train = tuple(record for record in records if record.row % 10)
    validation = tuple(records[::10])
    return (
        ImageSet(Catalog(folder, tuple(records), ()), pixels),
        Split("pooled", 0, train, validation, (), {}),
    )


def step_milliseconds(width: int, latent_size: int) -> float:
    """Of a training step of the reference model with another width or latent size."""
    compute = choose_compute()
    config = Config().override({"model.width": width, "model.latent_size": latent_size})
    learner, size = Learner(config, compute, 100), config.training.batch_size
    images = torch.rand(size, 1, 128, 128, device=compute.device)
    noise = torch.randn(size, latent_size, device=compute.device)
    times = []
    for number in range(4):
        begun = time.perf_counter()
        learner.step(images, None, noise, 1.0, size, number)
        compute.wait()
        times.append(1000 * (time.perf_counter() - begun))
    return min(times[1:])


def measure() -> dict[str, float]:
    figures = {}
    for count in SIZES:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            prepared, trained, memory = process.submit(run, count).result()
        figures[f"{count:,} images: prepare, µs an image"] = prepared
        figures[f"{count:,} images: train, µs an image"] = trained
        figures[f"{count:,} images: peak memory, MB"] = memory
    few, many = (
        figures[f"{count:,} images: train, µs an image"] for count in (SIZES[0], SIZES[-1])
    )
    figures["time an image, 100,000 images / 1,000"] = many / few
    for width in (16, 32, 64):
        figures[f"width {width}, ms a step"] = step_milliseconds(width, 256)
    for latent_size in (64, 1024):
        figures[f"latent size {latent_size}, ms a step"] = step_milliseconds(32, latent_size)
    return figures
