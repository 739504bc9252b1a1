"""The network as ONNX computes the same, for any number of images."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from medvae.engine import checkpoint, onnx_export
from medvae.engine.detector import load_model
from medvae.engine.onnx_export import export_onnx
from medvae.errors import CheckpointError, ExportError
from medvae.workspace import PROJECT
from tests.conftest import TrainedRun
from tests.engine.conftest import CPU


@pytest.fixture
def with_patch_head(trained: TrainedRun, tmp_path: Path) -> Path:
    """The trained model with a second head that nobody trained."""
    from medvae.model.vae import VAE

    content = checkpoint.load(trained.best, "model")
    config = trained.config.override({"model.patch_head": True, "model.refine": True})
    content["config"] = config.model_dump()
    content["weights"] = checkpoint.weights_of(VAE(config.model))
    file = tmp_path / "two-headed.pth"
    checkpoint.save(file, "model", content)
    return file


@pytest.mark.parametrize("count", [1, 2, 33])
def test_onnx_runtime_computes_what_pytorch_computes(with_patch_head: Path, count: int) -> None:
    file = export_onnx(with_patch_head, with_patch_head.with_suffix(".onnx"))
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    assert names == ["reconstruction", "mu", "logvar", "patch_logits"]
    images = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(count))
    found = dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))
    content = checkpoint.load(with_patch_head, "model")
    config = checkpoint.config_of(content, with_patch_head)
    with torch.inference_mode():
        expected = load_model(config, content["weights"], with_patch_head, CPU)(images)
    for name in names:
        assert np.allclose(found[name], getattr(expected, name).numpy(), atol=1e-4, rtol=1e-4)


def test_the_file_says_what_it_is(trained: TrainedRun, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(export_onnx(trained.best, tmp_path / "net.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["run"] == "first"
    assert '"size": 32' in facts["preprocessing"]
    assert [output.name for output in session.get_outputs()] == ["reconstruction", "mu", "logvar"]


def test_a_file_that_would_compute_something_else_is_not_written(
    trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", 1e-12)
    with pytest.raises(ExportError, match="off by"):
        export_onnx(trained.best, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export_onnx(tmp_path / "none.pth", tmp_path / "net.onnx")


def test_from_the_terminal(trained: TrainedRun, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    ran = subprocess.run(
        [sys.executable, "main.py", "export", "first", "--onnx", "--out", str(out)],
        cwd=PROJECT,
        env={"MEDVAE_HOME": str(trained.workspace.home), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == f"wrote {out}"
    assert out.stat().st_size > 10_000
