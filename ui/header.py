"""The head of the page: what it is, which model looks, on which device, what the worker does."""

import time
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.views import Status, WorkerView
from medvae.errors import JobError
from ui.context import Context
from ui.meanings import BUSY
from ui.models import ModelView
from ui.places import Place
from ui.plots import short
from ui.theme import canvas
from ui.views import NOTICE, clock, count, link, percent

PERIOD = 4.0  # seconds between two looks
RESTART_SHOWN = 600.0  # seconds for which the page tells that the worker died
STARTING = 20.0  # seconds that a worker may take to give its first sign of life

BRAND = f"""
<div class="brand">
  <h1>MED-ANOMALY-VAE</h1>
  <p>Learns healthy chest X-rays, shows where another one differs.</p>
  <p><strong>{NOTICE}.</strong></p>
</div>
"""
THEME_SWITCH = (
    '<button type="button" class="chip" data-theme-switch title="Switch between light and dark">'
    "Light / dark</button>"
)
SIGN_OUT = '<a class="chip" href="/logout">Sign out</a>'


def build_header(context: Context, page: gr.Blocks) -> None:
    """The brand at the left, the live chips at the right."""
    with gr.Row(elem_id="header"):
        canvas(BRAND, elem_id="brand")
        chips = canvas(elem_id="chips")
    seen = gr.Textbox("", visible=False)
    live: dict[str, Any] = {
        "fn": partial(refresh_chips, context),
        "inputs": seen,
        "outputs": [chips, seen],
        "show_progress": "hidden",
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    page.load(**live)
    gr.Timer(PERIOD).tick(**live)


def refresh_chips(context: Context, seen: str) -> object:
    """New chips and their token, or a skip when nothing has changed."""
    drawn = draw_chips(context)
    token = str(hash(drawn))
    return gr.skip() if token == seen else (drawn, token)


def draw_chips(context: Context) -> str:
    view = context.model.look()
    return (
        '<div class="chips">'
        + model_chip(view)
        + device_chip(context.model.device or view.device, _busy(context))
        + worker_chip(*_worker_state(context))
        + THEME_SWITCH
        + (SIGN_OUT if context.access.accounts else "")
        + "</div>"
    )


def model_chip(view: ModelView) -> str:
    if view.status == "absent":
        return chip("off", "No model yet", "Train one on the Train tab")
    if view.status == "loading":
        return chip("busy", "Loading model", "The model file is new or has changed")
    if view.status == "damaged":
        return chip("bad", "Model damaged", view.message)
    figures = f"threshold {short(view.threshold)}"
    if view.metrics:
        auroc = view.metrics["auroc"][view.metrics["score"]]["value"]
        figures = f"AUROC {auroc:.2f}, {figures}"
    meaning = (
        "The model that the Detect tab uses. AUROC: chance that it scores a sick test image above "
        "a healthy one (0.5 is guessing, 1 is perfect). Threshold: images that score above it "
        f"are called unusual; {percent(view.target_fpr)} of healthy images are, by mistake."
    )
    name = link(Place("runs", view.run), view.run)
    return (
        f'<span class="chip" title="{escape(meaning)}" tabindex="0"><i class="dot ok"></i>'
        f"<span>Model {name} <small>{escape(figures)}</small></span></span>"
    )


def device_chip(device: str, busy: float | None) -> str:
    meaning = "What this machine computes on: Apple GPU, NVIDIA GPU or processor"
    if busy is None:
        return chip("", device or "Device …", meaning)
    meaning += f". The training that runs: {BUSY[:1].lower()}{BUSY[1:]}."
    return chip("busy", f"{device or 'Device …'}, {percent(round(busy, 2))} busy", meaning)


def _busy(context: Context) -> float | None:
    """How busy the device of the running training is, where that is known."""
    try:
        names = [worker.job for worker in context.service.workers() if worker.busy]
        jobs = [context.service.job(name) for name in names if name]
    except JobError:  # deleted in between, or the table is away, which the worker chip says
        return None
    told = [context.histories.of(job).progress for job in jobs if job.status is Status.RUNNING]
    return next((now.busy for now in told if now and now.busy is not None), None)


def worker_chip(style: str, text: str, meaning: str) -> str:
    return chip(style, text, meaning, elem_id="worker-chip")


def chip(style: str, text: str, meaning: str, elem_id: str = "") -> str:
    """`style`: ok, busy, off or bad; empty for no dot."""
    dot = f'<i class="dot {style}"></i>' if style else ""
    identity = f' id="{elem_id}"' if elem_id else ""
    return (
        f'<span class="chip"{identity} title="{escape(meaning)}" tabindex="0">{dot}'
        f"{escape(text)}</span>"
    )


def _worker_state(context: Context) -> tuple[str, str, str]:
    """Style, text and meaning of the worker chip."""
    try:
        return _worker_now(context)
    except StoreUnavailable as error:
        return "bad", "Job table does not answer", str(error)


def _worker_now(context: Context) -> tuple[str, str, str]:
    alive = [worker for worker in context.service.workers() if worker.alive]
    waiting = context.service.waiting()
    restarted = _restart_note(context)
    if not alive:
        return _offline(context, waiting, restarted)
    style, text = _work_in_hand(alive, waiting)
    meaning = f"{count(len(alive), 'worker')}, {count(waiting, 'job')} waiting"
    return ("bad" if restarted else style), text + restarted, meaning


def _work_in_hand(alive: list[WorkerView], waiting: int) -> tuple[str, str]:
    busy = sum(worker.busy for worker in alive)
    if busy:
        return "busy", f"Worker running {busy} of {busy + waiting}"
    return "ok", "Worker idle"


def _offline(context: Context, waiting: int, restarted: str) -> tuple[str, str, str]:
    meaning = f"No worker gives a sign of life; {count(waiting, 'job')} waiting"
    if restarted:
        return "bad", f"Worker starting{restarted}", meaning
    if context.worker is not None and time.monotonic() - context.born < STARTING:
        return "busy", "Worker starting", meaning
    return "bad", "Worker offline", meaning


def _restart_note(context: Context) -> str:
    state = context.worker.state if context.worker else None
    if state is None or state.died_at is None or time.time() - state.died_at > RESTART_SHOWN:
        return ""
    return f", restarted {clock(state.died_at)} after it died ({state.last_words})"
