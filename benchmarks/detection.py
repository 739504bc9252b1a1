"""Detection speed: one image from the bytes of its file to the bytes of its overlay, by stage.

The model is the promoted one of the workspace, or one with random weights. Medians of many images,
drawn anew so that none is in any cache. Then many images at once against the bare forward pass.
Prints JSON.

    python -m benchmarks.detection --data PATH
"""

import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.scoring import write_model
from medvae.data.decode import decode
from medvae.data.phantom import draw_phantom
from medvae.data.transform import to_model_input
from medvae.engine.detector import BATCH, AnomalyDetector
from medvae.engine.overlay import heat_overlay
from medvae.workspace import Workspace

T = TypeVar("T")
BATCHES = 4


class Stages:
    """Adds up how long each named stage took."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        result = work()
        self.milliseconds.setdefault(name, []).append(1000 * (time.perf_counter() - begun))
        return result


def jpeg(seed: int) -> bytes:
    """A phantom of 224 × 224 pixels as a file."""
    data = io.BytesIO()
    Image.fromarray(draw_phantom(seed).image).resize((224, 224)).save(data, "JPEG", quality=90)
    return data.getvalue()


def one_image(detector: AnomalyDetector, data: bytes, stages: Stages) -> bytes:
    """What the page does with an upload: bytes of a JPEG in, bytes of an overlay PNG out."""
    size = detector.config.model.image_size
    image = stages.run("decode", lambda: decode(data, "upload.jpg"))
    pixels = stages.run("resize", lambda: to_model_input(image, size))
    [detection] = stages.run("model", lambda: list(detector.detect_inputs([pixels], ["upload"])))
    heat = stages.run(
        "overlay",
        lambda: heat_overlay(
            image.astype(np.uint8), detection.anomaly_map, detection.pixel_threshold
        ),
    )
    return stages.run("encode", lambda: _png(heat))


def _png(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=1)
    return data.getvalue()


def many_images(detector: AnomalyDetector, inputs: np.ndarray) -> dict[str, float]:
    """Images a second of all scores, and of the network's forward pass alone."""
    batch = torch.from_numpy(inputs).unsqueeze(1).float().to(detector.compute.device) / 255

    def rate(work: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        for _ in range(BATCHES):
            work()
        return BATCHES * len(inputs) / (time.perf_counter() - begun)

    with torch.inference_mode():
        detector._model(batch)
        turns = [
            (rate(lambda: detector.score_inputs(inputs)), rate(lambda: detector._model(batch)))
            for _ in range(5)
        ]
    return {
        "scores, images/s": statistics.median(ours for ours, _ in turns),
        "forward pass alone, images/s": statistics.median(bare for _, bare in turns),
        "ratio": statistics.median(ours / bare for ours, bare in turns),
    }


def main(
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint; default: the promoted one.")
    ] = None,
    images: Annotated[int, typer.Option(help="How many single images.")] = 100,
) -> None:
    path = model or Workspace.current().promoted
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.with_name("untrained.pth")
        write_model(path)
    detector = AnomalyDetector.load(path)
    files = [jpeg(seed) for seed in range(images + 5)]
    warm, stages, whole = Stages(), Stages(), []
    for number, data in enumerate(files):
        begun = time.perf_counter()
        one_image(detector, data, warm if number < 5 else stages)
        whole.append(1000 * (time.perf_counter() - begun))
    whole = whole[5:]
    size = detector.config.model.image_size
    inputs = np.stack([to_model_input(draw_phantom(n).image, size) for n in range(BATCH)])
    report = {
        "device": detector.compute.name,
        "threads": torch.get_num_threads(),
        "one image, ms": {
            "median": statistics.median(whole),
            "p95": statistics.quantiles(whole, n=20)[-1],
            "by stage": {name: statistics.median(v) for name, v in stages.milliseconds.items()},
        },
        "many images": many_images(detector, inputs),
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(main)
