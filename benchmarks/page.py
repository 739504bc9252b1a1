"""How long a person waits for the page, in a real Chromium on a model of the default size.

    python -m benchmarks.page

Starts `python main.py` in a home of its own and prints medians of ten, warm, beside the time that
each may take. Ends with 1 when one takes longer.
"""

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from jobs.service import JobService
from jobs.store import Store, database_url
from medvae.config import Config
from medvae.data.phantom import draw_phantom
from medvae.engine.events import EpochEnded, RunStarted
from medvae.workspace import PROJECT, Workspace
from ui.app import build_context
from ui.train_tab import follow_run

TURNS, WARM_UP = 10, 2
MODEL = ("data.phantoms=200", "training.epochs=1")
MANY = 100  # images in one go
EPOCHS = 500
TABS = 10  # of one browser
IDLE = 30.0  # seconds
PATIENCE = 120_000  # milliseconds
REST = 500  # milliseconds between two drops, as of a person: a drop empties the drop zone first
ALL_SHOWN = """(count) => {
    const images = [...document.querySelectorAll("#results .results:not([data-old]) .card img")];
    return images.length === 3 * count && images.every((image) => image.complete);
}"""
# From the event to the frame that shows the new verdicts.
MOVE_SLIDER = """(percents) => new Promise((done) => {
    const slider = document.querySelector("#target-fpr");
    const began = performance.now();
    slider.value = percents;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    requestAnimationFrame(() => setTimeout(() => done((performance.now() - began) / 1000)));
})"""


@dataclass(frozen=True)
class Figure:
    """What was measured, in seconds (or a share), and what it may be."""

    what: str
    value: float
    limit: float
    unit: str = "s"

    @property
    def line(self) -> str:
        verdict = "" if self.value <= self.limit else "  OVER"
        return f"{self.what:<58}{self.value:>9.3f} {self.unit}  (≤ {self.limit:g}){verdict}"


def median(measure: Callable[[int], float]) -> float:
    """Of TURNS turns, after WARM_UP turns that do not count."""
    return statistics.median([measure(turn) for turn in range(WARM_UP + TURNS)][WARM_UP:])


def page_interactive(context: BrowserContext, url: str, turn: int) -> float:
    """From the request to a page that says which model looks and whose buttons act."""
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("#chips .chip").first.wait_for()
    page.get_by_role("button", name="Show test images").click(trial=True)
    seconds = time.perf_counter() - began
    page.close()
    return seconds


def files_to_heatmaps(page: Page, files: list[Path], number: int, turn: int) -> float:
    """From the drop to every picture of every card drawn; other results in each turn."""
    dropped = [files[(turn + index) % len(files)] for index in range(number)]
    page.evaluate("document.querySelector('#results .results')?.setAttribute('data-old', '')")
    page.get_by_text("Click to Upload").wait_for()
    page.wait_for_timeout(REST)
    began = time.perf_counter()
    page.locator("#upload input[type=file]").set_input_files(dropped)
    page.wait_for_function(ALL_SHOWN, arg=number, polling=20, timeout=PATIENCE)
    return time.perf_counter() - began


def slider_to_verdicts(page: Page, turn: int) -> float:
    return float(page.evaluate(MOVE_SLIDER, 2 + turn))


def tick_of_long_run(home: Path) -> float:
    """One look of the Train tab at a run that has just ended its next epoch, all redrawn."""
    workspace = Workspace(home)
    with (
        closing(JobService(workspace)) as service,
        closing(Store(database_url(workspace))) as store,
    ):
        job = service.submit(Config())
        store.claim("benchmark", 600, job)
        store.extend_lease(job, 1, 600, [RunStarted("cpu", "fp32", 1000, 99, 12, 600, 5, 0)])
        store.extend_lease(job, 1, 600, [_epoch(number) for number in range(1, EPOCHS + 1)])
        context = build_context(workspace, service)

        def tick(turn: int) -> float:
            store.extend_lease(job, 1, 600, [_epoch(EPOCHS + 1 + turn)])
            began = time.perf_counter()
            follow_run(context, job, False, False, "")
            return time.perf_counter() - began

        try:
            return median(tick)
        finally:
            context.sandbox.close()
            service.stop(job)
            store.release(job, 1)


