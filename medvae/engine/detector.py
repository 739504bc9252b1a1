"""`AnomalyDetector`: any chest X-ray in; healthy counterpart, difference and verdict out.

Rebuilt from one checkpoint file alone. Always computes in float32, so that a score is the
same figure on the page, in the terminal and in an evaluation.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvae.config import Config
from medvae.data.acquisition import reacquired
from medvae.data.chest_field import learn_chest_field, mean_image
from medvae.data.decode import Gray
from medvae.data.transform import to_model_input
from medvae.device import Compute, choose_compute
from medvae.engine import checkpoint
from medvae.engine.calibration import Calibration, calibrate
from medvae.engine.chest_gate import layouts_of
from medvae.engine.healthy import learn_healthy
from medvae.engine.regions import Region, find_regions
from medvae.engine.scores import DEFAULT_SCORE, View, measure
from medvae.errors import CheckpointError, ImageError
from medvae.model.vae import VAE

BATCH = 64
NOT_A_CHEST = "does not look like a frontal chest X-ray; its score means nothing"


@dataclass(frozen=True)
class Detection:
    """One image and what the model says of it. All maps are (S, S) float32."""

    name: str
    image: np.ndarray  # what the model saw, 0..1
    reconstruction: np.ndarray  # its healthy counterpart, 0..1
    anomaly_map: np.ndarray  # signed z-scores, positive where brighter than healthy
    scores: dict[str, float]
    p_value: float
    threshold: float
    target_fpr: float
    pixel_threshold: float  # |z| that 99 % of healthy pixels stay below
    is_chest: bool  # False: looks like no frontal chest X-ray, and the scores mean nothing

    @property
    def difference(self) -> np.ndarray:
        """image − reconstruction, −1..1."""
        return self.image - self.reconstruction

    @property
    def absolute_difference(self) -> np.ndarray:
        """|image − reconstruction|, 0..1."""
        return np.abs(self.difference)

    @property
    def regions(self) -> list[Region]:
        """Where the map leaves what healthy pixels show, the strongest region first."""
        return find_regions(self.anomaly_map, self.pixel_threshold)

    @property
    def warning(self) -> str:
        """What to say before any verdict; empty for a chest X-ray."""
        return "" if self.is_chest else NOT_A_CHEST

    @property
    def score(self) -> float:
        return self.scores[DEFAULT_SCORE]

    @property
    def unusual(self) -> bool:
        """True when at most `target_fpr` of healthy images would score this high."""
        return self.p_value <= self.target_fpr


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says of itself."""

    run: str
    created: str
    best_epoch: int
    parameters: int
    validation_images: int
    metrics: dict[str, Any] = field(default_factory=dict)  # empty: never evaluated


