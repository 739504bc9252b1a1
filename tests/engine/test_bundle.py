"""Bundles: what goes out comes in again, and what a stranger changed does not."""

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from medvae.engine import bundle as bundles
from medvae.engine.bundle import MANIFEST, export_run, install, open_bundle
from medvae.engine.detector import AnomalyDetector
from medvae.engine.events import EpochEnded
from medvae.errors import BundleError, CheckpointError
from tests.conftest import TrainedRun
from tests.data.drawn import chest, encoded


@pytest.fixture(scope="module")
def exported(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(trained.folder, tmp_path_factory.mktemp("out") / "first.zip")


def changed(archive: Path, to: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a bundle with other files, and hashes that fit them."""
    with zipfile.ZipFile(archive) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    manifest = json.loads(files.pop(MANIFEST))
    change(files)
    manifest["files"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    with zipfile.ZipFile(to, "w") as archive_out:
        archive_out.writestr(MANIFEST, json.dumps(manifest))
        for name, data in files.items():
            archive_out.writestr(name, data)
    return to


def test_a_run_comes_out_of_its_bundle_with_the_same_scores(
    trained: TrainedRun, exported: Path, tmp_path: Path
) -> None:
    found = open_bundle(exported)
    assert found.run == "first"
    assert found.config == trained.config
    assert found.evaluation == trained.outcome.evaluation
    assert found.history == [event for event in trained.events if isinstance(event, EpochEnded)]
    assert set(found.pictures) == {"report_card.png", "roc.png", "scores.png"}
    model = install(found, "second", tmp_path / "second")
    image = [chest(5)]
    [before] = AnomalyDetector.load(trained.best).detect(image)
    [after] = AnomalyDetector.load(model).detect(image)
    assert after.scores == before.scores
    assert after.p_value == before.p_value
    assert AnomalyDetector.load(model).card.run == "second"
    for name in ("MODEL_CARD.md", "evaluation.json", "report_card.png"):
        assert (tmp_path / "second" / name).is_file()


def test_a_bundle_lists_what_it_holds_by_hash(exported: Path) -> None:
    with zipfile.ZipFile(exported) as opened:
        listed = json.loads(opened.read(MANIFEST))["files"]
        assert set(listed) == set(opened.namelist()) - {MANIFEST}
        assert {"best.pth", "config.yaml", "evaluation.json", "MODEL_CARD.md"} <= set(listed)
        for name, entry in listed.items():
            assert entry["sha256"] == hashlib.sha256(opened.read(name)).hexdigest()


class Payload:
    """A pickle that would write a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)  # type: ignore[return-value]


@pytest.mark.parametrize("dump", [partial(pickle.dumps, protocol=2), None])
def test_code_in_a_strangers_model_is_not_run(
    exported: Path, tmp_path: Path, dump: Callable[[object], bytes] | None
) -> None:
    trap = tmp_path / "code was run"
    stored = io.BytesIO()
    torch.save({"format": "med-anomaly-vae", "weights": Payload(trap)}, stored)
    data = dump(Payload(trap)) if dump else stored.getvalue()
    bad = changed(exported, tmp_path / "x.zip", lambda files: files.update({"best.pth": data}))
    with pytest.raises(BundleError, match="not a checkpoint"):
        open_bundle(bad)
    assert not trap.exists()


def _png(side: int) -> bytes:
    stored = io.BytesIO()
    Image.new("L", (side, side)).save(stored, "PNG")
    return stored.getvalue()


def _other_weights(files: dict[str, bytes]) -> None:
    content = torch.load(io.BytesIO(files["best.pth"]), weights_only=True)
    name = next(iter(content["weights"]))
    content["weights"][name] = torch.zeros(3)
    stored = io.BytesIO()
    torch.save(content, stored)
    files["best.pth"] = stored.getvalue()


def _other_figures(files: dict[str, bytes]) -> None:
    content = torch.load(io.BytesIO(files["best.pth"]), weights_only=True)
    content["metrics"]["sensitivity"] = "<script>"
    stored = io.BytesIO()
    torch.save(content, stored)
    files["best.pth"] = stored.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.update({"../../evil.py": b"x"}), "no foreign files"),
        (lambda files: files.pop("best.pth"), "expected bundle.json, best.pth"),
        (lambda files: files.update({"roc.png": encoded(chest(1), "JPEG")}), "not a PNG"),
        (lambda files: files.update({"roc.png": _png(7000)}), "7000×7000 pixels"),
        (_other_weights, "do not fit its configuration"),
        (_other_figures, "not a model of this program"),
    ],
)
def test_a_bundle_that_is_none_is_refused_in_one_line(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    with pytest.raises(BundleError, match=message) as refused:
        open_bundle(changed(exported, tmp_path / "x.zip", change))
    assert "\n" not in str(refused.value)


def test_a_byte_changed_after_the_export_is_noticed(exported: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    files["evaluation.json"] += b" "
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(BundleError, match=r"evaluation.json was changed"):
        open_bundle(tmp_path / "x.zip")


def test_a_bomb_is_not_unpacked(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "LARGEST_OTHER", 1 << 20)
    with zipfile.ZipFile(exported) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data if name != "roc.png" else bytes(64 << 20))
    with pytest.raises(BundleError, match="packed"):
        open_bundle(tmp_path / "x.zip")
    large = changed(
        exported, tmp_path / "y.zip", lambda files: files.update({"roc.png": bytes(2 << 20)})
    )
    with pytest.raises(BundleError, match="larger than 1 MB"):
        open_bundle(large)


def test_what_is_no_zip_is_said_to_be_none(tmp_path: Path, trained: TrainedRun) -> None:
    with pytest.raises(BundleError, match="no such file"):
        open_bundle(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(BundleError, match="not a ZIP"):
        open_bundle(tmp_path / "text.zip")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export_run(tmp_path / "nobody", tmp_path / "x.zip")
