"""Takes the pictures in docs/images from a real page, on phantoms alone: no patient is shown.

make screenshots
"""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = PROJECT / "docs" / "images"
TOUR_WIDTH = 1080
WIDE = {"width": 1440, "height": 1000}
NARROW = {"width": 390, "height": 844}
expect.set_options(timeout=240_000)


def main() -> None:
    """Start at nothing, as a new user does, and picture each step on the way."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        url, process = start(Path(home))
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_context(viewport=WIDE, color_scheme="dark").new_page()  # type: ignore[arg-type]
            tour = Tour()
            walk(page, url, tour)
            tour.save(IMAGES / "tour.webp")
            [card] = Path(home).glob("checkpoints/*/report_card.png")
            shutil.copy(card, IMAGES / "report_card.png")
            look_at_data(page, url)
            on_a_phone(browser, url)
            compare_runs(page, url)
            browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def walk(page: Page, url: str, tour: "Tour") -> None:
    """First start, training, detection, runs: what the tour shows."""
    visit(page, url)
    expect(page.get_by_role("tab", name="Detect")).to_be_visible()
    page.wait_for_timeout(3000)
    shoot(page, "first_start")
    tour.hold(page, 2.5)
    visit(page, f"{url}?tab=train")
    for epoch in (3, 8, 14):
        expect(page.locator("#run-status")).to_contain_text(at_least(epoch))
        tour.hold(page, 1.2)
    shoot(page, "train")
    expect(page.locator("#run-status")).to_contain_text(re.compile("finished", re.I))
    tour.hold(page, 1.5)
    visit(page, f"{url}?tab=detect")
    page.get_by_role("button", name="Show test images").click()
    expect(page.locator("#results .card")).to_have_count(6)
    shoot(page, "detect")
    tour.hold(page, 2.5)
    for percents in ("10", "20"):
        page.locator("#target-fpr").fill(percents)
        tour.hold(page, 0.8)
    page.locator("#results .card.unusual .triptych").first.click()
    expect(page.locator("#viewer .likes img")).to_have_count(3)
    for split in ("100", "80", "60", "40", "62"):
        page.locator("#view-split").fill(split)
        tour.hold(page, 0.7)
    shoot(page, "viewer")
    tour.hold(page, 1.5)
    visit(page, f"{url}?tab=runs")
    page.locator("#runs-table a").first.click()
    expect(page.locator("#run-figures")).to_contain_text("trivial baselines")
    shoot(page, "runs")
    tour.hold(page, 3)


def visit(page: Page, url: str) -> None:
    """Open a place of the page, and wait until it takes input."""
    page.goto(url)
    expect(page.locator("html[data-settled]")).to_be_attached()


def look_at_data(page: Page, url: str) -> None:
    visit(page, f"{url}?tab=data")
    page.get_by_role("button", name="Draw phantoms").click()
    expect(page.locator("#set-details img")).to_have_count(4)
    shoot(page, "data")


def compare_runs(page: Page, url: str) -> None:
    """A second, shorter training, laid beside the first."""
    visit(page, f"{url}?tab=runs")
    page.locator("#runs-table a", has_text="Demo").click()
    page.get_by_role("link", name="Train with these settings").click()
    expect(page.locator("#setting-training-epochs input")).to_have_value("30")
    page.locator("#setting-loss-beta input").fill("4")
    page.locator("#setting-training-epochs input").fill("2")
    page.get_by_role("button", name="Queue training").click()
    status = page.locator("#run-status .badge")
    expect(status).not_to_have_text("finished")  # the new one is shown
    expect(status).to_have_text("finished")
    visit(page, f"{url}?tab=runs")
    page.locator("#runs-table a").first.click()
    page.get_by_role("link", name="compare").click()
    expect(page.locator("#comparison svg")).to_have_count(3)
    shoot(page, "compare")


def on_a_phone(browser: Browser, url: str) -> None:
    """Results and runs on a narrow screen, side by side in one picture."""
    page = browser.new_context(viewport=NARROW, color_scheme="light", has_touch=True).new_page()  # type: ignore[arg-type]
    visit(page, url)
    page.get_by_role("button", name="Show test images").click()
    expect(page.locator("#results .card")).to_have_count(6)
    shots = []
    for place in ("#results .cards", "#viewer dialog", "#runs-table"):
        if place.startswith("#viewer"):
            page.locator("#results .card.unusual .triptych").first.click()
            expect(page.locator("#viewer .likes img")).to_have_count(3)
        elif place == "#runs-table":
            visit(page, f"{url}?tab=runs")
        page.locator(place).wait_for()
        page.locator(place).evaluate("(shown) => shown.scrollIntoView()")
        page.wait_for_timeout(800)
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            shots.append(shot.convert("RGB"))
    gap = 24
    width = sum(shot.width + gap for shot in shots) - gap
    joined = Image.new("RGB", (width, shots[0].height), "white")
    for n, shot in enumerate(shots):
        joined.paste(shot, (n * (shot.width + gap), 0))
    joined.save(IMAGES / "phone.png")
    print(f"wrote {IMAGES / 'phone.png'}", flush=True)


def at_least(epoch: int) -> re.Pattern[str]:
    """The words that say that so many epochs, or all, are done."""
    later = "|".join(str(number) for number in range(epoch, 100))
    return re.compile(rf"poch ({later}) of|finished", re.I)


class Tour:
    """Pictures of the walk, each shown for a while, as one animated WebP."""

    def __init__(self) -> None:
        self._frames: list[Image.Image] = []
        self._milliseconds: list[int] = []

    def hold(self, page: Page, seconds: float) -> None:
        page.wait_for_timeout(300)
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            height = round(shot.height * TOUR_WIDTH / shot.width)
            self._frames.append(shot.convert("RGB").resize((TOUR_WIDTH, height)))
        self._milliseconds.append(round(1000 * seconds))

    def save(self, path: Path) -> None:
        first, *others = self._frames
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=self._milliseconds,
            loop=0,
            quality=70,
        )
        print(f"wrote {path}, {path.stat().st_size / 2**20:.1f} MB", flush=True)


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(800)
    page.screenshot(path=IMAGES / f"{name}.png")
    print(f"wrote {IMAGES / name}.png", flush=True)


def start(home: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    """A page of its own on a free port; returns when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "main.py", "--port", str(port)],
        cwd=PROJECT,
        env={**os.environ, "MEDVAE_HOME": str(home)},
    )
    url = f"http://127.0.0.1:{port}/"
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}healthz", timeout=2).close()
            return url, process
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the page did not start")


if __name__ == "__main__":
    main()