class AnomalyDetector:
    """A trained and calibrated model. Not thread-safe on its own; calls only read it."""

    def __init__(
        self, content: dict[str, Any], config: Config, source: Path, compute: Compute
    ) -> None:
        self.config = config
        self.source = source
        self.compute = compute
        self.content = {key: value for key, value in content.items() if key != "weights"}
        self.calibration = _calibration(content["calibration"], config, source)
        self._model = load_model(config, content["weights"], source, compute)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "AnomalyDetector":
        """Read a finished model. Raises `CheckpointError` or `DeviceError`."""
        source = Path(path)
        content = checkpoint.load(source, "model")
        compute = choose_compute(device, "fp32")
        config = checkpoint.config_of(content, source)
        try:
            return cls(content, config, source, compute)
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source}: incomplete ({error}); train it again") from None

    @property
    def card(self) -> ModelCard:
        parameters = sum(weight.numel() for weight in self._model.parameters())
        validation = len(self.calibration.scores[DEFAULT_SCORE])
        return ModelCard(
            self.content["run"],
            self.content["created"],
            self.content["best_epoch"],
            parameters,
            validation,
            self.content["metrics"],
        )

    def detect(
        self,
        images: Sequence[Gray],
        names: Sequence[str] | None = None,
        target_fpr: float | None = None,
    ) -> list[Detection]:
        """Look at images (H, W) of any size and bit depth, in batches.

        Raises `ImageError`, naming the image, for one that holds nothing to look at.
        """
        labels = (
            list(names) if names is not None else [f"image {i + 1}" for i in range(len(images))]
        )
        size = self.config.model.image_size
        inputs = []
        for image, label in zip(images, labels, strict=True):
            try:
                inputs.append(to_model_input(image, size))
            except ImageError as error:
                raise ImageError(f"{label}: {error}") from None
        return list(self.detect_inputs(inputs, labels, target_fpr))

    def detect_inputs(
        self, inputs: Sequence[np.ndarray], names: Sequence[str], target_fpr: float | None = None
    ) -> Iterator[Detection]:
        """The same for images that went through `to_model_input`: (S, S) uint8 each."""
        fpr = self.config.detection.target_fpr if target_fpr is None else target_fpr
        threshold = self.calibration.threshold(DEFAULT_SCORE, fpr)
        for start in range(0, len(inputs), BATCH):
            batch = np.stack(inputs[start : start + BATCH])
            view, scores = self._forward(batch)
            maps = view.anomaly_map.cpu().numpy()
            reconstructions = view.output.reconstruction.squeeze(1).cpu().numpy()
            chests = self.calibration.gate.passes(view.images)
            for i, name in enumerate(names[start : start + BATCH]):
                values = {key: float(column[i]) for key, column in scores.items()}
                yield Detection(
                    name,
                    view.images[i, 0].cpu().numpy(),
                    reconstructions[i],
                    maps[i],
                    values,
                    self.calibration.p_value(DEFAULT_SCORE, values[DEFAULT_SCORE]),
                    threshold,
                    fpr,
                    self.calibration.pixel_threshold,
                    bool(chests[i]),
                )

    def score_inputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """All scores of (N, S, S) uint8 images: name → (N,) float32."""
        parts = [
            self._forward(pixels[start : start + BATCH])[1]
            for start in range(0, len(pixels), BATCH)
        ]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    @torch.inference_mode()
    def codes(self, pixels: np.ndarray) -> Tensor:
        """Means of q(z|x) of (N, S, S) uint8 images: (N, Z) on the CPU."""
        found = []
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(pixels[start : start + BATCH]).to(self.compute.device)
            found.append(self._model.encode(batch.unsqueeze(1).float() / 255.0)[0].cpu())
        return torch.cat(found)

    def are_chests(self, pixels: np.ndarray) -> np.ndarray:
        """Which of (N, S, S) uint8 images look like a frontal chest X-ray: (N,) bool."""
        images = torch.from_numpy(pixels).unsqueeze(1).float() / 255.0
        return self.calibration.gate.passes(images).numpy()

    def _forward(self, batch: np.ndarray) -> tuple[View, dict[str, Tensor]]:
        images = torch.from_numpy(batch).to(self.compute.device).unsqueeze(1).float() / 255.0
        healthy, beta = self.calibration.healthy, self.config.loss.beta
        with torch.inference_mode():
            view = View(images, self._model(images), healthy, beta)
            return view, measure(view)


def _calibration(content: dict[str, Any], config: Config, source: Path) -> Calibration:
    """Raises `CheckpointError` for maps of another size than the model's images."""
    calibration = Calibration.from_content(content)
    side = config.model.image_size
    healthy = calibration.healthy
    maps = [healthy.field, *(m for scale in healthy.residual for m in (scale.mean, scale.spread))]
    if any(tuple(of.shape) != (side, side) for of in maps):
        raise CheckpointError(f"{source}: its calibration does not fit its configuration")
    return calibration


@torch.inference_mode()
def calibrate_model(
    config: Config,
    weights: dict[str, Tensor],
    training: Callable[[], Iterable[Tensor]],
    validation: Callable[[], Iterable[Tensor]],
    compute: Compute,
) -> Calibration:
    """Healthy statistics of a model; each callable gives batches (B, 1, S, S) in [0, 1].

    A healthy chest on another machine is healthy: each training image counts as it is and once
    more as `reacquired`, so that what such a change moves is no evidence.
    """
    model = load_model(config, weights, Path("weights"), compute)
    field = learn_chest_field(mean_image(training()))
    passes = chain(training(), reacquired(training(), config.patch.reacquire))
    healthy = learn_healthy(((images, model(images)) for images in passes), field)

    layouts = torch.cat([layouts_of(images) for images in training()])
    views = (View(x, model(x), healthy, config.loss.beta) for x in validation())
    return calibrate(views, healthy, layouts)


def load_model(config: Config, weights: dict[str, Tensor], source: Path, compute: Compute) -> VAE:
    """The network in evaluation mode on its device. Raises `CheckpointError` on a misfit."""
    with torch.device("meta"):  # shapes without memory: a small file may claim a huge model
        expected = _shapes(VAE(config.model).state_dict())
    if _shapes(weights) != expected:
        raise CheckpointError(
            f"{source}: its weights do not fit its configuration; the file is damaged"
        )
    model = VAE(config.model)
    model.load_state_dict(weights)
    compute.place(model)
    return model.eval()


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[object, ...]]:
    """Shape and type of each weight. One that repeats a few values in memory has no such shape."""
    return {
        name: (tuple(weight.shape), weight.dtype)
        for name, weight in weights.items()
        if isinstance(weight, Tensor) and weight.is_contiguous()
    }
