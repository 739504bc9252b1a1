"""Who gets in and who may do what, on a real server: every endpoint as nobody, viewer, operator."""

import gc
import json
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError, AuthenticationError

from jobs.service import JobService
from medvae.errors import ConfigError
from medvae.limits import MB, Limits
from medvae.workspace import Workspace
from tests.data.drawn import chest, encoded
from tests.ui.test_app import free_port
from ui.access import AUDIT_FILE, Access, open_access
from ui.app import build_app, build_context, launch_page
from ui.context import Context
from ui.quota import UploadQuota

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PASSWORDS = {"ann": "operator-secret", "bob": "viewer-secret"}
# These only read, and so does whatever is marked as patient.
READS = {"go_to", "fresh_data", "apply_preset", "settings_of_run", "foresee", "<lambda>"}
READS |= {"models", "job_state"}  # of the public endpoints
TRAVERSALS = ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd",
              "....//....//etc/passwd", "/etc/passwd", "..\\..\\etc\\passwd"]  # fmt: skip


@dataclass
class Site:
    address: str
    page: gr.Blocks
    context: Context

    def client(self, name: str | None = None) -> httpx.Client:
        """A browser, signed in as that account."""
        made = httpx.Client(base_url=self.address, timeout=60)
        if name:
            answer = made.post("/login", data={"name": name, "password": PASSWORDS[name]})
            assert answer.status_code == 303, answer.text
        return made

    def audited(self) -> list[dict[str, Any]]:
        text = (self.context.workspace.state / AUDIT_FILE).read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    access, invented = open_access(
        workspace, "0.0.0.0", False, ["ann:operator-secret"], ["bob:viewer-secret"]
    )
    assert invented is None
    with closing(JobService(workspace)) as service:
        context = build_context(workspace, service, access=access)
        page = build_app(context)
        address = launch_page(context, page, "127.0.0.1", free_port())
        yield Site(address, page, context)
        page.close(verbose=False)
        context.sandbox.close()
        access.audit.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def name_of(function: Any) -> str:
    return getattr(getattr(function, "func", function), "__name__", "?")


def role_of(function: Any) -> str | None:
    """The role that a handler asks for; None where it only shows."""
    return getattr(getattr(function, "func", function), "role", None)


def run(client: httpx.Client, number: int, inputs: int) -> httpx.Response:
    """Call a handler directly, as nobody's browser would."""
    body = {"data": [None] * inputs, "fn_index": number, "session_hash": "abc"}
    return client.post("/gradio_api/run/predict", json=body)


def test_every_handler_either_only_shows_or_asks_for_a_role(site: Site) -> None:
    roles = {}
    for function in site.page.fns.values():
        if function.fn:
            roles[name_of(function.fn)] = role_of(function.fn)
    shows = {name for name, role in roles.items() if role is None}
    for name in shows - READS:
        assert name.startswith(("refresh_", "follow_", "show_runs", "show_name", "show_data")), (
            f"{name} needs @allowed"
        )
    assert {name for name, role in roles.items() if role == "viewer"} == {
        "show_files", "show_sample", "show_report_card", "open_viewer", "find_neighbours",
        "save_table", "save_pictures", "detect",
    }  # fmt: skip
    assert {"queue_training", "stop_run", "use_model", "delete_run"} <= {
        name for name, role in roles.items() if role == "operator"
    }


def test_every_handler_refuses_nobody_and_operators_work_is_refused_to_viewers(site: Site) -> None:
    nobody, viewer, operator = site.client(), site.client("bob"), site.client("ann")
    tried = 0
    for number, function in site.page.fns.items():
        if function.fn is None:
            continue
        tried += 1
        inputs = len(function.inputs)
        assert run(nobody, number, inputs).status_code == 401
        if role_of(function.fn) == "operator":
            answer = run(viewer, number, inputs)
            assert answer.status_code == 500, name_of(function.fn)
            assert "sign in as operator" in answer.text
            assert "sign in as operator" not in run(operator, number, inputs).text
    assert tried > 15
    assert not site.context.service.jobs()
    assert {"stop_run refused", "delete_run refused"} <= {e["what"] for e in site.audited()}


