"""The command line: each command on real files, and what it says when something is wrong."""

import csv
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.main import get_command

import main
from jobs.service import JobService
from medvae.config import DataConfig
from medvae.data.cache import cache_folder
from medvae.data.phantom import draw_phantom
from medvae.engine.detector import AnomalyDetector
from medvae.workspace import PROJECT, Workspace

TINY = (
    "--set data.phantoms=40 --set model.image_size=32 --set model.width=4 "
    "--set model.latent_size=8 --set training.epochs=2 --set training.batch_size=8 "
    "--set data.validation_fraction=0.3 --set training.least_images=0"
)


class Ran:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command line in this process, through the same `main` as the terminal's."""

    def call(line: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["main.py", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return call


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


@pytest.fixture
def trained(run) -> Path:
    """The home of a tiny trained run named `first`."""
    result = run(f"train --name first {TINY}")
    assert result.code == 0, result.err
    return Workspace.current().home


def test_train_writes_a_model_a_report_card_and_an_evaluation_and_says_where(run) -> None:
    result = run(f"train --name first {TINY}")
    written = [Path(path) for path in re.findall(r"^wrote (.+)$", result.out, re.MULTILINE)]
    assert {"best.pth", "split.json", "evaluation.json", "report_card.png"} <= {
        path.name for path in written
    }
    assert all(path.is_file() for path in written)
    assert Workspace.current().promoted.is_file()
    assert not (Workspace.current().run_folder("first") / "last.pth").exists()


def test_evaluate_repeats_the_figures_from_the_checkpoint_alone(run, trained: Path) -> None:
    folder = Workspace.current().run_folder("first")
    first = (folder / "evaluation.json").read_text()
    (folder / "evaluation.json").unlink()
    (folder / "split.json").unlink()
    result = run(f"evaluate --model {folder / 'best.pth'}")
    assert result.code == 0, result.err
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(first)


def test_detect_writes_a_heatmap_an_image_and_a_table(run, trained: Path, tmp_path: Path) -> None:
    good = tmp_path / "scan.png"
    Image.fromarray(draw_phantom(5, "effusion").image).save(good)
    bad = tmp_path / "notes.jpg"
    bad.write_text("not an image")
    result = run(f"detect {good} {bad} --out {tmp_path / 'out'}")
    with (tmp_path / "out" / "scores.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert size_of(tmp_path / "out" / "scan_heatmap.png") == (3 * 384, 384)
    assert float(rows[0]["elbo"]) > 0
    assert rows[1]["error"].startswith("notes.jpg: not an image")
    assert result.code == 2
    assert result.err.strip() == "error: 1 of 2 files could not be read"


def test_report_card_goes_where_it_is_told(run, trained: Path, tmp_path: Path) -> None:
    result = run(f"report-card --out {tmp_path / 'card.png'} --seed 4")
    assert result.code == 0, result.err
    assert size_of(tmp_path / "card.png") == (1800, 1260)


def test_a_second_model_is_promoted_only_when_told(run, trained: Path) -> None:
    before = Workspace.current().promoted.read_bytes()
    result = run(f"train --name second {TINY} --set training.seed=1")
    assert "not promoted" in result.out
    assert Workspace.current().promoted.read_bytes() == before
    assert run("promote second").code == 0
    assert AnomalyDetector.load(Workspace.current().promoted).card.run == "second"


def test_a_data_set_named_in_one_folder_is_found_from_another(
    run, chest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chest_folder.parent)
    assert run(f"train --queue --data {chest_folder.name}").code == 0
    [job] = JobService(Workspace.current()).jobs()
    assert (job.config or {})["data"]["root"] == str(chest_folder)
    assert run(f"train --name first --data {chest_folder.name} {TINY}").code == 0
    monkeypatch.chdir("/")
    assert run("report-card").code == 0


def test_an_image_is_not_scored_as_a_list_of_paths(run, trained: Path, tmp_path: Path) -> None:
    Image.fromarray(draw_phantom(5, "effusion").image).save(tmp_path / "scan.png")
    for queue in ("", " --queue"):
        result = run(f"score {tmp_path / 'scan.png'} --out {tmp_path / 'scores.parquet'}{queue}")
        assert (result.code, result.out) == (2, "")
        assert "scan.png: no text; expected a folder of images" in result.err
    assert not (tmp_path / "scores.parquet").exists()


def test_a_run_writes_into_no_folder_but_its_own(run, home: Path) -> None:
    for name in ("../esc", ".", "vae_m4_best.pth", "x" * 300, home / "abs"):
        assert run(f"train {TINY} --name {name}").code == 2
    assert list(home.iterdir()) == []


def test_a_finished_run_is_not_run_again(run, trained: Path) -> None:
    checkpoint = Workspace.current().run_folder("first") / "best.pth"
    before = checkpoint.stat().st_mtime_ns
    again = run(f"train --name first {TINY}")
    assert again.code == 0
    assert "run first was finished before" in again.out
    other = run(f"train --name first {TINY} --set training.epochs=50 --set loss.beta=7")
    assert (other.code, other.out) == (2, "")
    assert "loss.beta was 1.0 and is 7.0, training.epochs was 2 and is 50" in other.err
    assert other.err.count("\n") == 1
    assert checkpoint.stat().st_mtime_ns == before


def test_data_import_says_what_is_in_a_zip(run, tmp_path: Path) -> None:
    folder = tmp_path / "set" / "pictures"
    for index in range(24):
        for label, lesion in (("NORMAL", None), ("PNEUMONIA", "nodule")):
            file = folder / label / f"{label.lower()}{index:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_phantom(index + (lesion is None) * 100, lesion, 32).image).save(
                file
            )
    archive = shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path / "set")
    result = run(
        f"data import {archive} --set model.image_size=32 --set data.validation_fraction=0.3"
    )
    assert result.code == 0, result.err
    assert "24 normal and 24 sick images of 48 patients" in result.out
    assert "pooled protocol" in result.out


def test_a_run_is_exported_and_imported_again(run, trained: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "first.zip"
    assert f"wrote {bundle}" in run(f"export first --out {bundle}").out
    result = run(f"import-bundle {bundle}")
    assert result.code == 0, result.err
    [name] = re.findall(r"imported as (\S+);", result.out)
    assert name in run("runs").out
    assert run(f"promote {name}").code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --data no/such/folder", "no such folder"),
        ("train --set model.latent_size=0", "model.latent_size"),
        ("train --set training.epochs=-1", "training.epochs"),
        ("train --set training.speed=9", "training.speed"),
        ("train --set training", "expected SECTION.KEY=VALUE"),
        ("train --config nowhere", "no configuration nowhere"),
        ("train", "no images to train on: name a data set with --data PATH"),
        ("train --queue", "no images to train on"),
        ("train --queue --data no/such/folder", "no such folder"),
        ("train --name ../esc --set data.phantoms=40", "'../esc': cannot be the name of a run"),
        ("train --name . --set data.phantoms=40", "cannot be the name of a run"),
        ("train --name vae_m4_best.pth --set data.phantoms=40", "the name of the model in use"),
        ("promote a/b", "cannot be the name of a run"),
        ("train --set training.epochs=2026-99-99", "training.epochs: not readable YAML (month"),
        (f"train --set training.epochs={'9' * 5000}", "training.epochs: not readable YAML"),
        (f"train --set training.epochs=0x{'f' * 5000}", "found a number too long to print"),
        (f"train --set training.epochs={'[' * 3000}", "training.epochs: not readable YAML"),
        (f"train --config {'c' * 300}", "a name that is too long; choose a shorter one"),
        ("sweep --grid loss.beta=1,2", "no images to train on"),
        ("train --set data.phantoms=40 --set training.device=cuda:7", "cuda:7"),
        ("train --set data.phantoms=40 --set training.device=toaster", "unknown device"),
        ("evaluate", "no such checkpoint; train a model first"),
        ("detect scan.png --out out --model main.py", "not a checkpoint"),
        ("promote nobody", "no such checkpoint"),
        ("export nobody --out x.zip", "no such checkpoint"),
        ("import-bundle README.md", "not a ZIP"),
        ("data import nothing.zip", "no such folder"),
        ("data import nothing.tar.gz", "no such file or folder"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(run, line: str, message: str) -> None:
    result = run(line)
    assert result.code == 2
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def in_one_line(result: Ran) -> str:
    """What the command refused with."""
    assert result.code == 2
    assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
    return result.err


def test_a_place_that_cannot_be_written_to_is_named(run, trained: Path, tmp_path: Path) -> None:
    folder = trained / "data/raw/phantoms-40/test/NORMAL"
    file = tmp_path / "file"
    file.write_text("in the way")
    for line in (
        f"detect {next(folder.iterdir())} --out {file}",
        f"detect {next(folder.iterdir())} --out {file}/sub",
        f"score {folder} --out {file}/x.parquet",
        f"report-card --out {file}/x.png",
    ):
        said = in_one_line(run(line))
        assert str(file) in said
        assert "a file stands where a folder is needed; move it, or choose another place" in said
    assert file.read_text() == "in the way"
    (tmp_path / "folder.png").mkdir()
    for name in ("card", "card.xyz", "", "folder.png"):
        said = in_one_line(run(f"report-card --out {tmp_path / name}"))
        assert "expected the name of a file that ends in .png or .pdf" in said


def test_a_home_that_cannot_be_is_told_with_the_way_to_another(
    run, tmp_path: Path, chest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    homes = [file, *([Path("/proc/nope")] if Path("/proc").is_dir() else [])]
    for home in homes:
        monkeypatch.setenv("MEDVAE_HOME", str(home))
        for line in (
            f"train {TINY}",
            "data phantom --count 40",
            f"data import {chest_folder} --set model.image_size=32",
        ):
            said = in_one_line(run(line))
            assert str(home) in said
            assert "choose another place with MEDVAE_HOME" in said


def test_more_jobs_than_any_table_holds_are_not_asked_for(run) -> None:
    result = run("runs --limit 100000000000000000000")
    assert result.code == 2
    assert "Invalid value for '--limit'" in result.err


def test_names_that_are_not_utf8(run, trained: Path, tmp_path: Path) -> None:
    # In a real process: what it gets and prints are bytes.
    def call(*words: str | Path) -> Ran:
        line = [sys.executable, "main.py", *map(os.fspath, words)]
        ran = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=False)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    root = Path(shutil.copytree(trained / "data/raw/phantoms-40/test", tmp_path / "set"))
    odd = root / "NORMAL/scan\udcff.png"
    try:
        shutil.copy(next((root / "NORMAL").iterdir()), odd)
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        pytest.skip("this file system takes no such names")  # as Apple's does not
    detected = call("detect", odd, "--out", tmp_path / "out")
    assert detected.code == 0, detected.err
    assert r"scan\udcff.png: " in detected.out
    table = (tmp_path / "out/scores.csv").read_text(encoding="utf-8")
    assert r"scan\udcff.png" in table
    assert (tmp_path / "out" / r"scan\udcff_heatmap.png").is_file()
    small = ["--set", "model.image_size=32"]
    for words in (["data", "import", root, *small], ["train", "--data", root, *small]):
        assert r"the name 'NORMAL/scan\udcff.png' is not UTF-8" in in_one_line(call(*words))
    odd.unlink()
    renamed = root.rename(tmp_path / "set\udcff")
    said = in_one_line(call("data", "import", renamed))
    assert r"set\udcff' is not UTF-8; rename the folder" in said
    assert call("train", "--queue", "--name", "a\udcff", "--set", "data.phantoms=40").code == 0
    assert r"a\udcff" in call("runs").out


def test_an_empty_folder_and_one_of_text_files_are_told_apart(run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    texts = tmp_path / "texts" / "NORMAL"
    texts.mkdir(parents=True)
    (texts / "a.txt").write_text("hello")
    only_sick = tmp_path / "only_sick" / "PNEUMONIA"
    only_sick.mkdir(parents=True)
    Image.fromarray(draw_phantom(0, "nodule", 32).image).save(only_sick / "a1.png")
    assert "no folder NORMAL or PNEUMONIA" in run(f"train --data {empty}").err
    assert "no image file in its label folders" in run(f"train --data {texts.parent}").err
    assert "no normal one" in run(f"train --data {only_sick.parent}").err


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_full_disk_while_importing_is_one_line_and_leaves_nothing(run) -> None:
    home = Workspace.current()
    assert run("data phantom --count 40").code == 0
    root = home.raw / "phantoms-40"
    cache = cache_folder(root, DataConfig(root=str(root)), 32, home)
    cache.mkdir(parents=True)
    (cache / f"pixels.{os.getpid()}.partial").symlink_to(FULL)
    result = run(f"data import {root} --set model.image_size=32")
    assert result.code == 2
    assert result.err.startswith("error: the disk is full: free some space below")
    assert result.err.count("\n") == 1
    assert list(cache.iterdir()) == []


def test_ctrl_c_saves_and_the_same_command_ends_with_the_same_weights(tmp_path: Path) -> None:
    # Real processes, since the signal has to reach a real terminal's child.
    line = [sys.executable, "main.py", "train", *shlex.split(TINY), "--set", "training.epochs=15"]
    process = subprocess.Popen(
        [*line, "--name", "broken"], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for printed in process.stdout:
        if printed.startswith("epoch   3"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(20) == 130
    assert "go on with the same command and --name broken" in rest
    process.stdout.close()
    for name in ("broken", "whole"):
        subprocess.run([*line, "--name", name], cwd=PROJECT, check=True, capture_output=True)
    home = Workspace.current()
    resumed, whole = (
        torch.load(home.run_folder(name) / "best.pth", weights_only=True)
        for name in ("broken", "whole")
    )
    assert resumed["best_epoch"] == whole["best_epoch"]
    for key, weights in whole["weights"].items():
        assert torch.equal(weights, resumed["weights"][key]), key


def test_help_does_not_start_torch() -> None:
    code = "import sys, main; sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


def test_every_command_line_in_the_readme_is_one_that_exists() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:\.venv/bin/)?python main\.py ?(.*?)(?:\s+#.*)?$", readme, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        words = shlex.split(line)
        command = get_command(main.app)
        path = []
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words[0]]
            path.append(words.pop(0))
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word for word in words if word.startswith("--")}
        assert used <= known, f"{line}: {used - known}"
        assert not words or path or used, line
