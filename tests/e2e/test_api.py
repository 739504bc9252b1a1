"""The public endpoints on a running page: the examples of docs/api.md, and refusals."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from jobs.service import JobService
from jobs.views import Status
from medvae.workspace import PROJECT
from tests.e2e.conftest import Site


@pytest.fixture(scope="module")
def client(site: Site, model: str) -> Client:
    return Client(site.url, analytics_enabled=False, verbose=False, download_files=False)


def test_every_example_of_the_documentation_runs(
    site: Site, model: str, service: JobService, phantom_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(phantom_file.parent)
    text = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 6
    names: dict[str, Any] = {}
    for example in examples:
        exec(example.replace("http://127.0.0.1:7860", site.url), names)
    assert model in [each["job"] for each in names["models"]]
    assert 0 < names["image"]["p_value"] <= 1
    assert names["image"]["heatmap"].startswith("data:image/")
    assert names["done"]["status"] == "succeeded"
    assert names["done"]["epochs_done"] == 2
    assert set(names["done"]["figures"]["auroc"]) >= {"elbo", "brightness", "smoothness"}
    assert service.job(names["job"]["job"]).name == "From a program"
    deadline = time.monotonic() + 30
    while service.job(names["other"]["job"]).status is not Status.CANCELLED:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_nothing_else_is_public(client: Client) -> None:
    found = client.view_api(return_format="dict", print_info=False)
    assert set(found["named_endpoints"]) == {"/detect", "/train", "/job", "/cancel", "/models"}
    assert found["unnamed_endpoints"] == {}


def test_an_unreadable_file_does_not_stop_the_others(
    client: Client, phantom_file: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    answer = client.predict(
        files=[handle_file(str(bad)), handle_file(str(phantom_file))], api_name="/detect"
    )
    first, second = answer["images"]
    assert "not an image" in first["error"]
    assert second["unusual"] == (second["p_value"] <= answer["target_fpr"])
    assert "Research use only" in answer["notice"]


@pytest.mark.parametrize(
    ("endpoint", "arguments", "message"),
    [
        ("/job", {"job": "nobody"}, "there is no job 'nobody'"),
        ("/cancel", {"job": "nobody"}, "there is no job 'nobody'"),
        ("/train", {"settings": {"training.epochs": -1}}, "training.epochs"),
        ("/train", {"settings": {"training.speed": 1}}, "training.speed"),
        ("/train", {"settings": [1]}, "settings are no object"),
        ("/train", {"preset": "/etc/passwd"}, "no preset '/etc/passwd'"),
        ("/detect", {"files": []}, "files is empty"),
    ],
)
def test_what_is_refused_says_why(
    client: Client, service: JobService, endpoint: str, arguments: dict[str, Any], message: str
) -> None:
    before = len(service.jobs(200))
    with pytest.raises(AppError, match=message):
        client.predict(**arguments, api_name=endpoint)
    assert len(service.jobs(200)) == before
