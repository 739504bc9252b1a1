"""Detection quality: every figure that the documents quote, from one command.

    python -m benchmarks.quality --data chest_xray --nih nih_subset

Trains the recommended set-up once per seed and set (a run that is finished is not run again, one of
other settings or data is refused: set another MEDVAE_HOME, or remove its folder), then measures:
the official and the pooled test, shifted acquisitions, painted lesions, phantoms by kind, adults of
another hospital, and what a detection costs. Prints a table of mean ± spread over the seeds and
writes everything as JSON. Only measures: nothing here chooses a model or a threshold.
"""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.localisation import (
    box_hits,
    detections_of,
    fidelity,
    painted_lesions,
    phantom_lesions,
)
from medvae.config import Config
from medvae.data.cache import ImageSet
from medvae.data.splits import Split
from medvae.engine.audit import shift_suite
from medvae.engine.detector import AnomalyDetector
from medvae.engine.evaluation import score_test_images
from medvae.engine.events import EpochEnded, Event, ignore, never
from medvae.engine.experiment import load_test_set, run_training
from medvae.engine.ranking import auroc
from medvae.engine.scores import DEFAULT_SCORE
from medvae.model.vae import VAE
from medvae.workspace import Workspace

Figures = dict[str, Any]


def trained(config: Config, name: str, workspace: Workspace) -> tuple[AnomalyDetector, float]:
    """The finished run of that name, trained now if need be, and its minutes of training."""

    def tell(event: Event) -> None:
        if isinstance(event, EpochEnded):
            print(f"{name}: epoch {event.epoch}/{event.epochs}", flush=True)

    folder = workspace.run_folder(f"quality-{name}")
    folder.mkdir(parents=True, exist_ok=True)
    run_training(config, folder, workspace, tell, never)
    detector = AnomalyDetector.load(folder / "best.pth")
    return detector, sum(epoch["seconds"] for epoch in detector.content["history"]) / 60


def test_figures(detector: AnomalyDetector, images: ImageSet, test: Split) -> Figures:
    """AUROC of each score and baseline, and the false-positive rate at the healthy threshold."""
    tested = score_test_images(detector, images, test.test)
    once = np.ones((1, len(tested.sick)))
    called = tested.values[DEFAULT_SCORE] > _threshold(detector)
    return {
        "auroc": {k: float(auroc(tested.sick, v, once)[0]) for k, v in tested.values.items()},
        "false_positives": float(called[~tested.sick].mean()),
        "sensitivity": float(called[tested.sick].mean()),
    }


def detection_cost(detector: AnomalyDetector, pixels: np.ndarray, turns: int = 7) -> Figures:
    """Seconds for a batch: all of detection, and the plain VAE's forward pass with its scores."""
    batch = pixels[:64]
    size = {"model.image_size": detector.config.model.image_size}
    plain = VAE(Config.load("reference").override(size).model).eval()
    tensor = torch.from_numpy(batch).unsqueeze(1).float() / 255
    ours, theirs = [], []
    for _ in range(turns):
        begun = time.perf_counter()
        detector.score_inputs(batch)
        ours.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with torch.inference_mode():
            plain(tensor)
        theirs.append(time.perf_counter() - begun)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return {"seconds_for_64": statistics.median(ours), "over_plain_vae": ratio}


def children(config: Config, seed: int, workspace: Workspace) -> Figures:
    """One seed on the children's set: both protocols, and all that one model is measured by."""
    figures: Figures = {}
    for protocol in ("official", "pooled"):
        wanted = config.override({"data.protocol": protocol, "training.seed": seed})
        detector, minutes = trained(wanted, f"children-{protocol}-{seed}", workspace)
        images, test = load_test_set(detector, workspace, ignore, never)
        figures[protocol] = test_figures(detector, images, test)
        if protocol == "official":
            healthy = images.pixels[[r.row for r in test.test if r.label != "sick"]]
            figures["minutes"] = minutes
            sick = images.pixels[[r.row for r in test.test if r.label == "sick"]]
            shifts = shift_suite(detector, healthy, sick)
            figures["shifts"] = {name: asdict(shift) for name, shift in shifts.items()}
            figures["worst_shift"] = min(shift.auroc for shift in shifts.values())
            figures["painted"] = painted_lesions(detector, healthy)
            figures["healthy"] = fidelity(detections_of(detector, healthy))
            figures["cost"] = detection_cost(detector, healthy)
    return figures


def phantoms(config: Config, seed: int, workspace: Workspace) -> Figures:
    wanted = config.override({"data.root": None, "training.seed": seed})
    detector, _ = trained(wanted, f"phantoms-{seed}", workspace)
    images, test = load_test_set(detector, workspace, ignore, never)
    lesions = phantom_lesions(detector, images, test.test)
    return {"test": test_figures(detector, images, test), "pixel_auroc": lesions}


def adults(config: Config, data: Path, seed: int, workspace: Workspace) -> Figures:
    """The same recipe on the few normals of another hospital."""
    wanted = config.override(
        {"data.root": str(data), "data.protocol": "pooled", "training.seed": seed}
    )
    detector, _ = trained(wanted, f"adults-{seed}", workspace)
    images, test = load_test_set(detector, workspace, ignore, never)
    return {"test": test_figures(detector, images, test), "boxes": box_hits(detector, images)}


def rows(name: str, seeds: Sequence[Figures]) -> Iterator[tuple[str, list[float]]]:
    """Every figure of nested dictionaries as a dotted name with its value for each seed."""
    for key, value in seeds[0].items():
        below = [seed[key] for seed in seeds]
        if isinstance(value, dict):
            yield from rows(f"{name} · {key}", below)
        else:
            yield f"{name} · {key}", [float(v) for v in below]


def table(results: dict[str, list[Figures]]) -> str:
    """Mean ± standard deviation over the seeds, a line a figure."""
    lines = ["| figure | mean ± spread | seeds |", "| --- | --- | --- |"]
    for part, seeds in results.items():
        for name, values in rows(part, seeds):
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            figure = f"{statistics.mean(values):.3f} ± {spread:.3f}"
            lines.append(f"| {name} | {figure} | {len(values)} |")
    return "\n".join(lines)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the children's set.")] = None,
    nih: Annotated[Path | None, typer.Option(help="Folder of the adults' subset.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each kind.")] = 3,
    splits: Annotated[int, typer.Option(help="Splits of the adults.")] = 5,
    config: Annotated[str, typer.Option(help="Preset or YAML file.")] = "default",
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("quality.json"),
) -> None:
    """Run all parts that have data, print the table, write the JSON after each run."""
    workspace, recipe = Workspace.current(), Config.load(config)
    results: dict[str, list[Figures]] = {}

    def keep(part: str, figures: Figures) -> None:
        results.setdefault(part, []).append(figures)
        out.write_text(json.dumps(results, indent=1), encoding="utf-8")

    for seed in range(seeds):
        if data:
            keep("children", children(recipe.override({"data.root": str(data)}), seed, workspace))
        keep("phantoms", phantoms(recipe, seed, workspace))
    for seed in range(splits if nih else 0):
        assert nih is not None
        keep("adults", adults(recipe, nih, seed, workspace))
    print(table(results))


def _threshold(detector: AnomalyDetector) -> float:
    return detector.calibration.threshold(DEFAULT_SCORE, detector.config.detection.target_fpr)


if __name__ == "__main__":
    typer.run(main)
