"""Archive scoring: rows, memory and speed of two workers, one of them killed half-way.

The loop within is compared in turns with the bare one that a script would be (decode a batch,
score it, decode the next), in one process and in two that share the cores. The images are
phantoms, drawn `--distinct` times and written under as many names as asked for; the model has the
default size and random weights. On the CPU. Prints JSON.

    python -m benchmarks.scoring --images 20000
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from PIL import Image

from jobs.service import JobService
from jobs.views import Status
from medvae.config import Config
from medvae.data.phantom import draw_phantom
from medvae.data.transform import read_model_input, to_model_input
from medvae.device import choose_compute
from medvae.engine import checkpoint
from medvae.engine.archive import finish_archive
from medvae.engine.archive_plan import plan_archive
from medvae.engine.detector import BATCH, AnomalyDetector, calibrate_model
from medvae.engine.score_request import ScoreRequest
from medvae.model.vae import VAE
from medvae.workspace import PROJECT, Workspace

WORKERS = 2


def write_model(path: Path, preset: str = "reference") -> None:
    """A preset's network with random weights, calibrated on a few phantoms."""
    config = Config.load(preset)
    size = config.model.image_size
    weights = VAE(config.model).state_dict()
    healthy = np.stack([to_model_input(draw_phantom(n).image, size) for n in range(40)])
    batches = [torch.from_numpy(healthy).unsqueeze(1).float() / 255]
    compute = choose_compute()
    calibration = calibrate_model(config, weights, lambda: batches, lambda: batches, compute)
    content = {
        "run": "untrained",
        "created": "",
        "config": config.model_dump(),
        "weights": weights,
        "calibration": calibration.to_content(),
        "best_epoch": 0,
        "metrics": {},
    }
    checkpoint.save(path, "model", content)


def write_images(folder: Path, count: int, distinct: int) -> list[str]:
    """PNG files of 256 × 256 pixels, a thousand a folder."""
    contents = []
    for seed in range(distinct):
        buffer = BytesIO()
        Image.fromarray(draw_phantom(seed).image).save(buffer, "PNG", compress_level=3)
        contents.append(buffer.getvalue())
    paths = [folder / f"{n // 1000:03d}" / f"{n:06d}.png" for n in range(count)]
    for n, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[n % distinct])
    return [str(path) for path in paths]


def bare_loop(model: Path, paths: list[str], threads: int) -> float:
    """Decode and score one batch after the other; returns when it began, once it was warm."""
    torch.set_num_threads(threads)
    detector = AnomalyDetector.load(model, "cpu")
    size = detector.config.model.image_size
    detector.score_inputs(np.zeros((BATCH, size, size), np.uint8))
    begun = time.time()
    for start in range(0, len(paths), BATCH):
        files = [Path(path) for path in paths[start : start + BATCH]]
        inputs = [read_model_input(file.read_bytes(), file.name, size) for file in files]
        detector.score_inputs(np.stack(inputs))
    return begun


def our_loop(model: Path, paths: list[str], threads: int) -> float:
    """The same images through `finish_archive` in one process, the files written included."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "list.txt"), Path(folder, "out.parquet")
        source.write_text("\n".join(paths))
        archive = plan_archive(Path(folder), ScoreRequest(source, out, model))
        detector = AnomalyDetector.load(archive.model, "cpu")
        size = detector.config.model.image_size
        detector.score_inputs(np.zeros((BATCH, size, size), np.uint8))
        begun = time.time()
        finish_archive(archive, detector)
    return begun


Loop = Callable[[Path, list[str], int], float]


def rate(loop: Loop, model: Path, paths: list[str], processes: int) -> float:
    """Images a second of that many loops at once, which share the cores between them."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        loops = [
            pool.submit(loop, model, paths[turn::processes], threads) for turn in range(processes)
        ]
        begun = min(future.result() for future in loops)
        return len(paths) / (time.time() - begun)


def compare(model: Path, paths: list[str], turns: int) -> dict[str, Any]:
    """Medians of each way, and of the ratios of neighbouring turns."""
    ways: dict[str, tuple[Loop, int]] = {
        "bare, 1 process": (bare_loop, 1),
        "bare, 2 processes": (bare_loop, 2),
        "ours, 1 process": (our_loop, 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, (loop, processes) in ways.items():
            rates[name].append(rate(loop, model, paths, processes))
            print(f"turn {turn + 1}: {name}: {rates[name][-1]:.0f} images/s", flush=True)
    ours = rates["ours, 1 process"]
    return {
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ours_over": {
            name: statistics.median(a / b for a, b in zip(ours, values, strict=True))
            for name, values in rates.items()
            if name.startswith("bare")
        },
    }


def resident(pid: int) -> float:
    """Megabytes of memory that a process holds; 0 when it is gone."""
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    return float(subprocess.run(command, capture_output=True, text=True).stdout or 0) / 1024


def score(service: JobService, request: ScoreRequest, count: int) -> dict[str, Any]:
    """The family of jobs with two workers, the first of which is killed at half of the parts."""
    command = [sys.executable, "-m", "jobs.worker"]
    workers = [
        subprocess.Popen(
            [*command, f"--device=cpu:{number}"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for number in range(WORKERS)
    ]
    peaks = [0.0] * WORKERS
    try:
        while len(service.workers()) < WORKERS:
            time.sleep(0.1)
        time.sleep(20)  # they import PyTorch meanwhile
        job_id = service.submit_score(request)
        while not service.job(job_id).status.ended:
            peaks = [max(peak, resident(w.pid)) for peak, w in zip(peaks, workers, strict=True)]
            done = service.parts(job_id).get(Status.SUCCEEDED, 0)
            if workers[0].poll() is None and done * request.shard_size >= count / 2:
                workers[0].send_signal(signal.SIGKILL)
            time.sleep(0.2)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    job = service.job(job_id)
    seconds = (job.ended or 0) - job.created
    attempts = sum(part.attempt for part in service.jobs(10_000, parent=job_id))
    return {
        "status": job.status.value,
        "parts": sum(service.parts(job_id).values()),
        "claims": attempts,
        "seconds": seconds,
        "images_per_second": count / seconds,
        "peak_mb_per_worker": [round(peak) for peak in peaks],
    }


def main(
    images: Annotated[int, typer.Option(help="How many files to score.")] = 20_000,
    distinct: Annotated[int, typer.Option(help="How many different phantoms to draw.")] = 500,
    sample: Annotated[int, typer.Option(help="How many files each loop takes.")] = 3_000,
    turns: Annotated[int, typer.Option(help="How often each loop is run.")] = 3,
) -> None:
    """Score with two workers, check every row, and compare the loops in turns."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        os.environ["MEDVAE_HOME"] = folder
        write_model(workspace.promoted)
        paths = write_images(workspace.raw, images, min(distinct, images))
        request = ScoreRequest(workspace.raw, workspace.home / "out.parquet", workspace.promoted)
        with closing(JobService(workspace)) as service:
            scored = score(service, request, images)
        print(json.dumps(scored), flush=True)
        loops = compare(workspace.promoted, paths[:sample], turns)
        rows = Counter(pq.read_table(request.out)["path"].to_pylist())
    report = {
        "rows": sum(rows.values()),
        "missing": len(set(paths) - rows.keys()),
        "duplicates": sum(rows.values()) - len(rows),
        **scored,
        "loops": loops,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    typer.run(main)
