"""Detection speed: one image from the bytes of its file to the bytes of its overlay, by stage.

The model has the default's size and random weights: what it says does not change how long it takes.
Medians of many images, each of which differs. Then an archive of files against a bare loop that
decodes and runs the network, and keeps nothing.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from benchmarks.scoring import write_model
from medvae.data.decode import decode
from medvae.data.phantom import draw_phantom
from medvae.data.transform import read_model_input, to_model_input
from medvae.engine.archive import finish_archive
from medvae.engine.archive_plan import plan_archive
from medvae.engine.detector import BATCH, AnomalyDetector
from medvae.engine.overlay import heat_overlay
from medvae.engine.score_request import ScoreRequest

T = TypeVar("T")


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


def many_images(detector: AnomalyDetector, paths: list[Path]) -> dict[str, float]:
    """Files a second through the whole of an archive's scoring, and through bare loops."""
    size = detector.config.model.image_size

    def rate(loop: Callable[[], object]) -> float:
        begun = time.perf_counter()
        loop()
        return len(paths) / (time.perf_counter() - begun)

    def bare() -> None:
        """Decode a batch, then the network's forward pass."""
        for start in range(0, len(paths), BATCH):
            files = paths[start : start + BATCH]
            inputs = [read_model_input(file.read_bytes(), file.name, size) for file in files]
            batch = torch.from_numpy(np.stack(inputs)).unsqueeze(1).to(detector.compute.device)
            with torch.inference_mode():
                detector._model(batch.float() / 255)
        detector.compute.wait()

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "list.txt")
            source.write_text("\n".join(map(str, paths)))
            request = ScoreRequest(source, Path(folder, "out.parquet"), detector.source)
            finish_archive(plan_archive(Path(folder), request), detector)

    ours()
    turns = [(rate(ours), rate(bare)) for _ in range(5)]
    return {
        "scored, images/s": statistics.median(mine for mine, _ in turns),
        "bare decode and forward, images/s": statistics.median(other for _, other in turns),
        "scored / bare": statistics.median(mine / other for mine, other in turns),
    }


def measure(images: int = 100) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "untrained.pth")
        write_model(model, "default")
        detector = AnomalyDetector.load(model)
        files = [jpeg(seed) for seed in range(images)]
        figures = _single(detector, files)
        paths = [Path(folder, f"{number}.jpg") for number in range(5 * images)]
        for number, path in enumerate(paths):
            path.write_bytes(files[number % images])
        return {**figures, **many_images(detector, paths)}


def _single(detector: AnomalyDetector, files: list[bytes]) -> dict[str, float]:
    stages, whole = Stages(), []
    for data in files[:5]:
        one_image(detector, data, Stages())
    for data in files:
        begun = time.perf_counter()
        one_image(detector, data, stages)
        whole.append(1000 * (time.perf_counter() - begun))
    return {
        "one image, p50 ms": statistics.median(whole),
        "one image, p95 ms": statistics.quantiles(whole, n=20)[-1],
        **{f"  {name}, ms": statistics.median(v) for name, v in stages.milliseconds.items()},
    }
