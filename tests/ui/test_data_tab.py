"""The handlers of the Data tab as plain functions: real imports, real surveys."""

import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gradio as gr
import pytest

from jobs.assignment import Assignment
from jobs.tasks import import_data
from jobs.views import Status
from medvae.config import Config
from medvae.data.download import RemoteFile
from medvae.engine.events import Preparing, Stop, never
from medvae.workspace import Workspace
from tests.data.drawn import write
from tests.data.test_layouts import write_medmnist
from tests.ui.conftest import Puppet
from ui.context import Context
from ui.data_tab import (
    download_set,
    draw_phantoms,
    import_archive,
    import_folder,
    newest_import,
    show_data,
)


def work(context: Context, puppet: Puppet) -> str:
    """Do the queued import as the worker does; returns the id of its set."""
    job = newest_import(context)
    assert job is not None
    if job.status is Status.QUEUED:
        puppet.begin(job.id)
    folder = context.workspace.run_folder(job.id)
    assignment = Assignment(job, folder, context.workspace, None)
    outcome = import_data(assignment, lambda event: None, never)
    puppet.end(job.id, Status.SUCCEEDED, result=outcome.result)
    return str(outcome.result["imported"])


def test_an_empty_tab_says_what_to_do(context: Context) -> None:
    status, stop, job, sets, details, token = show_data(context, "", "")
    assert (status, job, details) == ("", "", "")
    assert stop.visible is False
    assert "No images yet" in sets
    assert show_data(context, "", token) == gr.skip()


def test_a_folder_is_imported_and_shown_with_its_audit(
    context: Context, puppet: Puppet, chest_folder: Path
) -> None:
    import_folder(context, f" {chest_folder} ", "normal", "PNEUMONIA")
    status, stop, job, *_ = show_data(context, "", "")
    assert f"Import of {chest_folder.name}" in status
    assert stop.visible is True
    puppet.begin(job, [Preparing("Importing images", 7, 78)])
    assert "7 of 78" in show_data(context, "", "")[0]
    name = work(context, puppet)
    status, stop, _, sets, details, _ = show_data(context, "", "")
    assert stop.visible is False
    assert f"set={name}" in status
    assert ">passed<" in sets
    for said in ("No sick or test image can reach training", "3,024 pairs", "official protocol"):
        assert said in details
    assert details.count("data:image/jpeg") == 4
    assert "was removed" in show_data(context, "nowhere", "")[4]


def test_what_is_unfit_is_said_in_red_with_the_reasons_of_unreadable_files(
    context: Context, puppet: Puppet, chest_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "<b>leaky"
    shutil.copytree(chest_folder, root)
    shutil.copy(
        next((root / "test/PNEUMONIA").iterdir()), root / "train/PNEUMONIA/person999_virus_1.png"
    )
    sick = next((root / "train/PNEUMONIA").glob("*bacteria*"))
    shutil.copy(sick, root / "train/NORMAL/person777_bacteria_9.jpeg")
    sick.unlink()
    write(root / "train/NORMAL/IM-0900-0001.jpeg", b"no image")
    import_folder(context, str(root), "NORMAL", "PNEUMONIA")
    name = work(context, puppet)
    sets, details = show_data(context, name, "")[3:5]
    assert ">failed<" in sets
    assert "Not fit to train on" in details
    assert "IM-0900-0001.jpeg: not an image" in details
    assert "is the same as" in details
    assert "<b>leaky" not in sets + details


def test_an_uploaded_zip_is_kept_once_and_imported(
    context: Context, puppet: Puppet, chest_folder: Path, upload: Path
) -> None:
    archive = Path(shutil.make_archive(str(upload / "chests"), "zip", chest_folder))
    import_archive(context, str(archive), "NORMAL", "PNEUMONIA")
    assert archive.exists()  # equal uploads are one file, which somebody else may be looking at
    name = work(context, puppet)
    _, _, _, sets, details, _ = show_data(context, "", "")
    assert name in sets
    assert "All files: 64 × 64 pixels" in details
    again = write(upload / "chests.zip", b"other")
    with pytest.raises(gr.Error, match="uploaded before"):
        import_archive(context, str(again), "NORMAL", "PNEUMONIA")
    with pytest.raises(gr.Error, match=r"gone.zip: not kept \(No such file"):
        import_archive(context, str(upload / "gone.zip"), "NORMAL", "PNEUMONIA")
    assert [file.name for file in context.workspace.raw.iterdir()] == ["chests.zip"]


def test_a_public_set_is_downloaded_from_a_server_and_imported(
    context: Context, puppet: Puppet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_medmnist(tmp_path / "served").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        digest = hashlib.md5(content).hexdigest()
        url = f"http://127.0.0.1:{server.server_port}/"
        remote = RemoteFile(url, "pneumoniamnist_64.npz", len(content), digest)
        monkeypatch.setattr("medvae.data.download.MEDMNIST", remote)
        download_set(context, "medmnist")
        work(context, puppet)
        server.shutdown()
    status, *_, sets, details, _ = show_data(context, "", "")
    assert "Download of medmnist" in status
    assert ">passed<" in sets
    assert "pneumoniamnist_64.npz" in details


def test_phantoms_are_drawn_by_count(context: Context, puppet: Puppet) -> None:
    draw_phantoms(context, 40)
    work(context, puppet)
    assert "40 phantoms" in show_data(context, "", "")[3]


@pytest.mark.parametrize(
    ("path", "normal", "message"),
    [
        (" ", "NORMAL", "folder is empty"),
        ("/no/such/folder", "NORMAL", "no such folder"),
        ("/", "", "data.normal"),
        ("/", "pneumonia", "same name"),
    ],
)
def test_a_bad_form_queues_nothing(context: Context, path: str, normal: str, message: str) -> None:
    with pytest.raises(gr.Error, match=message):
        import_folder(context, path, normal, "PNEUMONIA")
    with pytest.raises(gr.Error, match="greater than or equal to 40"):
        draw_phantoms(context, 3)
    assert context.service.jobs() == []


def test_an_import_that_runs_is_found_behind_many_newer_jobs(
    context: Context, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.data_tab.LOOKED_THROUGH", 2)
    running, *_ = (context.service.submit_import(Config()) for _ in range(4))
    puppet.begin(running)
    found = newest_import(context)
    assert found is not None
    assert found.id == running


def test_an_import_ends_when_asked_to(context: Context, workspace: Workspace) -> None:
    draw_phantoms(context, 400)
    job = newest_import(context)
    assert job is not None
    assignment = Assignment(job, workspace.run_folder(job.id), workspace, None)
    outcome = import_data(assignment, lambda event: None, lambda: Stop.CANCEL)
    assert outcome.stopped is Stop.CANCEL
    assert show_data(context, "", "")[4] == ""