def test_programs_sign_in_with_the_cookie_and_have_the_same_roles(site: Site) -> None:
    with pytest.raises(AuthenticationError, match="Please login"):
        Client(site.address, verbose=False, analytics_enabled=False)
    data = {"name": "bob", "password": PASSWORDS["bob"]}
    answer = httpx.post(f"{site.address}login", data=data, timeout=60)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    client = Client(
        site.address, headers={"Cookie": cookie}, verbose=False, analytics_enabled=False
    )
    assert client.predict(api_name="/models") == []
    with pytest.raises(AppError, match="sign in as operator"):
        client.predict(preset="quick", api_name="/train")


def routes(page: gr.Blocks) -> Iterator[tuple[str, str]]:
    """Every path that the server knows, with its names in place of values."""
    for route in page.app.routes:  # type: ignore[attr-defined]
        inner = getattr(route, "effective_route_contexts", None)  # of an included router
        for each in inner() if inner else [route]:
            for method in sorted(getattr(each, "methods", None) or {"GET"}):
                yield method, re.sub(r"[{}]|:path", "", each.path)


def test_every_route_is_closed_to_nobody(site: Site) -> None:
    nobody, tried = site.client(), 0
    for method, path in routes(site.page):
        if path in ("/healthz", "/readyz", "/login", "/logout", "/gradio_api/startup-events"):
            continue
        answer = nobody.request(method, path)
        assert answer.status_code in (401, 404, 405), (method, path, answer.status_code)
        assert "gradio_config" not in answer.text
        tried += 1
    assert tried > 30
    page = nobody.get("/", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login")


def test_health_and_readiness_need_no_account_and_tell_nothing_else(site: Site) -> None:
    for path in ("/healthz", "/readyz"):
        answer = site.client().get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_signing_in_and_out(site: Site) -> None:
    client = site.client("bob")
    assert client.get("/").status_code == 200
    cookie = next(iter(client.cookies.jar))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert client.get("/logout").status_code == 303
    client.cookies.set(cookie.name, cookie.value or "")
    assert client.get("/").status_code == 401


def test_a_thousand_guesses_are_throttled_and_then_even_the_right_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.accounts._hash", lambda password, salt: password.encode())  # faster
    access, _ = open_access(Workspace(tmp_path), "0.0.0.0", False, ["ann:secret"])
    tokens = [access.sign_in("ann", f"guess {i}", "6.6.6.6") for i in range(1000)]
    checked = [wait for token, wait in tokens if wait == 0]
    assert len(checked) == 5
    assert access.sign_in("ann", "secret", "6.6.6.6")[1] > 0
    assert access.sign_in("ann", "secret", "7.7.7.7")[0]  # the owner, from elsewhere
    spread = [access.sign_in("ann", f"guess {i}", f"8.8.8.{i % 250}") for i in range(1000)]
    assert sum(wait == 0 for _, wait in spread) <= 10  # nor does it help to have many addresses
    access.audit.close()


def test_too_many_guesses_are_told_when_to_come_back(site: Site) -> None:
    client = site.client()
    headers = {"x-forwarded-for": "9.9.9.9"}  # as from a proxy on this machine
    guess = {"name": "carol", "password": "wrong"}
    answers = [client.post("/login", data=guess, headers=headers) for _ in range(7)]
    assert [a.status_code for a in answers] == [401] * 5 + [429] * 2
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "x.gradio.live", "", "127.0.0.1:80/healthz?",
     "[::1]/healthz?", "localhost:1@evil.example"],
)  # fmt: skip
def test_a_foreign_name_is_refused(site: Site, host: str) -> None:
    assert site.client().get("/healthz", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_request_from_another_page_is_refused(site: Site, headers: dict[str, str]) -> None:
    client = site.client("ann")
    body = {"data": [], "fn_index": 0, "session_hash": "abc"}
    for path in ("/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/upload"):
        assert client.post(path, json=body, headers=headers).status_code == 403
    assert client.post("/login", data={"name": "x"}, headers=headers).status_code == 403
    if "origin" in headers:  # what it says of the page's name is no better than itself
        forged = {**headers, "x-forwarded-host": headers["origin"].rpartition("/")[2]}
        for method in ("GET", "POST"):
            assert client.request(method, "/gradio_api/info", headers=forged).status_code == 403
    own = {"origin": site.address.rstrip("/")}
    assert client.post("/gradio_api/run/predict", json=body, headers=own).status_code != 403


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize(
    "place",
    ["/gradio_api/file=", "/file=", "/static/", "/assets/", "/theme.css?v=", "/?tab=runs&run=",
     "/gradio_api/proxy=", "/svelte/"],
)  # fmt: skip
def test_no_path_leads_out(site: Site, place: str, path: str) -> None:
    answer = site.client("ann").get(place + path)
    assert "root:" not in answer.text
    assert answer.status_code < 500


def test_run_names_lead_nowhere_either(site: Site) -> None:
    client = site.client("ann")
    for number, function in site.page.fns.items():
        if role_of(function.fn) != "operator" or name_of(function.fn) == "queue_training":
            continue
        for path in TRAVERSALS:
            data = [path] * len(function.inputs)
            body = {"data": data, "fn_index": number, "session_hash": "abc"}
            answer = client.post("/gradio_api/run/predict", json=body)
            assert "root:" not in answer.text
    assert Path("/etc/passwd").exists()


def message(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/gradio_api/queue/join", content=content)


def test_a_message_is_small_and_names_no_address_to_fetch(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client("ann")

    def fetch(*args: Any) -> None:
        raise AssertionError("the server was made to fetch something")

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_get", fetch)
    for path in ("http://example.org/a", "HTTPS://example.org/a", "\\u0068ttp://example.org/a"):
        file = f'{{"path": "{path}", "meta": {{"_type": "gradio.FileData"}}}}'
        body = f'{{"data": [[{file}]], "fn_index": 2, "session_hash": "abc"}}'
        answer = message(client, body.encode())
        assert (answer.status_code, "by its address" in answer.text) == (400, True)
    large = message(client, b'"' + bytes(Limits().message_mb * MB) + b'"')
    assert (large.status_code, "limit message_mb" in large.text) == (413, True)
    deep = message(client, b"[" * 200_000)
    assert (deep.status_code, "nested" in deep.text) == (400, True)
    assert client.get("/gradio_api/file=http://example.org/a").status_code == 404


def test_every_answer_carries_the_headers_that_protect_it(site: Site) -> None:
    for path in ("/", "/login", "/healthz", "/nothing"):
        headers = site.client("bob").get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def upload(client: httpx.Client, content: bytes = b"x", name: str = "scan.png") -> httpx.Response:
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def test_an_upload_lands_in_a_private_folder_and_cannot_be_fetched(site: Site) -> None:
    client = site.client("bob")
    [path] = upload(client, encoded(chest(1)), "../../scan.png").json()
    folder = site.context.workspace.uploads
    assert Path(path).is_relative_to(folder)
    assert folder.stat().st_mode & 0o077 == 0
    assert client.get(f"/gradio_api/file={path}").status_code == 404
    shutil.rmtree(Path(path).parent)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(session_files=1), "limit session_files"),
        (Limits(session_mb=1, upload_mb=1), "limit session_mb"),
        (Limits(uploads_disk_mb=1), "uploads_disk_mb"),
        (Limits(upload_mb=1), "limit upload_mb"),
    ],
)
def test_uploads_have_quotas(
    site: Site, limits: Limits, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "current", classmethod(lambda cls: limits))
    client = site.client("bob")
    client.headers["x-forwarded-for"] = said  # a quota of its own
    size = 1_500_000 if "upload_mb" in said else 700_000
    answers = [upload(client, bytes(size)) for _ in range(3)]
    assert answers[-1].status_code == 413
    assert said in answers[-1].text
    for file in site.context.workspace.uploads.iterdir():
        shutil.rmtree(file)


