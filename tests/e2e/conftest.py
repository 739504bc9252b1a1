"""A real page with its worker in a home of its own, and a real Chromium to look at it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from jobs.service import JobService
from jobs.views import Status
from medvae.config import Config
from medvae.data.phantom import draw_phantom
from medvae.workspace import PROJECT, Workspace

PATIENCE = 60_000  # milliseconds, for anything that trains; a busy machine takes long
expect.set_options(timeout=PATIENCE)

Scheme = Literal["dark", "light"]
LOOKS: dict[str, tuple[int, Scheme]] = {
    f"{name} {scheme}": (width, scheme)
    for name, width in (("wide", 1440), ("narrow", 390))
    for scheme in get_args(Scheme)
}


@dataclass
class Site:
    """A running `python main.py`."""

    process: "subprocess.Popen[str]"
    url: str
    home: Path


@dataclass
class Complaints:
    """What a browser has to say against a page."""

    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_site(home: Path, log: Path, *arguments: str, port: int | None = None) -> Site:
    port = port or free_port()
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "main.py", "--port", str(port), "--no-demo", *arguments],
            cwd=PROJECT,
            env={**os.environ, "MEDVAE_HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    url = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}healthz", timeout=2).close()
            return Site(process, url, home)
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"the page did not start: {log.read_text()}")


def stop_site(site: Site) -> None:
    site.process.send_signal(signal.SIGINT)
    site.process.wait(PATIENCE / 1000)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    running = start_site(folder / "home", folder / "page.log")
    yield running
    stop_site(running)


@pytest.fixture(scope="session")
def service(site: Site) -> Iterator[JobService]:
    """The same job table as the page's."""
    with closing(JobService(Workspace(site.home))) as opened:
        yield opened


@pytest.fixture(scope="session")
def phantom_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sick chest as a file of the user's own."""
    file = tmp_path_factory.mktemp("scans") / "scan.png"
    Image.fromarray(draw_phantom(7, "consolidation").image).save(file)
    return file


def tiny(epochs: int) -> Config:
    """Trains in a second or two, or for as long as one likes."""
    return Config().override(
        {
            "data.phantoms": 60,
            "data.validation_fraction": 0.3,
            "model.image_size": 32,
            "model.width": 4,
            "model.latent_size": 8,
            "training.batch_size": 8,
            "training.epochs": epochs,
            "detection.target_fpr": 0.233,  # no step of the slider, and more than it goes to
        }
    )


@pytest.fixture(scope="session")
def model(service: JobService) -> str:
    """The name of a finished run, whose model is in use."""
    jobs = service.jobs(statuses=[Status.SUCCEEDED])
    finished = [job for job in jobs if job.kind == "train"]
    if finished:
        return finished[0].id
    return ended(service, service.submit(tiny(epochs=2)))


def ended(service: JobService, job: str) -> str:
    """The same job, once it has ended."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not service.job(job).status.ended:
        assert time.monotonic() < deadline, f"job {job} does not end"
        time.sleep(0.1)
    return job


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
    mac = Path("/Applications/Chromium.app/Contents/MacOS/Chromium")
    executable = found or (str(mac) if mac.exists() else None)
    if executable is None:
        pytest.fail("no Chromium on this machine: install Debian's package `chromium`")
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def look(request: pytest.FixtureRequest) -> str:
    """How the page is looked at, unless a test is marked otherwise: see `seen`."""
    return str(getattr(request, "param", "wide light"))


def seen(*looks: str) -> pytest.MarkDecorator:
    """Marks a test to be run in each of these LOOKS."""
    return pytest.mark.parametrize("look", looks, indirect=True)


@pytest.fixture
def page(browser: Browser, site: Site, complaints: Complaints, look: str) -> Iterator[Page]:
    """A tab on the site; the test fails afterwards if the browser had anything to complain of.

    Nor may the page be wider than its screen.
    """
    width, scheme = LOOKS[look]
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    opened.on("dialog", lambda dialog: dialog.accept())
    watch(opened, site, complaints)
    yield opened
    overflow = opened.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    context.close()
    assert complaints == Complaints()
    assert overflow <= 0


def visit(page: Page, url: str) -> None:
    """Open a place of the page, and wait until it takes input."""
    page.goto(url)
    wait_until_settled(page)


def wait_until_settled(page: Page) -> None:
    expect(page.locator("html[data-settled]")).to_be_attached()


def unfold(page: Page, section: str) -> None:
    """Open a section whose fields exist only from now on; Gradio empties them once more at first.

    Nothing on the page tells when that is over. No person is as fast.
    """
    page.get_by_role("button", name=section).click()
    page.wait_for_timeout(500)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what the page showed and what the browser complained of."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if call.when == "call" and report.failed and page is not None:
        report.sections.append((f"the page at {page.url}", page.locator("body").aria_snapshot()))
        report.sections.append(("complaints", str(item.funcargs.get("complaints"))))
    return report


def watch(page: Page, site: Site, complaints: Complaints) -> None:
    page.on(
        "console",
        lambda said: complaints.console.append(said.text) if said.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.console.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((site.url, "data:", "blob:"))
            else complaints.outside.append(request.url)
        ),
    )
    page.on(
        "response",
        lambda answer: (
            complaints.failed.append(f"{answer.status} {answer.url}")
            if answer.status >= 400
            else None
        ),
    )
