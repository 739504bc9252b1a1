"""One file, whole or not at all, that runs no code and says what it is when it is the wrong one."""

import os
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from medvae.engine import checkpoint
from medvae.engine.detector import AnomalyDetector
from medvae.errors import CheckpointError, ConfigError
from medvae.workspace import PROJECT, Workspace
from tests.conftest import TrainedRun

CONTENT = {
    "config": {"training": {"epochs": 3}},
    "weights": {f"layer{i}": torch.arange(200.0) * i for i in range(6)},
    "text": "Röntgen",
    "numbers": [1, 2.5, None, True],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "best.pth"
    checkpoint.save(path, "model", CONTENT)
    return path


def refusal(path: Path, kind: str = "model") -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, kind)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def alone(path: Path) -> bool:
    """Whether there is nothing beside the file."""
    return list(path.parent.iterdir()) == [path]


def test_what_was_saved_comes_back(file: Path) -> None:
    content = checkpoint.load(file, "model")
    assert content["text"] == "Röntgen"
    assert content["numbers"] == [1, 2.5, None, True]
    assert content["config"] == CONTENT["config"]
    assert all(torch.equal(content["weights"][k], v) for k, v in CONTENT["weights"].items())  # type: ignore[attr-defined]
    assert alone(file)


def test_saving_again_replaces_the_file_at_once(file: Path) -> None:
    opened = file.open("rb")  # as a page that is reading the old model
    checkpoint.save(file, "model", {"text": "new"})
    assert checkpoint.load(file, "model")["text"] == "new"
    with opened:
        assert torch.load(opened, weights_only=True)["text"] == "Röntgen"
    assert alone(file)


def test_a_missing_file_says_to_train_first(tmp_path: Path) -> None:
    assert "train a model first" in refusal(tmp_path / "nothing.pth")
    assert "train a model first" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x80\x02."]
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.pth"
    path.write_bytes(content)
    assert "not a checkpoint" in refusal(path)


def test_an_ordinary_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "not a checkpoint" in refusal(path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert "not a checkpoint, or a damaged one" in refusal(file)


def test_damage_anywhere_raises_nothing_but_a_checkpoint_error(file: Path) -> None:
    data, rng = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 4, 32])):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            checkpoint.load(file, "model")
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_another_version_is_refused_with_both_numbers(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    torch.save({**content, "version": 99}, file)
    assert "version 99" in refusal(file)
    assert f"reads version {checkpoint.VERSION}" in refusal(file)


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], torch.zeros(3), {"format": "other"}])
def test_a_foreign_pytorch_file_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "best.pth"
    torch.save(content, path)
    assert "not written by this program" in refusal(path)


def test_a_resume_point_is_no_model_and_the_other_way_round(file: Path) -> None:
    assert "holds a model; expected a resume point" in refusal(file, "resume point")
    checkpoint.save(file, "resume point", {})
    assert "holds a resume point; expected a model" in refusal(file)


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("bare", [True, False])
def test_code_within_a_file_is_refused_and_not_run(tmp_path: Path, bare: bool) -> None:
    path, trap = tmp_path / "best.pth", tmp_path / "sprung"
    header = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "kind": "model"}
    content = {**header, "weights": Trap(trap)}
    if bare:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    assert "not a checkpoint" in refusal(path)
    assert not trap.exists()
    if bare:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trap.exists()  # elsewhere it would have been run


