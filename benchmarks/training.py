"""Training speed: the plain PyTorch way, this program's, and the limit, in turns on one machine.

The plain way: float32, contiguous tensors, a DataLoader that decodes every file in every
epoch. The limit: a bare loop with the same model, precision and memory layout, whose images are
float tensors on the device already; no validation, no augmentation, nothing kept or told. Ours: the
whole `Trainer`, with leak guard, validation, events, samples and resume points.
Prints medians of all and the median of the ratios of neighbouring turns.

    python -m benchmarks.training --data PATH
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from medvae.config import Config
from medvae.data.cache import ImageSet
from medvae.data.loader import XRayDataset, build_healthy_loaders
from medvae.data.splits import Split, split
from medvae.device import choose_compute
from medvae.engine.events import ignore, never
from medvae.engine.experiment import load_images
from medvae.engine.trainer import Trainer
from medvae.model.loss import VAELoss
from medvae.model.vae import VAE
from medvae.workspace import Workspace


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


def plain_epoch(config: Config, files: list[Path], workers: int) -> float:
    """Images per second of one epoch the plain way."""
    dataset = DecodedEachTime(files, config.model.image_size)
    loader = DataLoader(dataset, config.training.batch_size, shuffle=True, num_workers=workers)
    model = VAE(config.model)
    loss = VAELoss(config.loss)
    optimizer = torch.optim.Adam(model.parameters(), config.training.learning_rate)
    begun = time.perf_counter()
    for images in loader:
        noise = torch.randn(len(images), config.model.latent_size)
        optimizer.zero_grad()
        loss(model(images, noise), images).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return len(files) / (time.perf_counter() - begun)


def bare_epoch(config: Config, images: Tensor) -> float:
    """Images per second of one epoch of nothing but arithmetic; images (N, 1, S, S) in [0, 1]."""
    compute = choose_compute(config.training.device, config.training.precision)
    model, loss = VAE(config.model), VAELoss(config.loss)
    compute.place(model)
    optimizer = torch.optim.Adam(model.parameters(), config.training.learning_rate, fused=True)
    batches = torch.split(images.to(compute.device), config.training.batch_size)
    begun = time.perf_counter()
    for batch in batches:
        noise = torch.randn(len(batch), config.model.latent_size, device=compute.device)
        optimizer.zero_grad()
        with compute.autocast():
            output = model(batch, noise)
        loss(output, batch).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if compute.device.type != "cpu":
        torch.accelerator.synchronize()
    return len(images) / (time.perf_counter() - begun)


def our_epochs(config: Config, images: ImageSet, divided: Split) -> float:
    """Images per second of the whole trainer, everything it does included."""
    training = config.training
    compute = choose_compute(training.device, training.precision)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        loaders = build_healthy_loaders(
            images,
            divided,
            compute,
            batch_size=training.batch_size,
            seed=training.seed,
            augment=training.augment,
        )
        Trainer(config, loaders, compute, Path(folder)).fit(ignore, never)
        return len(divided.train) * training.epochs / (time.perf_counter() - begun)


def main(
    data: Annotated[str | None, typer.Option(help="Image folder; default: phantoms.")] = None,
    turns: Annotated[int, typer.Option(help="How often each way is run.")] = 5,
    epochs: Annotated[int, typer.Option(help="Epochs of our way in each turn.")] = 3,
    preset: Annotated[str, typer.Option("--config", help="Settings of our way.")] = "default",
) -> None:
    """Run all ways in turns and print medians as JSON."""
    config = Config.load(preset).override({"data.root": data, "training.epochs": epochs})
    images = load_images(config, Workspace.current(), ignore, never)
    divided = split(images.catalog, config.data, config.training.seed)
    files = [images.catalog.root / record.path for record in divided.train]
    ready = XRayDataset(images, divided.train).take(slice(None)).float() / 255
    ways: dict[str, Callable[[], float]] = {
        "plain, 0 loader workers": lambda: plain_epoch(config, files, 0),
        "plain, 2 loader workers": lambda: plain_epoch(config, files, 2),
        "the limit": lambda: bare_epoch(config, ready),
        "ours": lambda: our_epochs(config, images, divided),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, epoch in ways.items():
            rates[name].append(epoch())
            print(f"turn {turn + 1}: {name}: {rates[name][-1]:.0f} images/s", flush=True)
    ratios = {
        name: [ours / other for ours, other in zip(rates["ours"], rates[name], strict=True)]
        for name in ways
        if name != "ours"
    }
    compute = choose_compute()
    report = {
        "device": compute.name,
        "precision": compute.precision,
        "threads": torch.get_num_threads(),
        "images": len(files),
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ours_over": {name: statistics.median(values) for name, values in ratios.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
