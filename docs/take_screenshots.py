"""Takes the pictures in docs/images from a real page, on phantoms alone: no patient is shown.

make screenshots
"""

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

from playwright.sync_api import Page, expect, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = PROJECT / "docs" / "images"
WIDE = {"width": 1440, "height": 1000}
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
            walk(page, url)
            browser.close()
            [card] = Path(home).glob("checkpoints/*/report_card.png")
            shutil.copy(card, IMAGES / "report_card.png")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def walk(page: Page, url: str) -> None:
    """First start, training, detection, runs."""
    page.goto(url)
    expect(page.get_by_role("tab", name="Detect")).to_be_visible()
    page.wait_for_timeout(3000)
    shoot(page, "first_start")
    page.goto(f"{url}?tab=train")
    expect(page.locator("#run-status")).to_contain_text(re.compile("poch (1[0-9]|2[0-9])"))
    shoot(page, "train")
    expect(page.locator("#run-status")).to_contain_text(re.compile("finished", re.I))
    page.goto(f"{url}?tab=detect")
    page.get_by_role("button", name="Show test images").click()
    expect(page.locator("#results .card")).to_have_count(6)
    shoot(page, "detect")
    page.goto(f"{url}?tab=runs")
    expect(page.locator("#runs")).to_contain_text(re.compile("finished", re.I))
    page.wait_for_timeout(2000)
    shoot(page, "runs")


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
