"""Training speed: the plain PyTorch way, this program's, and the limit.

The plain way: float32, contiguous tensors, a DataLoader that decodes every file in every epoch.
The limit: a bare loop with the same model in the format that the program chooses too, whose images
are float tensors on the device already; no validation, no augmentation, nothing kept or told.
Ours: the whole `run` of the reference set-up from its decoded images on: leak guard, choice of the
format, all epochs, validation, events, pictures, resume points.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2.functional import pil_to_tensor

from benchmarks.turns import in_turns, medians, ratios
from medvae.config import Config
from medvae.data.cache import ImageSet
from medvae.data.loader import HealthyLoaders, XRayDataset, build_healthy_loaders
from medvae.data.splits import Split, split
from medvae.device import Compute, choose_compute
from medvae.engine.events import Event, Progress, ignore, never, to_record
from medvae.engine.experiment import load_images
from medvae.engine.learner import Learner
from medvae.engine.patch_task import PatchTask
from medvae.engine.trainer import Trainer
from medvae.engine.tuning import fastest
from medvae.memory import freed_memory_kept
from medvae.model.loss import VAELoss
from medvae.model.vae import VAE
from medvae.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """What to train, and on what; plain values, to be handed to other processes."""

    data: str | None
    preset: str = "reference"
    epochs: int = 20
    batch_size: int = 64
    validation_fraction: float = 0.12

    def config(self) -> Config:
        changes = {
            "data.root": self.data,
            "data.validation_fraction": self.validation_fraction,
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
        }
        return Config.load(self.preset).override(changes)


@cache
def material(job: Job) -> tuple[Config, ImageSet, Split]:
    """The decoded images, once a process."""
    config = job.config()
    images = load_images(config, Workspace.current(), ignore, never)
    return config, images, split(images.catalog, config.data, config.training.seed)


def loaders_of(job: Job, compute: Compute) -> HealthyLoaders:
    config, images, divided = material(job)
    return build_healthy_loaders(
        images,
        divided,
        compute,
        batch_size=job.batch_size,
        seed=config.training.seed,
        augment=config.training.augment,
    )


class DecodedEachTime(Dataset[torch.Tensor]):
    """What a tutorial writes: open, gray, resize, scale, in `__getitem__`."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files = files
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.files[index]) as image:
            gray = image.convert("L").resize((self.size, self.size))
        pixels = pil_to_tensor(gray).float()
        low, high = pixels.min(), pixels.max()
        return (pixels - low) / (high - low)


def plain(job: Job, workers: int) -> float:
    """Images per second of one epoch the plain way."""
    config, images, divided = material(job)
    files = [images.catalog.root / record.path for record in divided.train]
    loader = DataLoader(
        DecodedEachTime(files, config.model.image_size),
        job.batch_size,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # spawned ones import torch each epoch
    )
    device = choose_compute().device
    model, loss = VAE(config.model).to(device), VAELoss(config.loss)
    optimizer = torch.optim.Adam(model.parameters(), config.training.learning_rate)
    begun = time.perf_counter()
    for batch in loader:
        batch = batch.to(device)
        noise = torch.randn(len(batch), config.model.latent_size, device=device)
        optimizer.zero_grad()
        loss(model(batch, noise), batch).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    choose_compute().wait()
    return len(files) / (time.perf_counter() - begun)