def _epoch(number: int) -> EpochEnded:
    return EpochEnded(number, 600, 3.0 / number, 1.0, 2.0, 2.0, 0.5, 1.5, True, 4.0, 10.0)


def idle_share(page: Page, url: str, pid: int) -> float:
    """Share of a core that the server takes while one page is open and nobody does anything."""
    page.goto(url)
    page.locator("#chips .chip").first.wait_for()
    time.sleep(5)
    before, began = cpu_seconds(pid), time.perf_counter()
    time.sleep(IDLE)
    return (cpu_seconds(pid) - before) / (time.perf_counter() - began)


def cpu_seconds(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    told = subprocess.check_output(["ps", "-o", "cputime=", "-p", str(pid)], text=True)
    *minutes, seconds = told.strip().split(":")
    return 60 * int(minutes[-1]) + float(seconds)


def draw_scans(folder: Path) -> list[Path]:
    folder.mkdir()
    files = [folder / f"scan{number:03d}.png" for number in range(MANY)]
    for number, file in enumerate(files):
        Image.fromarray(draw_phantom(number, None, 512).image).save(file)
    return files


def start(home: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """A page with a worker on a model of the default size; returns when it answers."""
    environment = {**os.environ, "MEDVAE_HOME": str(home)}
    settings = [part for setting in MODEL for part in ("--set", setting)]
    train = [sys.executable, "main.py", "train", *settings]
    subprocess.run(train, cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL)
    # One browser plays many visitors; its quota is not what is measured.
    (home / "limits.yaml").write_text("session_files: 1000000\nsession_mb: 1000000\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = subprocess.Popen(
        [sys.executable, "main.py", "--port", str(port), "--no-demo"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/"
    while page.poll() is None:
        try:
            urllib.request.urlopen(f"{url}readyz", timeout=2).close()
            return page, url
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the page did not start")


def measure(home: Path, url: str, pid: int) -> list[Figure]:
    files = draw_scans(home / "scans")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        opening = median(partial(page_interactive, context, url))
        others = [context.new_page() for _ in range(TABS - 1)]
        for other in others:
            other.goto(url)
        crowded = median(partial(page_interactive, context, url))
        for other in others:
            other.close()
        page = context.new_page()
        page.goto(url)
        expect(page.locator("html[data-settled]")).to_be_attached()
        expect(page.locator("#intro .notice")).to_contain_text("Drop a chest X-ray")
        one = median(partial(files_to_heatmaps, page, files, 1))
        many = median(partial(files_to_heatmaps, page, files, MANY))
        slider = median(partial(slider_to_verdicts, page))
        idle = idle_share(page, url, pid)
        browser.close()
    return [
        Figure("page interactive", opening, 2.0),
        Figure(f"the same with {TABS - 1} other tabs open", crowded, 2.0),
        Figure("one image dropped, heatmap shown", one, 0.7),
        Figure(f"{MANY} images dropped, all heatmaps shown", many, 8.0),
        Figure(f"slider moved, verdicts of {MANY} cards new", slider, 0.2),
        Figure(f"tick of a run of {EPOCHS} epochs, on the server", tick_of_long_run(home), 0.03),
        Figure("server while one page is open and idle", idle, 0.01, "of a core"),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        page, url = start(home)
        try:
            figures = measure(home, url, page.pid)
        finally:
            page.send_signal(signal.SIGINT)
            page.wait(30)
    for figure in figures:
        print(figure.line)
    sys.exit(any(figure.value > figure.limit for figure in figures))


if __name__ == "__main__":
    main()