def test_what_is_old_goes_when_the_next_upload_comes(tmp_path: Path) -> None:
    old, new, empty = (tmp_path / name / "scan.png" for name in ("old", "new", "empty"))
    left = tmp_path / "left"
    left.mkdir()
    for file in (old, new, empty):
        file.parent.mkdir()
        file.write_bytes(b"" if file is empty else b"x" * 10)
    for file, age in ((old, 700), (new, 500), (empty, 70), (left, 70), (tmp_path, 70)):
        os.utime(file, (time.time() - age,) * 2)
    assert UploadQuota(tmp_path).refusal("ann", "10") is None
    assert [file.exists() for file in (old, new, empty, left)] == [False, True, False, False]
    shutil.rmtree(new.parent)
    os.utime(tmp_path, (time.time() - 70,) * 2)
    assert UploadQuota(tmp_path).refusal("ann", "10") is None
    assert tmp_path.exists()  # its rights are its own


def test_what_is_still_arriving_fills_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(uploads_disk_mb=10)
    monkeypatch.setattr(Limits, "current", classmethod(lambda cls: limits))
    quota, size = UploadQuota(tmp_path), 6 * MB
    with quota.arriving(size):
        assert "uploads_disk_mb" in str(quota.refusal("ann", str(size)))
    assert quota.refusal("ann", str(size)) is None


