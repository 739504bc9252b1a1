"""Training in two real processes, started by torchrun: the same run as in one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medvae.config import Config
from medvae.data.loader import HealthyLoaders, build_healthy_loaders
from medvae.data.splits import split
from medvae.device import choose_compute
from medvae.engine import checkpoint
from medvae.engine.events import ignore, never
from medvae.engine.experiment import load_images
from medvae.engine.trainer import Trainer
from medvae.workspace import PROJECT, Workspace

# 37 training images in batches of 8: the last batch has 5, two and three for the processes.
SETTINGS: dict[str, Any] = {
    "data.phantoms": 60,
    "model.image_size": 32,
    "model.width": 4,
    "model.latent_size": 8,
    "training.epochs": 12,
    "training.batch_size": 8,
    "training.augment": True,
    "training.precision": "fp32",
    "training.device": "cpu",
}


class Launched:
    """Two processes below torchrun, each with a file of its own for what it prints."""

    def __init__(self, workspace: Workspace, logs: Path, name: str, **changes: Any) -> None:
        settings = {**SETTINGS, **{key.replace("__", "."): v for key, v in changes.items()}}
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
            + ["--redirects=3", f"--log-dir={logs}", "main.py", "train", f"--name={name}"]
            + [f"--set={key}={value}" for key, value in settings.items()],
            cwd=PROJECT,
            env={**os.environ, "MEDVAE_HOME": str(workspace.home), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,  # what torchrun has to say itself
        )

    def printed(self, rank: int) -> str:
        return "".join(file.read_text() for file in self.logs.rglob(f"{rank}/std*.log"))

    def ranks(self) -> list[int]:
        """Process ids, in the order of the ranks."""
        table = subprocess.check_output(["ps", "-axo", "pid=,ppid="], text=True)
        rows = [tuple(map(int, line.split())) for line in table.splitlines()]
        return sorted(pid for pid, parent in rows if parent == self.process.pid)

    def wait_for_first_epoch(self) -> None:
        wait_until(lambda: "epoch   1" in self.printed(0))

    def end(self) -> int:
        return self.process.wait(timeout=60)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def best_of(workspace: Workspace, name: str) -> dict[str, Any]:
    return checkpoint.load(workspace.run_folder(name) / "best.pth", "model")


def curve(history: list[dict[str, Any]]) -> list[float]:
    keys = ("loss", "mse", "kld", "validation_loss", "validation_mse", "validation_kld")
    return [epoch[key] for epoch in history for key in keys]


def loaders_of(config: Config, workspace: Workspace) -> HealthyLoaders:
    images = load_images(config, workspace, ignore, never)
    training = config.training
    return build_healthy_loaders(
        images,
        split(images.catalog, config.data, training.seed),
        choose_compute("cpu", "fp32"),
        batch_size=training.batch_size,
        seed=training.seed,
        augment=training.augment,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def uninterrupted(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes make of the run."""
    launched = Launched(workspace, tmp_path_factory.mktemp("logs"), "whole")
    assert launched.end() == 0, launched.printed(0) + launched.printed(1)
    assert launched.printed(1) == ""
    return best_of(workspace, "whole")


def test_two_processes_give_the_curve_of_one(
    uninterrupted: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    config = Config().override(SETTINGS)
    loaders = loaders_of(config, workspace)
    alone = Trainer(config, loaders, loaders.train.compute, tmp_path).fit(ignore, never)
    assert len(loaders.train.dataset) % config.training.batch_size == 5
    history = [asdict(epoch) for epoch in alone.history]
    assert curve(uninterrupted["history"]) == pytest.approx(curve(history), rel=1e-4)


def test_a_paused_run_goes_on_to_the_same_end(
    uninterrupted: dict[str, Any], workspace: Workspace, tmp_path: Path
) -> None:
    paused = Launched(workspace, tmp_path / "paused", "paused")
    paused.wait_for_first_epoch()
    paused.process.send_signal(signal.SIGTERM)
    assert paused.end() != 0
    assert "go on with the same command and --name paused" in paused.printed(0)
    assert (workspace.run_folder("paused") / "last.pth").exists()

    resumed = Launched(workspace, tmp_path / "resumed", "paused")
    assert resumed.end() == 0
    assert "resumed at step" in resumed.printed(0)
    result = best_of(workspace, "paused")
    assert curve(result["history"]) == curve(uninterrupted["history"])
    for name, weight in uninterrupted["weights"].items():
        assert weight.equal(result["weights"][name]), name


def test_when_one_process_is_killed_all_end_with_one_message(
    workspace: Workspace, tmp_path: Path
) -> None:
    launched = Launched(workspace, tmp_path, "killed", training__epochs=10_000)
    launched.wait_for_first_epoch()
    ranks = launched.ranks()
    os.kill(ranks[1], signal.SIGKILL)
    killed_at = time.monotonic()
    assert launched.end() != 0
    assert time.monotonic() - killed_at < 10
    assert launched.printed(0).count("error: another process of this run ended") == 1
    assert "Traceback" not in launched.printed(0)
    assert launched.printed(1) == ""


def test_an_error_of_all_processes_is_told_once(workspace: Workspace, tmp_path: Path) -> None:
    launched = Launched(workspace, tmp_path, "faulty", training__batch_size=0)
    assert launched.end() != 0
    printed = launched.printed(0) + launched.printed(1)
    assert printed.count("error: ") == 1
    assert printed.startswith("error: changed configuration: training.batch_size")
    assert "Traceback" not in printed
