"""The page as a whole: assembles head and tabs, opens it on a port, and keeps a worker beside it.

No logic of its own: what the tabs do is in their modules.
"""

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from jobs.launcher import WorkerProcess, stop_workers, worker_commands
from jobs.service import JobService
from medvae.config import Config
from medvae.data.catalog import find_images
from medvae.data.sandbox import Sandbox
from medvae.data.sources import resolve_root
from medvae.errors import MedVAEError
from medvae.limits import Limits
from medvae.workspace import Workspace
from ui.access import OPERATOR, Access, open_access
from ui.api import build_api
from ui.context import Context, tells
from ui.data_tab import build_data_tab
from ui.detect_tab import build_detect_tab
from ui.gate import Gate
from ui.header import build_header
from ui.history import Histories
from ui.models import ActiveModel
from ui.neighbours import Neighbours
from ui.places import Place
from ui.quota import LOOK_SECONDS
from ui.results import RecentResults
from ui.runs_tab import build_runs_tab
from ui.theme import SCRIPTS, STYLE, build_theme
from ui.train_tab import build_train_tab

logger = logging.getLogger(__name__)

TITLE = "MED-ANOMALY-VAE"
QUEUE_REST = 0.05  # seconds, as on Windows; with 0.001 an idle page takes 5 % of a core
DEMO = "Demo on phantoms"


def build_context(
    workspace: Workspace,
    service: JobService,
    worker: WorkerProcess | None = None,
    data: str | None = None,
    access: Access | None = None,
) -> Context:
    """What all pages share."""
    return Context(
        workspace,
        service,
        ActiveModel(workspace),
        Histories(service),
        RecentResults(),
        Neighbours(workspace),
        Sandbox(),
        access or Access(),
        worker,
        data,
    )


def build_app(context: Context) -> gr.Blocks:
    """The page: head, four tabs, and the URL that says where one is."""
    # Read when a component is made, and again when the page is launched.
    os.environ["GRADIO_TEMP_DIR"] = str(context.workspace.uploads)
    kept = Limits.current().upload_seconds
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(LOOK_SECONDS, kept), fill_width=True
    ) as page:
        build_header(context, page)
        run = gr.Textbox("", visible=False)
        others = gr.Textbox("", visible=False)
        origin = gr.Textbox("", visible=False)
        images = gr.Textbox("", visible=False)
        query = gr.Textbox("", visible=False)
        follow = gr.Button(elem_id="follow-url", visible="hidden")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Detect", id="detect") as detect:
                build_detect_tab(context, page, detect)
            with gr.Tab("Train", id="train") as train:
                build_train_tab(context, page, train, run, origin)
            with gr.Tab("Runs", id="runs") as runs:
                build_runs_tab(context, runs, run, others)
            with gr.Tab("Data", id="data") as data:
                build_data_tab(context, data, images)
        build_api(context)
        route: dict[str, Any] = {
            "fn": go_to,
            "inputs": query,
            "outputs": [tabs, run, others, origin, images],
            "js": "medvae.query",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        settle: dict[str, Any] = {"js": "medvae.settle", "show_progress": "hidden"}
        page.load(**route).then(None, **settle)
        page.load(None, js="medvae.restoreTheme")
        follow.click(**route).then(None, **settle)
    _answer_at_once(page)
    return page


def _answer_at_once(page: gr.Blocks) -> None:
    """Let only what may fail with a message wait in Gradio's queue; the rest passes it.

    The message of an event that passed the queue is never shown. A queued one needs a stream of
    its own from the browser, which is too much for what the page asks every second.
    """
    for event in page.fns.values():
        if event.api_visibility == "private":
            event.queue = tells(event.fn)


def go_to(query: str) -> tuple[gr.Tabs, str, str, str, str]:
    """Bring the page to the place that the URL names."""
    place = Place.parse(query)
    tabs = gr.Tabs(selected=place.tab)
    return tabs, place.run, ",".join(place.others), place.origin, place.images


def launch_page(
    context: Context, page: gr.Blocks, host: str, port: int, share: bool = False
) -> str:
    """Open the page and return its address; serves from a thread of its own until closed.

    Uploads go into a folder of the workspace that nobody else may read. Raises `MedVAEError` when
    the port is taken. Without a way to the outside, `share` only says so.
    """
    _refuse_taken_port(host, port)
    uploads = context.workspace.uploads
    wipe(uploads)
    uploads.mkdir(parents=True, mode=0o700)
    page._queue.sleep_when_free = QUEUE_REST
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        theme=build_theme(),
        css_paths=[STYLE],
        head="".join(f"<script>{each.read_text(encoding='utf-8')}</script>" for each in SCRIPTS),
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        max_file_size=f"{Limits.current().upload_mb}mb",
        enable_monitoring=False,
        ssr_mode=False,
        app_kwargs={
            "routes": [
                Route("/healthz", _healthz),
                Route("/readyz", partial(_readyz, context)),
            ],
            "middleware": [Middleware(Gate, access=context.access, uploads=uploads)],
        },
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
    operators: list[str] | None = None,
    viewers: list[str] | None = None,
    on_open: Callable[[str], None] = lambda address: None,
) -> None:
    """Run page and workers until SIGINT or SIGTERM, then end all; a second one does not wait for
    the jobs to save themselves. Raises `MedVAEError`.

    devices: a comma list with a worker for each; `none` when the workers run elsewhere.
    operators, viewers: accounts as NAME:PASSWORD; without any, one is made where the page can be
    reached from elsewhere. on_open: told the page's address.
    """
    commands = worker_commands(devices)
    config = first_run(workspace, data)
    access, invented = open_access(workspace, host, share, operators, viewers)
    service = JobService(workspace)
    workers = [WorkerProcess(command, on_death=service.worker_died) for command in commands]
    first = workers[0] if workers else None
    context = build_context(workspace, service, first, config.data.root, access)
    page = build_app(context)
    over, hurry = threading.Event(), threading.Event()
    before = {
        number: signal.signal(number, lambda *_: (hurry if over.is_set() else over).set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        address = launch_page(context, page, host, port, share)
        on_open(address)
        for worker in workers:
            worker.start()
        context.model.warm_up()
        context.sandbox.warm_up()
        service.recover()
        if (demo or data) and is_first_start(workspace, service):
            service.submit(config, name=None if data else DEMO)
        print(f"{TITLE} is at {address} (Ctrl-C ends it)", flush=True)
        if invented:
            print(f"sign in as {OPERATOR} with the password {invented}", flush=True)
        while not over.wait(0.5):
            pass
    finally:
        over.set()  # also after an error: from here on a signal means to hurry
        stop_workers(workers, hurry=hurry.is_set)
        page.close(verbose=False)
        context.sandbox.close()
        service.close()
        access.audit.close()
        wipe(workspace.uploads)
        for number, handler in before.items():
            signal.signal(number, handler)
    print("stopped", flush=True)


def first_run(workspace: Workspace, data: str | None) -> Config:
    """What is trained at the first start. Raises `MedVAEError` when `data` is no data set."""
    if data is None:
        return Config.load("quick")
    config = Config.load("default").override({"data.root": data})
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


def wipe(uploads: Path) -> None:
    """Remove what visitors uploaded."""
    shutil.rmtree(uploads, ignore_errors=True)


async def _healthz(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _readyz(context: Context, request: Request) -> JSONResponse:
    """Whether a job could be taken: the job table answers."""
    try:
        await anyio.to_thread.run_sync(lambda: context.service.jobs(limit=1))
    except MedVAEError:
        return JSONResponse({"status": "the job table does not answer"}, 503)
    return JSONResponse({"status": "ok"})
