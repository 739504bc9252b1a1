"""A model and an archive small enough for tests: 32×32 pixels, random weights, odd files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medvae.config import Config
from medvae.data.phantom import draw_phantom
from medvae.data.transform import to_model_input
from medvae.device import choose_compute
from medvae.engine import checkpoint
from medvae.engine.detector import calibrate_model
from medvae.model.vae import VAE

SIZE = 32


def write_model(path: Path, seed: int = 0) -> Path:
    """A calibrated checkpoint that was never trained."""
    config = Config().override(
        {"model.image_size": SIZE, "model.width": 4, "model.latent_size": 8, "training.seed": seed}
    )
    torch.manual_seed(seed)
    weights = VAE(config.model).state_dict()
    # None of the archive's images: a score that ties with its own would hang on the rounding.
    phantoms = [draw_phantom(100_000 + n, size=SIZE).image for n in range(40)]
    healthy = np.stack([to_model_input(image, SIZE) for image in phantoms])
    batches = [torch.from_numpy(healthy).unsqueeze(1).float() / 255]
    calibration = calibrate_model(
        config, weights, lambda: batches, lambda: batches, choose_compute("cpu", "fp32")
    )
    content = {
        "run": f"tiny-{seed}",
        "created": "2026-01-01T00:00:00+00:00",
        "config": config.model_dump(),
        "weights": weights,
        "calibration": calibration.to_content(),
        "best_epoch": 1,
        "metrics": {},
    }
    checkpoint.save(path, "model", content)
    return path


def write_images(folder: Path, count: int) -> list[Path]:
    """Healthy and sick phantoms in two sub-folders, in the order in which a walk finds them."""
    paths = [folder / "ab"[n % 2] / f"{n:05d}.png" for n in range(count)]
    for n, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_phantom(n, "effusion" if n % 3 else None, SIZE).image).save(path)
    return sorted(paths)


def write_odd_files(folder: Path) -> dict[str, str]:
    """Files that cannot be read: name → what the reason says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    Image.new("L", (64, 64), 7).save(folder / "flat.png")
    Image.new("L", (4, 4)).save(folder / "tiny.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {
        "empty.png": "not an image",
        "text.jpg": "not an image",
        "flat.png": "every pixel has the same value",
        "tiny.png": "4×4 pixels",
        "gone.png": "No such file",
    }
