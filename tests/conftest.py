"""Keeps every test off the user's data, and trains one tiny model that many tests look at."""

import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medvae.config import Config
from medvae.workspace import PROJECT, Workspace
from tests.data.drawn import write_public_layout

# Before torch is imported, and for every process that a test starts: models this small are faster
# on one core, and the tests run in two processes.
os.environ["OMP_NUM_THREADS"] = "1"

if TYPE_CHECKING:
    from medvae.data.cache import ImageSet
    from medvae.data.splits import Split
    from medvae.engine.events import Event
    from medvae.engine.experiment import TrainingOutcome


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed and logged may name a file that is not UTF-8; a report may not."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whatever the program writes by default goes into the test's own folder."""
    monkeypatch.setenv("MEDVAE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace(home)


@pytest.fixture(scope="session")
def chest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in the public layout: 40 + 2 normals to learn from, 12 + 12 to test on.

    Shared by all tests: read it, never write to it.
    """
    return write_public_layout(tmp_path_factory.mktemp("data") / "chests")


@pytest.fixture(scope="session")
def tiny_config(chest_folder: Path) -> Config:
    """The smallest model, on the CPU, for two epochs of the small data set."""
    return Config.parse(
        {
            "data": {"root": str(chest_folder), "validation_fraction": 0.3},
            "model": {"image_size": 32, "width": 4, "latent_size": 8},
            "detection": {"target_fpr": 0.1},
            "training": {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32"},
        }
    )


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and all that it said and left behind."""

    config: Config
    workspace: Workspace
    folder: Path
    events: "list[Event]"
    outcome: "TrainingOutcome"

    @property
    def best(self) -> Path:
        return self.folder / "best.pth"


@pytest.fixture(scope="session")
def trained(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The first run in a workspace of its own. Read it; copy what you want to change."""
    from medvae.engine.events import never
    from medvae.engine.experiment import run_training

    workspace = Workspace(tmp_path_factory.mktemp("home"))
    folder = workspace.run_folder("first")
    events: list[Event] = []
    outcome = run_training(tiny_config, folder, workspace, events.append, never)
    return TrainedRun(tiny_config, workspace, folder, events, outcome)


@pytest.fixture(scope="session")
def images(
    tiny_config: Config, chest_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> "ImageSet":
    """The small data set, decoded at 32 × 32."""
    from medvae.data.cache import import_images

    workspace = Workspace(tmp_path_factory.mktemp("cache"))
    return import_images(tiny_config.data, chest_folder, 32, workspace, lambda done, total: None)


@pytest.fixture(scope="session")
def divided(images: "ImageSet", tiny_config: Config) -> "Split":
    """The split of `images` by the folder's own test."""
    from medvae.data.splits import split

    return split(images.catalog, tiny_config.data, seed=0)


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real radiographs in the public layout where there are any, else drawn ones."""
    real = PROJECT.parent / "shared" / "data" / "chest_xray"
    if real.is_dir():
        return real
    return write_public_layout(tmp_path_factory.mktemp("shared") / "chest_xray", size=224)