def bare(job: Job, keep_memory: bool, least_steps: int = 16) -> float:
    """Images per second of a loop of nothing but arithmetic."""
    config, images, divided = material(job)
    compute = choose_compute()
    model, loss = VAE(config.model), VAELoss(config.loss)
    compute.place(model)
    optimizer = torch.optim.Adam(model.parameters(), config.training.learning_rate, fused=True)
    pixels = XRayDataset(images, divided.train).take(slice(None)).to(compute.device)
    batches = torch.split(pixels.float() / 255, job.batch_size)
    batches *= -(-least_steps // len(batches))

    def step(batch: Tensor) -> None:
        noise = torch.randn(len(batch), config.model.latent_size, device=compute.device)
        optimizer.zero_grad()
        with compute.autocast():
            output = model(batch, noise)
        loss(output, batch).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with freed_memory_kept(torch.device(compute.device.type if keep_memory else "cuda")):
        for batch in (batches[0], batches[-1]):
            step(batch)
        compute.wait()
        begun = time.perf_counter()
        for batch in batches:
            step(batch)
        compute.wait()
        return sum(map(len, batches)) / (time.perf_counter() - begun)


def ours(job: Job) -> float:
    """Images per second of the whole run, everything it does included."""
    config, _, divided = material(job)
    compute = choose_compute()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        loaders = loaders_of(job, compute)
        chosen = fastest(config, loaders, compute, ignore)
        Trainer(config, loaders, chosen, Path(folder)).fit(ignore, never)
        return len(divided.train) * job.epochs / (time.perf_counter() - begun)


def busy(job: Job) -> dict[str, float]:
    """Of one more run: what the device's own counter says, and the wait for images."""
    told: list[Progress] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            told.append(event)

    config, _, _ = material(job)
    compute = choose_compute()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(config, loaders_of(job, compute), compute, Path(folder)).fit(listen, never)
    counted = [event.busy for event in told if event.busy is not None]
    waited = [event.waiting for event in told if event.waiting is not None]
    return {
        "device busy, %": 100 * statistics.fmean(counted) if counted else float("nan"),
        "waiting for images, %": 100 * statistics.fmean(waited),
        "peak memory, MB": max(event.memory_mb or 0 for event in told),
    }


def with_events(job: Job, told: bool) -> float:
    """Images per second of a short run, with all events written to a file and counters, or none."""
    from unittest.mock import MagicMock, patch

    config, _, divided = material(job)
    compute = choose_compute()
    silent = patch.multiple(
        "medvae.engine.trainer", Telemetry=MagicMock(), PROGRESS_EVERY=float("inf")
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, loaders_of(job, compute), compute, Path(folder))
        begun = time.perf_counter()
        if told:
            with Path(folder, "events.jsonl").open("a") as file:
                trainer.fit(lambda event: print(json.dumps(to_record(event)), file=file), never)
        else:
            with silent:
                trainer.fit(ignore, never)
        return len(divided.train) * job.epochs / (time.perf_counter() - begun)


def exams(job: Job, steps: int = 8) -> float:
    """Share, in %, of the default set-up's step that goes into setting exams."""
    config, _, _ = material(job)
    compute = choose_compute()
    loaders = loaders_of(job, compute)
    task, learner = PatchTask(config.patch, loaders.train), Learner(config, compute, 1000)
    images = next(loaders.train.ordered())
    noise = torch.randn(len(images), config.model.latent_size, device=compute.device)
    spent = {"exam": 0.0, "step": 0.0}
    with freed_memory_kept(compute.device):
        for number in range(steps):
            begun = time.perf_counter()
            drawn = loaders.train.generator(number)
            exam = task.set(images, drawn, len(images), augmented=True)
            compute.wait()
            set_at = time.perf_counter()
            learner.step(images, exam, noise, 1.0, len(images), number)
            compute.wait()
            if number > 1:
                spent["exam"] += set_at - begun
                spent["step"] += time.perf_counter() - set_at
    return 100 * spent["exam"] / sum(spent.values())


def arithmetic(job: Job) -> dict[str, float]:
    """What a step asks for, and what a large matrix product reaches on this device."""
    config = job.config()
    model = VAE(config.model)
    images = torch.rand(2, 1, config.model.image_size, config.model.image_size)
    with FlopCounterMode(display=False) as counter:
        output = model(images, torch.randn(2, config.model.latent_size))
        VAELoss(config.loss)(output, images).loss.backward()  # type: ignore[no-untyped-call]
    compute = choose_compute()
    dtype = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    side = 2048 if compute.device.type == "cpu" else 8192
    square = torch.rand(side, side, device=compute.device).to(dtype)
    rates = []
    for _ in range(6):
        begun = time.perf_counter()
        square @ square
        compute.wait()
        rates.append(2 * side**3 / (time.perf_counter() - begun))
    return {
        "GFLOP an image": counter.get_total_flops() / 2 / 1e9,
        "GFLOP/s of a matrix product": max(rates) / 1e9,
    }


def measure(data: str | None, full_size: str | None, turns: int) -> dict[str, float]:
    on_gpu = choose_compute().device.type != "cpu"
    job = Job(data, batch_size=256 if on_gpu else 64)
    ways: dict[str, Callable[[], float]] = {
        "plain, 0 loader workers": partial(plain, job, 0),
        "plain, 2 loader workers": partial(plain, job, 2),
        "bare loop": partial(bare, job, False),
        "bare loop, memory kept": partial(bare, job, True),
        "ours": partial(ours, job),
    }
    rates = in_turns(ways, turns)
    figures = {**medians(rates, "images/s"), **ratios(rates, "ours"), **arithmetic(job)}
    limit = statistics.median(rates["bare loop, memory kept"])
    figures["GFLOP/s of the bare loop"] = limit * figures["GFLOP an image"]
    figures["bare loop / matrix product"] = (
        figures["GFLOP/s of the bare loop"] / figures["GFLOP/s of a matrix product"]
    )
    figures |= busy(Job(data, epochs=20 if on_gpu else 3, batch_size=job.batch_size))
    figures["default: share of a step for exams, %"] = exams(Job(data, "default"))
    if full_size:
        figures |= _full_size(Job(full_size, epochs=60, validation_fraction=0.2), turns)
    return figures


def _full_size(job: Job, turns: int) -> dict[str, float]:
    ways = {"plain, full size": partial(plain, job, 0), "ours, full size": partial(ours, job)}
    rates = in_turns(ways, turns)
    return {**medians(rates, "images/s"), **ratios(rates, "ours, full size")}


def overhead(data: str | None, turns: int) -> dict[str, float]:
    """What events and telemetry cost: runs with and without them."""
    job = Job(data, epochs=2)
    ways = {"told": partial(with_events, job, True), "silent": partial(with_events, job, False)}
    rates = in_turns(ways, turns)
    return {**medians(rates, "images/s"), **ratios(rates, "told")}
