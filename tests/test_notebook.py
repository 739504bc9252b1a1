"""The notebook runs on a finished run, and is kept without outputs."""

import json
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from medvae.workspace import PROJECT
from tests.conftest import TrainedRun

NOTEBOOK = PROJECT / "notebooks/analysis.ipynb"


def test_the_notebook_runs_on_a_finished_run(trained: TrainedRun, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    environment = {
        **os.environ,
        "MEDVAE_HOME": str(trained.workspace.home),
        "MEDVAE_MODEL": str(trained.best),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(tmp_path),
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
    }
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=environment)
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4


def test_the_notebook_holds_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
