"""A whole run: what it leaves behind, what is promoted, and what stops it before it begins."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from medvae.config import Config
from medvae.data.cache import ImageSet
from medvae.data.splits import PARTS, Split
from medvae.engine import checkpoint
from medvae.engine.detector import AnomalyDetector
from medvae.engine.evaluation import Evaluation
from medvae.engine.events import (
    CheckpointSaved,
    EpochEnded,
    Event,
    Preparing,
    RunEnded,
    RunStarted,
    ShouldStop,
    Stop,
    ignore,
    never,
)
from medvae.engine.experiment import (
    redraw_report_card,
    run_evaluation,
    run_training,
    sick_sample,
)
from medvae.errors import ConfigError, DataError, LeakError
from medvae.workspace import Workspace
from tests.conftest import TrainedRun
from tests.data.drawn import chest, sick_chest, write
from tests.engine.conftest import stop_after

FILES = {
    "best.pth", "split.json", "evaluation.json", "report_card.png", "roc.png", "scores.png",
    "MODEL_CARD.md", "samples",
}  # fmt: skip


@pytest.fixture(scope="session")
def normals_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("normals") / "healthy"
    for i in range(24):
        write(root / f"NORMAL/p{i}.png", chest(i))
    return root


@pytest.fixture
def normals_config(tiny_config: Config, normals_only: Path) -> Config:
    return tiny_config.override({"data.root": str(normals_only), "training.epochs": 1})


def once_training(events: list[Event], stop: Stop) -> ShouldStop:
    """Asks as soon as the first step is done."""
    return lambda: stop if any(isinstance(event, RunStarted) for event in events) else None


def train(config: Config, workspace: Workspace, run: str = "run") -> list[Event]:
    events: list[Event] = []
    run_training(config, workspace.run_folder(run), workspace, events.append, never)
    return events


# --- What a run leaves behind ------------------------------------------------------------------


def test_a_run_leaves_all_its_files_and_names_them(trained: TrainedRun) -> None:
    assert {path.name for path in trained.folder.iterdir()} == FILES
    assert {path.name for path in trained.outcome.files} == FILES - {"samples"}
    assert all(path.exists() for path in trained.outcome.files)
    assert trained.outcome.checkpoint == trained.best


def test_a_run_writes_only_into_its_workspace(trained: TrainedRun, chest_folder: Path) -> None:
    assert {path.name for path in trained.workspace.home.iterdir()} == {"data", "checkpoints"}
    assert {path.name for path in trained.workspace.checkpoints.iterdir()} == {
        "first", "vae_m4_best.pth"
    }  # fmt: skip
    assert {path.name for path in chest_folder.iterdir()} == {"train", "val", "test"}
    assert not list(trained.workspace.home.rglob("*.partial"))


def test_a_run_tells_what_it_does_in_order(trained: TrainedRun) -> None:
    stages = [event.stage for event in trained.events if isinstance(event, Preparing)]
    assert list(dict.fromkeys(stages)) == [
        "Importing images", "Calibrating on healthy validation images", "Evaluating on the test set"
    ]  # fmt: skip
    kinds = [type(event) for event in trained.events]
    assert kinds.count(RunStarted) == kinds.count(RunEnded) == 1
    assert kinds.index(Preparing) < kinds.index(RunStarted) < kinds.index(EpochEnded)
    assert kinds.count(EpochEnded) == 2


def test_the_manifest_beside_the_run_is_the_one_in_the_model(trained: TrainedRun) -> None:
    manifest = json.loads((trained.folder / "split.json").read_text())
    content = checkpoint.load(trained.best, "model")
    assert {**content["split"], "config": content["config"]} == manifest
    assert [len(manifest[part]) for part in PARTS] == [28, 14, 24]
    assert manifest["protocol"] == "official"


def test_the_outcome_is_plain_values_for_the_job_table(trained: TrainedRun) -> None:
    summary = json.loads(json.dumps(trained.outcome.summary()))
    assert summary["checkpoint"] == str(trained.best)
    assert summary["promoted"] is True
    assert Evaluation.from_json(summary["evaluation"]) == trained.outcome.evaluation


def test_a_finished_run_is_not_run_again(trained: TrainedRun) -> None:
    before = trained.best.stat().st_mtime_ns
    events: list[Event] = []
    outcome = run_training(trained.config, trained.folder, trained.workspace, events.append, never)
    assert not any(isinstance(event, RunStarted) for event in events)
    assert trained.best.stat().st_mtime_ns == before
    assert outcome.evaluation == trained.outcome.evaluation
    assert outcome.best_epoch == trained.outcome.best_epoch
    assert set(outcome.files) == set(trained.outcome.files)


def test_the_same_configuration_gives_the_same_model(
    normals_config: Config, workspace: Workspace
) -> None:
    for run in ("a", "b"):
        train(normals_config, workspace, run)
    one, other = (
        checkpoint.load(workspace.run_folder(run) / "best.pth", "model") for run in ("a", "b")
    )
    assert all(torch.equal(other["weights"][name], w) for name, w in one["weights"].items())
    assert torch.equal(*(c["calibration"]["healthy"]["residual"][0]["mean"] for c in (one, other)))


# --- Promotion -----------------------------------------------------------------------------------


def test_the_first_model_is_promoted_and_can_detect(trained: TrainedRun) -> None:
    assert trained.outcome.promoted
    promoted = AnomalyDetector.load(trained.workspace.promoted, "cpu")
    original = AnomalyDetector.load(trained.best, "cpu")
    [one], [other] = promoted.detect([chest(1)]), original.detect([chest(1)])
    assert one.scores == other.scores


def test_a_later_model_of_real_images_does_not_push_the_first_one_out(
    normals_config: Config, workspace: Workspace
) -> None:
    train(normals_config, workspace, "first")
    before = workspace.promoted.read_bytes()
    outcome = run_training(normals_config, workspace.run_folder("second"), workspace, ignore, never)
    assert not outcome.promoted
    assert workspace.promoted.read_bytes() == before


def test_real_images_replace_the_demonstration_but_not_the_other_way_round(
    tiny_config: Config, normals_config: Config, workspace: Workspace
) -> None:
    demo = tiny_config.override({"data.root": None, "data.phantoms": 40})

    def promoted_run() -> str:
        run: str = checkpoint.load(workspace.promoted, "model")["run"]
        return run

    assert run_training(demo, workspace.run_folder("demo"), workspace, ignore, never).promoted
    assert promoted_run() == "demo"
    assert not run_training(demo, workspace.run_folder("demo"), workspace, ignore, never).promoted
    outcome = run_training(normals_config, workspace.run_folder("real"), workspace, ignore, never)
    assert outcome.promoted
    assert promoted_run() == "real"
    # The finished demonstration is looked at again, and stays what it is.
    assert not run_training(demo, workspace.run_folder("demo"), workspace, ignore, never).promoted
    assert promoted_run() == "real"


def test_a_damaged_promoted_model_does_not_fail_a_finished_run(
    normals_config: Config, workspace: Workspace
) -> None:
    write(workspace.promoted, b"half a model")
    outcome = run_training(normals_config, workspace.run_folder("run"), workspace, ignore, never)
    assert outcome.checkpoint is not None
    AnomalyDetector.load(outcome.checkpoint, "cpu")


# --- Without sick images -------------------------------------------------------------------------


def test_data_without_sick_images_is_trained_on_and_not_evaluated(
    normals_config: Config, workspace: Workspace
) -> None:
    folder = workspace.run_folder("run")
    outcome = run_training(normals_config, folder, workspace, ignore, never)
    assert outcome.evaluation is None
    assert {path.name for path in folder.iterdir()} == {
        "best.pth",
        "split.json",
        "MODEL_CARD.md",
        "samples",
    }
    assert outcome.summary()["evaluation"] is None
    detector = AnomalyDetector.load(folder / "best.pth", "cpu")
    assert detector.card.metrics == {}
    assert 0 < detector.detect([chest(500)])[0].p_value <= 1
    with pytest.raises(DataError, match="needs both"):
        run_evaluation(folder / "best.pth", workspace, ignore, never)


# --- Stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", Stop)
def test_a_stop_while_images_are_imported_ends_the_run_there(
    tiny_config: Config, workspace: Workspace, stop: Stop
) -> None:
    folder = workspace.run_folder("run")
    outcome = run_training(tiny_config, folder, workspace, ignore, stop_after(5, stop))
    assert (outcome.stopped, outcome.checkpoint) == (stop, None)
    assert not folder.exists()
    assert not workspace.promoted.exists()


def test_a_cancelled_run_leaves_no_model(normals_config: Config, workspace: Workspace) -> None:
    folder, events = workspace.run_folder("run"), list[Event]()
    cancel = once_training(events, Stop.CANCEL)
    outcome = run_training(normals_config, folder, workspace, events.append, cancel)
    assert (outcome.stopped, outcome.checkpoint) == (Stop.CANCEL, None)
    assert {path.name for path in folder.iterdir()} == {"split.json"}
    assert not workspace.promoted.exists()


def test_a_kept_run_is_a_finished_model(trained: TrainedRun, workspace: Workspace) -> None:
    config = trained.config.override({"training.epochs": 500})
    events: list[Event] = []

    def keep() -> Stop | None:
        return Stop.KEEP if any(isinstance(event, EpochEnded) for event in events) else None

    folder = workspace.run_folder("kept")
    outcome = run_training(config, folder, workspace, events.append, keep)
    assert outcome.stopped is Stop.KEEP
    assert outcome.evaluation is not None
    assert {path.name for path in folder.iterdir()} == FILES
    assert AnomalyDetector.load(folder / "best.pth", "cpu").detect([chest(1)])


def test_a_paused_run_goes_on_to_the_same_model(
    normals_config: Config, workspace: Workspace
) -> None:
    train(normals_config, workspace, "straight")
    folder, events = workspace.run_folder("paused"), list[Event]()
    pause = once_training(events, Stop.PAUSE)
    outcome = run_training(normals_config, folder, workspace, events.append, pause)
    assert (outcome.stopped, outcome.checkpoint) == (Stop.PAUSE, None)
    assert (folder / "last.pth").exists()
    again = train(normals_config, workspace, "paused")
    [started] = [event for event in again if isinstance(event, RunStarted)]
    assert started.resumed_at_step > 0
    assert not (folder / "last.pth").exists()
    one, other = (
        checkpoint.load(workspace.run_folder(run) / "best.pth", "model")
        for run in ("straight", "paused")
    )
    assert all(torch.equal(other["weights"][name], w) for name, w in one["weights"].items())
    assert one["split"] == other["split"]


def test_a_stop_before_calibrating_can_be_taken_up_again_without_training(
    normals_config: Config, workspace: Workspace
) -> None:
    folder = workspace.run_folder("run")
    events: list[Event] = []

    def pause_at_the_end() -> Stop | None:
        return Stop.PAUSE if any(isinstance(event, RunEnded) for event in events) else None

    outcome = run_training(normals_config, folder, workspace, events.append, pause_at_the_end)
    assert (outcome.stopped, outcome.checkpoint) == (Stop.PAUSE, None)
    assert any(isinstance(event, CheckpointSaved) for event in events)
    again = train(normals_config, workspace)
    assert not any(isinstance(event, EpochEnded) for event in again)
    assert (folder / "best.pth").exists()


# --- Refusals ------------------------------------------------------------------------------------


def test_a_leak_ends_the_run_before_the_first_step(
    tiny_config: Config, chest_folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    root = shutil.copytree(chest_folder, tmp_path / "leaky")
    with Image.open(next((root / "test/PNEUMONIA").iterdir())) as sick:
        sick.save(root / "train/NORMAL/IM-7777-0001.jpeg", quality=40)
    events: list[Event] = []
    with pytest.raises(LeakError, match="IM-7777"):
        run_training(
            tiny_config.override({"data.root": str(root)}),
            workspace.run_folder("run"), workspace, events.append, never,
        )  # fmt: skip
    assert not any(isinstance(event, RunStarted) for event in events)
    assert not workspace.promoted.exists()


def test_a_run_begins_under_its_name_once_the_leak_is_removed(
    normals_config: Config, normals_only: Path, tmp_path: Path, workspace: Workspace
) -> None:
    root = shutil.copytree(normals_only, tmp_path / "leaky")
    says_sick = root / "NORMAL/person7_bacteria.png"
    write(says_sick, chest(900))
    config = normals_config.override({"data.root": str(root)})
    with pytest.raises(LeakError, match="person7"):
        train(config, workspace)
    assert not workspace.run_folder("run").exists()
    says_sick.unlink()
    train(config, workspace)
    assert (workspace.run_folder("run") / "best.pth").exists()


OTHER = {"training.seed": 9, "data.validation_fraction": 0.4}


def differing(config: Config) -> str:
    return (
        rf"data\.validation_fraction was {config.data.validation_fraction} and is 0\.4, "
        r"training\.seed was 0 and is 9\).*take another name"
    )


def test_a_finished_run_is_not_passed_off_as_one_of_other_settings(
    trained: TrainedRun, chest_folder: Path, normals_only: Path
) -> None:
    with pytest.raises(ConfigError, match=differing(trained.config)):
        run_training(
            trained.config.override(OTHER), trained.folder, trained.workspace, ignore, never
        )
    elsewhere = trained.config.override({"data.root": str(normals_only)})
    with pytest.raises(ConfigError, match=f"data.root was '{chest_folder}'"):
        run_training(elsewhere, trained.folder, trained.workspace, ignore, never)
    device = trained.config.override({"training.device": "auto", "training.precision": "bf16"})
    outcome = run_training(device, trained.folder, trained.workspace, ignore, never)
    assert outcome.evaluation == trained.outcome.evaluation


def stopped_at_once(config: Config, workspace: Workspace) -> Path:
    """The folder of a run that has its split, and nothing else yet."""
    folder, events = workspace.run_folder("run"), list[Event]()
    run_training(config, folder, workspace, events.append, once_training(events, Stop.CANCEL))
    return folder


def test_the_split_of_a_run_that_was_killed_at_once_is_not_used_with_other_settings(
    normals_config: Config, workspace: Workspace
) -> None:
    folder = stopped_at_once(normals_config, workspace)
    assert {path.name for path in folder.iterdir()} == {"split.json"}
    with pytest.raises(ConfigError, match=differing(normals_config)):
        train(normals_config.override(OTHER), workspace)
    train(normals_config, workspace)
    assert (folder / "best.pth").exists()


def test_a_split_of_an_older_version_which_does_not_say_its_settings_is_still_the_runs(
    normals_config: Config, workspace: Workspace
) -> None:
    folder = stopped_at_once(normals_config, workspace)
    manifest = json.loads((folder / "split.json").read_text())
    del manifest["config"]
    (folder / "split.json").write_text(json.dumps(manifest))
    train(normals_config, workspace)
    assert checkpoint.load(folder / "best.pth", "model")["split"] == manifest


def test_a_manifest_changed_between_two_attempts_ends_the_run(
    normals_config: Config, workspace: Workspace
) -> None:
    folder, events = workspace.run_folder("run"), list[Event]()
    pause = once_training(events, Stop.PAUSE)
    run_training(normals_config, folder, workspace, events.append, pause)
    manifest = json.loads((folder / "split.json").read_text())
    manifest["train"].append(manifest["test"].pop())
    (folder / "split.json").write_text(json.dumps(manifest))
    with pytest.raises(LeakError, match="changed by hand"):
        train(normals_config, workspace)


def test_a_missing_folder_leaves_nothing_behind(tiny_config: Config, workspace: Workspace) -> None:
    config = tiny_config.override({"data.root": str(workspace.home / "nothing")})
    with pytest.raises(DataError, match="no such folder"):
        train(config, workspace)
    assert list(workspace.home.iterdir()) == []


# --- Evaluating again ----------------------------------------------------------------------------


def test_an_evaluation_repeats_exactly_from_the_checkpoint_alone(
    trained: TrainedRun, workspace: Workspace, tmp_path: Path
) -> None:
    model = Path(shutil.copy(trained.best, tmp_path / "elsewhere.pth"))
    outcome = run_evaluation(model, workspace, ignore, never, folder=tmp_path / "again")
    assert outcome.evaluation == trained.outcome.evaluation
    written = json.loads((tmp_path / "again/evaluation.json").read_text())
    assert written == json.loads((trained.folder / "evaluation.json").read_text())
    assert {path.name for path in outcome.files} == {
        "evaluation.json", "report_card.png", "roc.png", "scores.png",
        "audit.json", "calibration.png", "report.html",
    }  # fmt: skip
    page = (tmp_path / "again/report.html").read_text()
    assert f"{written['auroc']['combined']['value']:.3f}" in page
    assert page.count('<img src="data:image/png;base64,') >= 3
    assert 'src="http' not in page  # nothing is loaded
    audited = json.loads((tmp_path / "again/audit.json").read_text())
    assert 0 <= audited["outside_share"] <= audited["outside_share_raw"] <= 1
    cards = [folder / "report_card.png" for folder in (trained.folder, tmp_path / "again")]
    assert cards[0].read_bytes() == cards[1].read_bytes()


def outside(tmp_path: Path) -> Path:
    root = tmp_path / "other hospital"
    for i in range(6):
        write(root / f"NORMAL/0000{i}_000.png", chest(7000 + i))
        write(root / f"PNEUMONIA/0010{i}_000.png", sick_chest(7100 + i))
    return root


def test_a_model_can_be_evaluated_on_another_folder(
    trained: TrainedRun, workspace: Workspace, tmp_path: Path
) -> None:
    outcome = run_evaluation(
        trained.best, workspace, ignore, never, str(outside(tmp_path)), tmp_path / "out"
    )
    assert outcome.evaluation is not None
    assert outcome.evaluation.protocol == "outside"
    assert (outcome.evaluation.normal_images, outcome.evaluation.sick_images) == (6, 6)
    assert outcome.evaluation.threshold == trained.outcome.evaluation.threshold  # type: ignore[union-attr]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_another_folder_with_an_image_the_model_has_learnt_from_is_a_leak(
    trained: TrainedRun, workspace: Workspace, tmp_path: Path, chest_folder: Path, part: str
) -> None:
    root = outside(tmp_path)
    [known, _] = checkpoint.load(trained.best, "model")["split"][part][0]
    shutil.copy(chest_folder / known, root / "NORMAL" / f"99999_{Path(known).name}")
    with pytest.raises(LeakError, match="99999_"):
        run_evaluation(trained.best, workspace, ignore, never, str(root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_resized_copy_of_a_training_image_is_left_out_and_counted(
    trained: TrainedRun, workspace: Workspace, tmp_path: Path, chest_folder: Path
) -> None:
    root = outside(tmp_path)
    [known, _] = checkpoint.load(trained.best, "model")["split"]["train"][0]
    image = Image.open(chest_folder / known)
    smaller = image.resize((3 * image.width // 4, 3 * image.height // 4))
    smaller.save(root / "NORMAL" / "00099_000.png")
    outcome = run_evaluation(trained.best, workspace, ignore, never, str(root), tmp_path / "out")
    assert outcome.evaluation is not None
    assert outcome.evaluation.normal_images == 6
    assert list(outcome.evaluation.left_out.values()) == [1]
    assert "1 left out: copies" in outcome.evaluation.summary()
    assert "1 left out: copies" in (tmp_path / "out/report.html").read_text()


def test_without_the_training_images_it_says_that_copies_cannot_be_told(
    trained: TrainedRun, tmp_path: Path, chest_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hidden = chest_folder.rename(chest_folder.with_name("hidden"))
    try:
        run_evaluation(
            trained.best, Workspace(tmp_path), ignore, never, str(outside(tmp_path)), tmp_path / "o"
        )
    finally:
        hidden.rename(chest_folder)
    assert "copies of training images cannot be told" in caplog.text


def test_data_that_changed_since_the_training_cannot_be_evaluated_as_if_it_had_not(
    tiny_config: Config,
    chest_folder: Path,
    trained: TrainedRun,
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    root = shutil.copytree(chest_folder, tmp_path / "moved")
    content = checkpoint.load(trained.best, "model")
    content["config"]["data"]["root"] = str(root)
    torch.save(content, tmp_path / "best.pth")
    run_evaluation(tmp_path / "best.pth", workspace, ignore, never)
    gone = Path(content["split"]["test"][0][0])
    write(root / gone, chest(8000))
    with pytest.raises(LeakError, match=gone.name):
        run_evaluation(tmp_path / "best.pth", workspace, ignore, never)


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.PAUSE])
def test_an_evaluation_that_is_stopped_says_so_and_writes_nothing(
    trained: TrainedRun, workspace: Workspace, tmp_path: Path, stop: Stop
) -> None:
    outcome = run_evaluation(
        trained.best, workspace, ignore, stop_after(3, stop), folder=tmp_path / "out"
    )
    assert (outcome.stopped, outcome.evaluation, outcome.files) == (stop, None, [])
    assert outcome.summary() == {"evaluation": None, "files": []}
    assert not (tmp_path / "out").exists()


def test_a_report_card_can_be_drawn_again_with_other_images(
    trained: TrainedRun, workspace: Workspace, tmp_path: Path
) -> None:
    same, other = (
        redraw_report_card(
            trained.best, workspace, ignore, never, tmp_path / f"card{seed}.png", seed
        )
        for seed in (0, 1)
    )
    assert same.read_bytes() == (trained.folder / "report_card.png").read_bytes()
    assert other.read_bytes() != same.read_bytes()


def test_the_sick_images_of_a_card_are_drawn_by_the_seed_and_not_by_their_score(
    trained: TrainedRun, images: ImageSet, divided: Split
) -> None:
    detector = AnomalyDetector.load(trained.best, "cpu")
    first, again, other = (
        [found.name for found in sick_sample(detector, images, divided, seed)] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert len(set(first)) == 5
    assert all("/PNEUMONIA/" in name for name in first)
