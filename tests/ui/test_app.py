"""The page as a server: what it answers, to whom, and what it keeps to itself."""

import gc
import json
import socket
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.launcher import WorkerProcess
from jobs.service import JobService
from medvae.config import Config
from medvae.engine.events import Progress
from medvae.errors import DataError, MedVAEError
from medvae.workspace import Workspace
from tests.ui.conftest import STARTED, Puppet
from ui.app import build_app, build_context, first_run, is_first_start, launch_page
from ui.context import Context
from ui.header import device_chip, draw_chips

# Gradio leaves event loops unclosed; whenever they are collected, Python complains.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


PUBLIC = {"/detect", "/train", "/job", "/cancel", "/models"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    with closing(JobService(workspace)) as service:
        context = build_context(workspace, service)
        page = build_app(context)
        yield launch_page(context, page, "127.0.0.1", free_port())
        page.close(verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def fetch(url: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_the_page_answers_and_says_that_it_is_well(address: str) -> None:
    assert fetch(f"{address}healthz") == (200, '{"status":"ok"}')
    status, html = fetch(address)
    assert status == 200
    assert "fonts.googleapis" not in html
    assert "MED-ANOMALY-VAE" in html


def test_a_page_for_this_machine_answers_to_no_other_name(address: str) -> None:
    assert fetch(address, host="evil.example")[0] == 400


def test_only_the_documented_endpoints_are_public_and_no_file_is_served(address: str) -> None:
    _, info = fetch(f"{address}gradio_api/info")
    assert set(json.loads(info)["named_endpoints"]) == PUBLIC
    assert fetch(f"{address}gradio_api/file=/etc/hostname")[0] in (403, 404)


def test_telemetry_and_history_are_off(context: Context) -> None:
    config = build_app(context).get_config_file()
    assert config["analytics_enabled"] is False
    assert not [c for c in config["components"] if c["type"] == "state"]
    public = [each for each in config["dependencies"] if each["api_visibility"] != "private"]
    assert {f"/{each['api_name']}" for each in public} == PUBLIC


def test_uploads_are_deleted_by_their_age(context: Context) -> None:
    assert build_app(context).delete_cache == (60, 600)


def test_a_taken_port_is_one_clear_line(context: Context) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MedVAEError, match=f"127.0.0.1:{port} .*choose another with --port"):
            launch_page(context, build_app(context), "127.0.0.1", port)


def test_the_first_run_is_the_quick_one_or_the_reference_on_real_data(
    workspace: Workspace, chest_folder: Path
) -> None:
    assert first_run(workspace, None).data.root is None
    assert first_run(workspace, str(chest_folder)).data.root == str(chest_folder)
    with pytest.raises(DataError, match="no such folder"):
        first_run(workspace, "/no/such/folder")


def test_a_start_is_the_first_one_only_once(context: Context) -> None:
    assert is_first_start(context.workspace, context.service)
    context.service.submit(first_run(context.workspace, None))
    assert not is_first_start(context.workspace, context.service)


def test_the_head_tells_of_a_missing_worker_and_a_missing_model(context: Context) -> None:
    chips = draw_chips(context)
    assert "No model yet" in chips
    assert "Worker offline" in chips


def test_the_head_tells_of_a_worker_about_to_start(workspace: Workspace, context: Context) -> None:
    waiting = Context(
        workspace,
        context.service,
        context.model,
        context.histories,
        context.results,
        context.neighbours,
        context.sandbox,
        context.access,
        WorkerProcess(),
    )
    assert "Worker starting" in draw_chips(waiting)


def test_the_head_tells_how_busy_the_device_is(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    puppet.store.roster.beat("puppet", "here", 1, "cpu", None)
    puppet.begin(job, [STARTED, Progress(1, 3, 4, 5, 3.0, 1.0, 2.0, 120.0, 60.0, busy=0.42)])
    assert "busy" not in device_chip("some cpu", None)
    puppet.store.roster.beat("puppet", "here", 1, "cpu", job)
    assert "42 % busy" in draw_chips(context)


def test_the_head_tells_which_model_looks(with_model: Context) -> None:
    with_model.model.detector()
    chips = draw_chips(with_model)
    assert "?tab=runs&amp;run=first" in chips
    assert "AUROC" in chips
    assert "threshold" in chips
