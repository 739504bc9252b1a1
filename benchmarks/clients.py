"""Many visitors who detect at the same time, and what is left when they have gone.

    python -m benchmarks.clients [--clients 50] [--seconds 120]

Starts `python main.py` in a home of its own with a quick model, lets every client upload a drawn
X-ray and ask for its result over and over, and reports errors, latencies, memory and disk.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from medvae.data.phantom import draw_phantom
from medvae.workspace import PROJECT

MODEL = ("data.phantoms=60", "data.validation_fraction=0.3", "model.image_size=128",
         "training.epochs=1", "model.width=16")  # fmt: skip
WARM = 40.0  # seconds in which model, sandbox and the results that are kept fill up
REST = 5.0  # seconds after the last client before the page is looked at
PATIENCE = 120.0


@dataclass
class Report:
    """What all clients saw."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Client:
    """One browser's worth of requests: upload, join the queue, wait for the result."""

    def __init__(self, http: httpx.AsyncClient, handler: dict[str, Any], scan: bytes) -> None:
        self._http = http
        self._handler = handler
        self._scan = scan
        self._session = uuid.uuid4().hex[:10]

    async def detect(self) -> None:
        """Raises `RuntimeError` for anything but a card with a verdict."""
        answer = await self._http.post("gradio_api/upload", files={"files": ("x.png", self._scan)})
        answer.raise_for_status()
        [path] = answer.json()
        file = {"path": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
        event = {
            "data": [[file], *[None] * (len(self._handler["inputs"]) - 1)],
            "fn_index": self._handler["id"],
            "session_hash": self._session,
        }
        (await self._http.post("gradio_api/queue/join", json=event)).raise_for_status()
        url = f"gradio_api/queue/data?session_hash={self._session}"
        async with self._http.stream("GET", url) as stream:
            async for line in stream.aiter_lines():
                said = json.loads(line[5:]) if line.startswith("data:") else {}
                if said.get("msg") == "process_completed":
                    text = json.dumps(said["output"])
                    if not said["success"] or "<article" not in text or "not be read" in text:
                        raise RuntimeError(text[:200])
                    return
        raise RuntimeError("the stream ended without a result")


async def visit(address: str, clients: int, seconds: float) -> Report:
    report, until = Report(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=limits) as http:
        config = (await http.get("config")).json()
        handler = next(d for d in config["dependencies"] if d["targets"] == upload_target(config))

        async def come(number: int) -> None:
            buffer = io.BytesIO()
            Image.fromarray(draw_phantom(number, None, 512).image).save(buffer, "PNG")
            client = Client(http, handler, buffer.getvalue())
            while time.monotonic() < until:
                began = time.monotonic()
                try:
                    await client.detect()
                    report.latencies.append(time.monotonic() - began)
                except (httpx.HTTPError, RuntimeError) as error:
                    report.errors.append(repr(error))

        await asyncio.gather(*(come(number) for number in range(clients)))
    return report


def upload_target(config: dict[str, Any]) -> list[list[Any]]:
    """What the handler of the upload box listens to."""
    box = next(c for c in config["components"] if c["props"].get("elem_id") == "upload")
    return [[box["id"], "upload"]]


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
    ).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()]
    family, total = {pid}, 0
    for _ in range(3):
        family |= {child for child, parent, _ in rows if parent in family}
    for child, _, rss in rows:
        total += rss if child in family else 0
    return total / 1024


def start(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    environment = {**os.environ, "MEDVAE_HOME": str(home)}
    program = [sys.executable, "main.py"]
    settings = [part for setting in MODEL for part in ("--set", setting)]
    subprocess.run(
        [*program, "train", *settings], cwd=PROJECT, env=environment, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    # All clients come from one address here, and are one visitor to the quota.
    (home / "limits.yaml").write_text("session_files: 1000000\nsession_mb: 1000000\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = subprocess.Popen(
        [*program, "--port", str(port), "--no-demo"], cwd=PROJECT, env=environment,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}readyz", timeout=2).status_code == 200:
                return page, address
        except httpx.TransportError:
            time.sleep(0.2)
    page.kill()
    raise RuntimeError("the page did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        page, address = start(home)
        try:
            asyncio.run(
                visit(address, options.clients, WARM)
            )  # torch, model, sandbox, kept results
            before = memory_mb(page.pid)
            report = asyncio.run(visit(address, options.clients, options.seconds))
            peak = memory_mb(page.pid)
            time.sleep(REST)
            after = memory_mb(page.pid)
            uploads = [f.stat().st_size for f in (home / "data/uploads").rglob("*") if f.is_file()]
            from jobs.service import JobService

            os.environ["MEDVAE_HOME"] = str(home)
            from medvae.workspace import Workspace

            service = JobService(Workspace.current())
            workers = [worker.alive for worker in service.workers()]
            service.close()
        finally:
            page.send_signal(signal.SIGINT)
            page.wait(60)
    ordered = sorted(report.latencies)
    print(
        f"{options.clients} clients for {options.seconds:.0f} s: {len(ordered)} detections, "
        f"{len(report.errors)} errors, median {statistics.median(ordered):.2f} s, "
        f"p95 {ordered[int(0.95 * len(ordered))]:.2f} s\n"
        f"memory of page, worker and sandbox: {before:.0f} MB warm, {peak:.0f} MB at the end, "
        f"{after:.0f} MB {REST:.0f} s later; "
        f"{sum(uploads) / 2**20:.0f} MB of uploads, which go by their age; workers alive: {workers}"
    )
    for error in report.errors[:5]:
        print(f"  {error}")
    sys.exit(bool(report.errors))


if __name__ == "__main__":
    main()