@pytest.mark.parametrize("content", [{}, {"config": 3}, {"config": {"training": {"epochs": -1}}}])
def test_a_configuration_that_makes_no_sense_is_refused_by_the_name_of_the_file(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    path = tmp_path / "best.pth"
    with pytest.raises(ConfigError, match=r"best\.pth"):
        checkpoint.config_of(content, path)


SAVE_TOO_MUCH = """
import resource, sys
from pathlib import Path
import torch
from medvae.engine import checkpoint
from medvae.engine.detector import AnomalyDetector
from medvae.errors import CheckpointError
limit = 100_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for path in sys.argv[1:]:
    try:
        checkpoint.save(Path(path), "model", {"weights": torch.ones(1000, 1000)})
    except CheckpointError as error:
        print(error)
"""


def test_when_no_more_can_be_written_the_old_file_stays_and_no_part_of_the_new_one(
    tmp_path: Path, file: Path
) -> None:
    before, first = file.read_bytes(), tmp_path / "empty" / "best.pth"
    program = [sys.executable, "-c", SAVE_TOO_MUCH, str(file), str(first)]
    ran = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    replaced, new = ran.stdout.splitlines()
    assert replaced.startswith(f"{file}: not written (")
    assert replaced.endswith("the previous one is untouched")
    assert file.read_bytes() == before
    assert alone(file)
    assert new.startswith(f"{first}: not written (")
    assert new.endswith("nothing was left behind")
    assert list(first.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"best\.pth: not written"):
        checkpoint.save(tmp_path / "run" / "best.pth", "model", CONTENT)


def test_promoting_copies_the_whole_model(trained: TrainedRun, workspace: Workspace) -> None:
    where = checkpoint.promote(trained.best, workspace)
    assert where == workspace.promoted
    original, copy = (checkpoint.load(path, "model") for path in (trained.best, where))
    assert original.keys() == copy.keys()
    assert all(torch.equal(copy["weights"][k], v) for k, v in original["weights"].items())


def test_only_a_model_can_be_promoted(workspace: Workspace, file: Path) -> None:
    checkpoint.promote(file, workspace)
    before = workspace.promoted.read_bytes()
    checkpoint.save(file, "resume point", CONTENT)
    for path in (file, file.parent / "nothing.pth"):
        with pytest.raises(CheckpointError):
            checkpoint.promote(path, workspace)
    assert workspace.promoted.read_bytes() == before


def test_weights_are_copied_in_plain_order_off_the_device() -> None:
    layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    copied = checkpoint.weights_of(layer)
    assert copied["weight"].is_contiguous()
    assert torch.equal(copied["weight"], layer.weight)
    torch.nn.init.zeros_(layer.weight)
    assert copied["weight"].any()


def test_a_finished_model_says_what_wrote_it(trained: TrainedRun) -> None:
    content = checkpoint.load(trained.best, "model")
    assert content["versions"].keys() == {"program", "torch", "python", "platform"}
    assert content["seed"] == trained.config.training.seed
    assert content["preprocessing"]["size"] == 32
    assert set(content["split"]["fingerprints"]) == {"train", "validation", "test"}
    assert checkpoint.config_of(content, trained.best) == trained.config


def test_a_packed_file_is_refused_before_it_unpacks(tmp_path: Path, file: Path) -> None:
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
        packed.writestr("archive/data/99", bytes(50_000_000))
    assert "packed" in refusal(bomb)


def test_a_file_beyond_the_limit_is_refused_unread(file: Path, home: Path) -> None:
    (home / "limits.yaml").write_text("checkpoint_mb: 1\n")
    with file.open("ab") as opened:
        opened.truncate(2_000_000)
    assert "limit checkpoint_mb" in refusal(file)


def test_a_small_file_that_claims_a_huge_model_allocates_nothing(
    trained: TrainedRun, tmp_path: Path
) -> None:
    content = checkpoint.load(trained.best, "model")
    huge = {**content["config"], "model": {"image_size": 256, "width": 256, "latent_size": 4096}}
    path = tmp_path / "huge.pth"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for weights in (content["weights"], {"to_mu.weight": torch.zeros(1).expand(4096, 524_288)}):
        checkpoint.save(path, "model", {**content, "config": huge, "weights": weights})
        with pytest.raises(CheckpointError, match="not fit"):
            AnomalyDetector.load(path, "cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


@pytest.mark.parametrize("weights", [{}, {"a": 3}, [1, 2], None])
def test_weights_that_are_none_are_refused(
    trained: TrainedRun, tmp_path: Path, weights: Any
) -> None:
    content = checkpoint.load(trained.best, "model")
    checkpoint.save(tmp_path / "odd.pth", "model", {**content, "weights": weights})
    with pytest.raises(CheckpointError):
        AnomalyDetector.load(tmp_path / "odd.pth", "cpu")


def test_a_calibration_of_another_size_is_refused(trained: TrainedRun, tmp_path: Path) -> None:
    content = checkpoint.load(trained.best, "model")
    healthy = content["calibration"]["healthy"]
    odd = {**content["calibration"], "healthy": {**healthy, "field": torch.zeros(1)}}
    checkpoint.save(tmp_path / "odd.pth", "model", {**content, "calibration": odd})
    with pytest.raises(CheckpointError, match="calibration does not fit"):
        AnomalyDetector.load(tmp_path / "odd.pth", "cpu")