def test_the_audit_log_tells_who_did_what_to_which_run_and_no_file(site: Site) -> None:
    client = site.client("ann")
    scan = upload(client, b"PK", "Roe_Richard.zip").json()[0]
    file = {"path": scan, "meta": {"_type": "gradio.FileData"}}
    for number, function in site.page.fns.items():
        name = name_of(function.fn) if function.fn else ""
        data: list[Any] = {
            "import_folder": ["/ward/Roe_Richard", "NORMAL", "PNEUMONIA"],
            "import_archive": [file, "NORMAL", "PNEUMONIA"],
            "use_model": ["calm-heron-3f2a"],
        }.get(name, [])
        if data and len(data) == len(function.inputs):
            body = {"data": data, "fn_index": number, "session_hash": "abc"}
            client.post("/gradio_api/run/predict", json=body)
    audited = {entry["what"]: entry for entry in site.audited() if entry["who"] == "ann"}
    assert audited["use_model"]["run"] == "calm-heron-3f2a"
    assert {"import_folder", "import_archive"} <= set(audited)
    state = site.context.workspace.state
    assert "Roe" not in (state / AUDIT_FILE).read_text()
    assert (state / AUDIT_FILE).stat().st_mode & 0o077 == 0


def test_no_secret_is_in_any_log(
    site: Site, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        client = site.client("ann")
        client.get("/")
        client.post("/login", data={"name": "operator-secret", "password": "ann"})
    printed = capfd.readouterr()
    ours = [r for r in caplog.records if not r.name.startswith("http")]  # not the client's own
    logged = " ".join(record.getMessage() for record in ours)
    state = site.context.workspace.state
    written = b"".join(file.read_bytes() for file in state.rglob("*") if file.is_file())
    token = next(iter(client.cookies.jar)).value or ""
    for secret in (*PASSWORDS.values(), token):
        assert secret not in printed.out + printed.err
        assert secret.encode() not in written
        assert secret not in logged


def test_a_page_for_this_machine_needs_no_account_and_any_other_does(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    local, nothing = open_access(workspace, "127.0.0.1", False)
    assert nothing is None
    assert local.visitor("") is not None
    for host, share in (("0.0.0.0", False), ("127.0.0.1", True), ("192.168.1.7", False)):
        access, invented = open_access(workspace, host, share)
        assert invented is not None
        assert access.visitor("") is None
        assert access.sign_in("operator", invented, "1.2.3.4")[0]
        access.audit.close()
    local.audit.close()


def test_accounts_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDVAE_AUTH", "ann:one,eve:two")
    monkeypatch.setenv("MEDVAE_VIEWER", "bob:three")
    access, invented = open_access(Workspace(tmp_path), "127.0.0.1", False)
    assert invented is None
    roles = [access.accounts.check(*p) for p in (("eve", "two"), ("bob", "three"))]
    assert [r.role for r in roles if r] == ["operator", "viewer"]
    access.audit.close()
    monkeypatch.setenv("MEDVAE_AUTH", "ann")
    with pytest.raises(ConfigError, match="NAME:PASSWORD"):
        open_access(Workspace(tmp_path), "127.0.0.1", False)


def test_names_of_this_page() -> None:
    shared = Access(names=frozenset({"localhost", ".gradio.live"}))
    for host in ("localhost:7860", "LOCALHOST", "127.0.0.1:1", "[::1]:7860", "a.gradio.live"):
        assert shared.knows(host)
    assert shared.publishes("a.gradio.live")
    assert not shared.publishes("localhost:1")
    for host in ("gradio.live.evil.example", "evilgradio.live", "localhost.evil.example", ""):
        assert not shared.knows(host)
