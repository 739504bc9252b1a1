"""Seconds until the terminal answers, the page is served and a worker takes jobs."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from medvae.workspace import PROJECT

TURNS = 3
MAIN = [sys.executable, str(PROJECT / "main.py")]


def help_text() -> None:
    subprocess.run([*MAIN, "--help"], check=True, stdout=subprocess.DEVNULL)


def page() -> None:
    """Until the first answer to a browser's request."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _Started(["--port", str(port), "--no-demo", "--device", "none"]):
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)


def worker() -> None:
    """Until it says that it is ready."""
    with _Started(["worker"]) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"is ready" in line:
                return
        raise RuntimeError("the worker ended before it was ready")


class _Started:
    """The program in a home of its own, ended on leaving."""

    def __init__(self, arguments: list[str]) -> None:
        self._home = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [*MAIN, *arguments],
            cwd=PROJECT,
            env={**os.environ, "MEDVAE_HOME": self._home.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self._process

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.communicate()
        self._home.cleanup()


def measure() -> dict[str, float]:
    def seconds(act: Callable[[], None]) -> float:
        times = []
        for _ in range(TURNS):
            begun = time.perf_counter()
            act()
            times.append(time.perf_counter() - begun)
        return statistics.median(times)

    return {
        "main.py --help, s": seconds(help_text),
        "page served, s": seconds(page),
        "worker ready, s": seconds(worker),
    }
