"""The waiting line above the table of runs: who is next, moved by a button up or down."""

import json
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from jobs.views import JobView
from ui.context import Context, patient, told
from ui.permission import allowed
from ui.places import Place
from ui.runs_views import KIND_WORDS
from ui.theme import canvas
from ui.views import count, data_name, link

PERIOD = 2.0
SHOWN = 20


def build_waiting_line(context: Context, tab: gr.Tab) -> None:
    """Nothing at all while nobody waits."""
    shown = canvas(elem_id="line")
    seen = gr.Textbox("", visible=False)
    asked = gr.Textbox("", visible=False)  # JSON from assets/page.js: a job, and where to
    mover = gr.Button(elem_id="move-in-line", visible="hidden")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    live: dict[str, Any] = {
        "fn": partial(refresh_line, context),
        "inputs": seen,
        "outputs": [shown, seen],
        "trigger_mode": "once",
    } | quiet
    tab.select(**live)
    gr.Timer(PERIOD).tick(**live)
    mover.click(partial(move_in_line, context), asked, js="medvae.move", **quiet).then(**live)


@patient
def refresh_line(context: Context, seen: str) -> Any:
    """The line and its token, or a skip when nothing has changed."""
    drawn = waiting_line(context.service.line())
    token = str(hash(drawn))
    return gr.skip() if token == seen else (drawn, token)


@told
@allowed("operator")
def move_in_line(context: Context, asked: str) -> None:
    """Let a waiting job change places with the one before or after it."""
    wanted = json.loads(asked)
    context.service.move(wanted["job"], earlier=wanted["to"] == "up")


def waiting_line(jobs: Sequence[JobView]) -> str:
    """Who waits, the next one first."""
    if not jobs:
        return ""
    entries = "".join(
        _entry(job, is_first=n == 0, is_last=n == len(jobs) - 1)
        for n, job in enumerate(jobs[:SHOWN])
    )
    rest = len(jobs) - SHOWN
    more = f'<p class="meta">and {count(rest, "more job")}</p>' if rest > 0 else ""
    return (
        '<section class="panel" aria-label="Waiting line"><h2>Next in line</h2>'
        f'<ol class="line">{entries}</ol>{more}</section>'
    )


def _entry(job: JobView, is_first: bool, is_last: bool) -> str:
    what = KIND_WORDS.get(job.kind, job.kind)
    about = f"{what} on {data_name(job.config)}" if job.config else what
    return (
        f"<li><span>{link(Place('runs', job.id), job.name)} <small>{escape(about)}</small></span>"
        f"<span>{_mover(job, 'up', is_first)}{_mover(job, 'down', is_last)}</span></li>"
    )


def _mover(job: JobView, to: str, at_end: bool) -> str:
    off = ' aria-disabled="true"' if at_end else ""  # unlike a disabled one it keeps the focus
    return (
        f'<button class="button" data-move="{to}" data-job="{escape(job.id)}" '
        f'aria-label="Move {escape(job.name)} {to}"{off}>{"↑" if to == "up" else "↓"}</button>'
    )
