"""The page as a whole: assembles head and tabs, opens it on a port, and keeps a worker beside it.

No logic of its own: what the tabs do is in their modules.
"""

import logging
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jobs.launcher import WorkerProcess, worker_commands
from jobs.service import JobService
from medvae.config import Config
from medvae.data.catalog import find_images
from medvae.data.sources import resolve_root
from medvae.errors import MedVAEError
from medvae.workspace import Workspace
from ui.context import Context
from ui.detect_tab import build_detect_tab
from ui.header import build_header
from ui.history import Histories
from ui.models import ActiveModel
from ui.places import Place
from ui.results import RecentResults
from ui.runs_tab import build_runs_tab
from ui.theme import SCRIPT, STYLE, build_theme
from ui.train_tab import build_train_tab

logger = logging.getLogger(__name__)

TITLE = "MED-ANOMALY-VAE"
LARGEST_UPLOAD = "200mb"  # a file
UPLOADS_KEPT = (600, 600)  # seconds: how often is looked for forgotten uploads, and their age
QUEUE_REST = 0.05  # seconds, as on Windows; with 0.001 an idle page takes 5 % of a core
LOCAL_NAMES = ("localhost", "127.0.0.1", "*.gradio.live")
DEMO = "Demo on phantoms"


def build_context(
    workspace: Workspace,
    service: JobService,
    worker: WorkerProcess | None = None,
    data: str | None = None,
) -> Context:
    """What all pages share."""
    model = ActiveModel(workspace)
    return Context(workspace, service, model, Histories(service), RecentResults(), worker, data)


def build_app(context: Context) -> gr.Blocks:
    """The page: head, three tabs, and the URL that says where one is."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=UPLOADS_KEPT, fill_width=True
    ) as page:
        build_header(context)
        run = gr.Textbox("", visible=False)
        query = gr.Textbox("", visible=False)
        follow = gr.Button(elem_id="follow-url", visible="hidden")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Detect", id="detect") as detect:
                build_detect_tab(context, detect)
            with gr.Tab("Train", id="train") as train:
                build_train_tab(context, page, train, run)
            with gr.Tab("Runs", id="runs") as runs:
                build_runs_tab(context, runs, run)
        route: dict[str, Any] = {
            "fn": go_to,
            "inputs": query,
            "outputs": [tabs, run],
            "js": "medvae.query",
            "queue": False,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        page.load(**route)
        page.load(None, js="medvae.restoreTheme")
        follow.click(**route)
    return page


def go_to(query: str) -> tuple[gr.Tabs, str]:
    """Bring the page to the place that the URL names."""
    place = Place.parse(query)
    return gr.Tabs(selected=place.tab), place.run


def launch_page(page: gr.Blocks, host: str, port: int, share: bool = False) -> str:
    """Open the page and return its address; serves from a thread of its own until closed.

    Raises `MedVAEError` when the port is taken. Without a way to the outside, `share` only says so.
    """
    _refuse_taken_port(host, port)
    page._queue.sleep_when_free = QUEUE_REST
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        theme=build_theme(),
        css_paths=[STYLE],
        head=f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=LARGEST_UPLOAD,
        enable_monitoring=False,
        ssr_mode=False,
        app_kwargs={"routes": [Route("/healthz", _healthz)], "middleware": _guards(host)},
    )
    if share and not page.share_url:
        logger.warning("no public link could be made: the page is only at its local address")
    return page.share_url or str(page.local_url)


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    data: str | None = None,
    demo: bool = True,
    devices: str | None = None,
    on_open: Callable[[str], None] = lambda address: None,
) -> None:
    """Run page and workers until SIGINT or SIGTERM, then end all. Raises `MedVAEError`.

    devices: a comma list with a worker for each; `none` when the workers run elsewhere.
    on_open: told the page's address.
    """
    commands = worker_commands(devices)
    config = first_run(workspace, data)
    service = JobService(workspace)
    workers = [WorkerProcess(command, on_death=service.worker_died) for command in commands]
    context = build_context(workspace, service, workers[0] if workers else None, config.data.root)
    page = build_app(context)
    over = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: over.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        address = launch_page(page, host, port, share)
        on_open(address)
        for worker in workers:
            worker.start()
        context.model.warm_up()
        service.recover()
        if (demo or data) and is_first_start(workspace, service):
            service.submit(config, name=None if data else DEMO)
        print(f"{TITLE} is at {address} (Ctrl-C ends it)", flush=True)
        while not over.wait(0.5):
            pass
    finally:
        for worker in workers:
            worker.stop()
        page.close(verbose=False)
        service.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    print("stopped", flush=True)


def first_run(workspace: Workspace, data: str | None) -> Config:
    """What is trained at the first start. Raises `MedVAEError` when `data` is no data set."""
    if data is None:
        return Config.load("quick")
    root = str(Path(data).expanduser().resolve())  # the worker has another working directory
    config = Config.load("default").override({"data.root": root})
    find_images(config.data, resolve_root(config.data, workspace, lambda *_: None))
    return config


def is_first_start(workspace: Workspace, service: JobService) -> bool:
    return not workspace.promoted.exists() and not service.jobs(limit=1)


def _refuse_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MedVAEError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port"
            ) from None


def _guards(host: str) -> list[Middleware]:
    """A page for this machine answers only to its names, so that no other site can reach it."""
    if host not in ("127.0.0.1", "localhost"):
        return []
    return [Middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL_NAMES))]


async def _healthz(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})
