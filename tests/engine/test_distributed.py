"""Training in two real processes, started by torchrun: the same run as in one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    "training.epochs": 5,
    "training.least_images": 74,  # two passes over the set in one epoch
    "training.batch_size": 8,
    "training.augment": True,
    "training.precision": "fp32",
    "training.device": "cpu",
}

PATIENCE = 180  # seconds; a busy machine takes long to import
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--redirects=3")
Launch = Callable[..., "Launched"]


class Launched:
    """Two processes below torchrun, each with a file of its own for what it prints."""

    def __init__(self, logs: Path, home: Path, *command: str) -> None:
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, *TORCHRUN, f"--log-dir={logs}", *command],
            cwd=PROJECT,
            env={
                **os.environ,
                "MEDVAE_HOME": str(home),
                "PYTHONPATH": str(PROJECT),
            },
            stderr=subprocess.DEVNULL,  # what torchrun itself has to say
        )

    def printed(self, rank: int) -> str:
        return "".join(file.read_text() for file in self.logs.rglob(f"{rank}/std*.log"))

    def ranks(self) -> list[int]:
        """Process ids, in the order of the ranks."""
        table = subprocess.check_output(["ps", "-axo", "pid=,ppid="], text=True)
        rows = [tuple(map(int, line.split())) for line in table.splitlines()]
        return sorted(pid for pid, parent in rows if parent == self.process.pid)

    def wait_for(self, words: str) -> None:
        """Until rank 0 has printed them."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.printed(0):
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> int:
        return self.process.wait(timeout=PATIENCE)


@pytest.fixture
def launch(workspace: Workspace, tmp_path: Path) -> Iterator[Launch]:
    """Start something in two processes; whatever is left of it ends with the test."""
    started: list[Launched] = []

    def start(*command: str) -> Launched:
        started.append(Launched(tmp_path / str(len(started)), workspace.home, *command))
        return started[-1]

    yield start
    for launched in started:
        launched.process.terminate()  # torchrun ends its processes, too
        launched.process.wait(timeout=60)


def train(name: str, preset: str = "default", **changes: Any) -> list[str]:
    settings = {**SETTINGS, **{f"training.{key}": value for key, value in changes.items()}}
    command = ["main.py", "train", f"--name={name}", f"--config={preset}"]
    return [*command, *(f"--set={k}={v}" for k, v in settings.items())]


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
        least_images=training.least_images,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(
    ("preset", "tolerance"),
    # The second task's weights are averaged: float32's rounding grows over the 50 steps.
    [("reference", 1e-4), ("default", 1e-3)],
)
def test_two_processes_paused_and_resumed_give_the_curve_of_one(
    workspace: Workspace, launch: Launch, tmp_path: Path, preset: str, tolerance: float
) -> None:
    paused = launch(*train(preset, preset))
    paused.wait_for("training and 5 validation images")
    paused.process.send_signal(signal.SIGTERM)
    assert paused.end() != 0
    assert f"go on with the same command and --name {preset}" in paused.printed(0)
    assert (workspace.run_folder(preset) / "last.pth").exists()

    resumed = launch(*train(preset, preset))
    assert resumed.end() == 0, resumed.printed(0) + resumed.printed(1)
    assert "resumed at step" in resumed.printed(0)
    assert paused.printed(1) + resumed.printed(1) == ""

    config = Config.load(preset).override(SETTINGS)
    loaders = loaders_of(config, workspace)
    assert (len(loaders.train.dataset), loaders.train.images_per_epoch) == (37, 74)  # 74 % 8 = 2
    alone = Trainer(config, loaders, loaders.train.compute, tmp_path).fit(ignore, never)
    result = checkpoint.load(workspace.run_folder(preset) / "best.pth", "model")
    expected = curve([asdict(epoch) for epoch in alone.history])
    assert len(expected) == 6 * config.training.epochs
    assert curve(result["history"]) == pytest.approx(expected, rel=tolerance)


def test_when_one_process_is_killed_all_end_with_one_message(launch: Launch) -> None:
    launched = launch(*train("killed", epochs=10_000))
    launched.wait_for("epoch   1")
    os.kill(launched.ranks()[1], signal.SIGKILL)
    assert launched.end() != 0
    assert launched.printed(0).count("error: another process of this run ended") == 1
    assert "Traceback" not in launched.printed(0)
    assert launched.printed(1) == ""


def test_gradients_are_those_of_the_whole_batch_and_one_error_is_told(launch: Launch) -> None:
    launched = launch("tests/engine/two_processes.py")
    assert launched.end() != 0
    printed = launched.printed(0) + launched.printed(1)
    differences = [float(line.split()[1]) for line in printed.splitlines() if line[0] in "851"]
    assert len(differences) == 6
    assert max(differences) < 1e-12
    assert printed.count("MedVAEError: both fail") == 1
