"""The Runs tab: every job with its figures, and what can be done with each.

The chosen run, and those it is compared with, are the ones in the URL.
"""

from collections.abc import Callable, Hashable
from dataclasses import astuple
from functools import partial
from typing import Any

import gradio as gr

from jobs.sweeps import SWEEP, ranked
from medvae.engine.events import Stop
from medvae.errors import MedVAEError
from ui import run_actions as actions
from ui import runs_views as views
from ui.compare_views import MOST_COMPARED, can_compare, compare_link, comparison
from ui.context import Context, patient
from ui.places import names_in
from ui.run_files import card_text, files_of, log_tail
from ui.run_list import (
    ANY_STATUS,
    NEWEST,
    ORDER_CHOICES,
    STATUS_CHOICES,
    Wanted,
    find_row,
    list_rows,
)
from ui.runs_views import Row
from ui.sweep_views import sweep_ranking
from ui.theme import canvas
from ui.train_tab import stop_run
from ui.train_views import curves, unknown_run
from ui.views import log_panel
from ui.waiting_line import build_waiting_line

PERIOD = 2.0
SHOW_RUN = "(run) => medvae.go({ run, with: '' })"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Buttons = dict[str, gr.Button]
Part = tuple[Hashable, Callable[[], str]]  # drawn only when its key has changed


def build_runs_tab(context: Context, tab: gr.Tab, run: gr.Textbox, others: gr.Textbox) -> None:
    """The table above, the chosen run with its buttons below. `others`: runs to compare with."""
    build_waiting_line(context, tab)
    wanted, incoming = _build_filter()
    table = canvas(elem_id="runs")
    title = gr.Textbox(
        label="Name of this run", show_label=False, container=False, visible=False,
        elem_id="run-name", max_length=200,
    )  # fmt: skip
    filled = gr.Textbox("", visible=False)  # what the field was filled with
    rename = gr.Button(elem_id="rename-run", visible="hidden")
    head = canvas(elem_id="run-head")
    buttons = _build_buttons()
    parts = [
        canvas(elem_id="run-figures"),
        canvas(elem_id="run-curves"),
        canvas(elem_id="run-records"),
    ]
    about_model = gr.Accordion("Model card", open=False, visible=False, elem_id="run-model")
    with about_model:
        card = gr.Markdown(elem_id="run-card")
    about = gr.Accordion("Log and files", open=False, visible=False, elem_id="run-files")
    with about:
        log, name, get, buttons["export"], offered = _build_files()
    seen = gr.Textbox("", visible=False)

    live: dict[str, Any] = {
        "fn": partial(show_runs, context),
        "inputs": [run, seen, others, *wanted],
        "outputs": [
            table, head, *parts, log, name, about, card, about_model,
            *buttons.values(), seen,
        ],
        "trigger_mode": "once",
    } | QUIET  # fmt: skip
    gr.Timer(PERIOD).tick(**live)
    tab.select(**live)
    latest = live | {"trigger_mode": "always_last"}
    for changing in (run, others, *wanted):
        changing.change(**latest)
    # Not with the rest, which comes every few seconds and would undo what is being typed.
    name_shown: dict[str, Any] = {
        "fn": partial(show_name, context), "inputs": run, "outputs": [title, filled]
    } | QUIET  # fmt: skip
    run.change(**name_shown)
    # Who only passes the field changes nothing, whatever the run is called by now.
    for left in (title.submit, title.blur):
        left(None, [title, filled], None, js="medvae.rename", show_progress="hidden")
    rename.click(
        partial(actions.rename_run, context), [run, title], trigger_mode="once", **QUIET
    ).success(**name_shown).then(**live)
    _wire_buttons(context, buttons, run, live)
    incoming.upload(partial(actions.import_bundle, context), incoming, run, **QUIET).success(
        None, run, None, js=SHOW_RUN, show_progress="hidden"
    ).then(**live)
    fetch: dict[str, Any] = {"js": "medvae.fetchOffered", "show_progress": "hidden"}
    get.click(partial(actions.hand_out, context, offered), [run, name], offered, **QUIET).success(
        None, **fetch
    )
    buttons["export"].click(
        partial(actions.export_bundle, context, offered), run, offered, api_visibility="private"
    ).success(None, **fetch)


def _build_filter() -> tuple[list[Any], gr.UploadButton]:
    """Words, status and order of what is listed; the way in for a bundle."""
    with gr.Row(elem_classes="filter"):
        words = gr.Textbox(
            "", label="Find", placeholder="name or data set", elem_id="runs-find", min_width=160
        )
        status = gr.Dropdown(
            STATUS_CHOICES, value=ANY_STATUS, label="Status", elem_id="runs-status", min_width=120
        )
        order = gr.Dropdown(
            ORDER_CHOICES, value=NEWEST, label="Order", elem_id="runs-order", min_width=120
        )
        incoming = gr.UploadButton(
            "Import bundle", file_types=[".zip"], elem_id="import-bundle", min_width=120
        )
    return [words, status, order], incoming


def _build_buttons() -> Buttons:
    """By action, in the order of `Actions`, all but the last; none is offered before a run is."""
    hidden = partial(gr.Button, visible=False)
    with gr.Row(elem_classes="actions"):
        return {
            "use": hidden("Use this model for Detect", variant="primary", elem_id="use-model"),
            "keep": hidden("Stop and keep", elem_id="run-stop-keep"),
            "resume": hidden("Resume", elem_id="run-resume"),
            "retry": hidden("Retry from the start", elem_id="run-retry"),
            "first": hidden("Move to the front", elem_id="run-first"),
            "copy": hidden("Run again as a copy", elem_id="run-copy"),
            "cancel": hidden("Cancel run", elem_id="run-cancel"),
            "delete": hidden("Delete", elem_id="run-delete"),
        }


def _build_files() -> tuple[gr.HTML, gr.Dropdown, gr.Button, gr.Button, gr.DownloadButton]:
    """Log, choice of a file, its button, the bundle's button, and what the browser fetches."""
    log = canvas(elem_id="run-log")
    with gr.Row(elem_classes="download"):
        name = gr.Dropdown([], label="File of this run", elem_id="run-file")
        get = gr.Button("Download", elem_id="download")
        export = gr.Button("Export bundle", elem_id="run-export", visible=False)
    canvas(
        '<p class="meta">A bundle is the run as one ZIP: model, settings, figures, card. It holds '
        "the names of the images and pictures of five of them: hand it on only where these may "
        "go.</p>"
    )
    return log, name, get, export, gr.DownloadButton(elem_id="offered-file", visible="hidden")


def _wire_buttons(
    context: Context, buttons: Buttons, run: gr.Textbox, live: dict[str, Any]
) -> None:
    """Each acts on the chosen run, then the tab is brought up to date."""
    simple = {
        "use": partial(actions.use_model, context),
        "keep": partial(stop_run, context, Stop.KEEP),
        "resume": partial(actions.resume_run, context),
        "retry": partial(actions.retry_run, context),
        "first": partial(actions.move_first, context),
    }
    for name, act in simple.items():
        buttons[name].click(act, run, **QUIET).then(**live)
    buttons["cancel"].click(
        partial(stop_run, context, Stop.CANCEL), run, js="medvae.confirmCancel", **QUIET
    ).then(**live)
    show: dict[str, Any] = {"js": SHOW_RUN, "show_progress": "hidden"}
    buttons["copy"].click(partial(actions.copy_run, context), run, run, **QUIET).then(
        None, run, None, **show
    ).then(**live)
    buttons["delete"].click(
        partial(actions.delete_run, context), run, run, js="medvae.confirmDelete", **QUIET
    ).then(None, run, None, **show).then(**live)


@patient
def show_name(context: Context, run: str) -> Any:
    """The field that renames the chosen run, and what it is filled with."""
    chosen = find_row(context, [], run)
    name = chosen.job.name if chosen else ""
    return gr.Textbox(name, visible=chosen is not None), name


@patient
def show_runs(
    context: Context,
    run: str,
    seen: str,
    others: str = "",
    words: str = "",
    status: str = ANY_STATUS,
    order: str = NEWEST,
) -> Any:
    """Table, heading, three parts of details, log, files and their frame, model card and its frame,
    the buttons, a token. Only what is new since that token.
    """
    wanted = Wanted(words, status, order)
    rows = list_rows(context, run, wanted)
    chosen = find_row(context, rows, run)
    beside = _beside(context, rows, chosen, names_in(others))
    compared = tuple(row.job.id for row in beside)
    leading = chosen.job.id if chosen and can_compare(chosen) else ""
    table = views.runs_table(
        rows, run, lambda row: compare_link(row, leading, compared), wanted.filters
    )
    parts = [_ready(table), *_about(context, chosen, beside, run)]
    possible = actions.possible_actions(context, chosen)
    card = _card(context, chosen) if chosen and possible.export else ""
    files = list(files_of(context.workspace, chosen.job)) if chosen else []
    keys = [key for key, _ in parts]
    tokens = [str(hash(key)) for key in (*keys, tuple(files), card, possible)]
    known = seen.split("|")
    if tokens == known:
        return gr.skip()
    known += [""] * len(tokens)
    changed = [token != old for token, old in zip(tokens, known, strict=False)]
    *_, new_files, new_card, _ = changed
    choices = gr.Dropdown(choices=files, value=files[0] if files else None)
    return (
        *(draw() if new else gr.skip() for (_, draw), new in zip(parts, changed, strict=False)),
        choices if new_files else gr.skip(),
        gr.Accordion(visible=bool(files)),
        card if new_card else gr.skip(),
        gr.Accordion(visible=bool(card)),
        *(gr.Button(visible=offered) for offered in astuple(possible)),
        "|".join(tokens),
    )


def _beside(
    context: Context, rows: list[Row], chosen: Row | None, names: tuple[str, ...]
) -> list[Row]:
    """The runs that the chosen one is compared with; those that are no longer there drop out."""
    if chosen is None or not can_compare(chosen):
        return []
    found = [find_row(context, rows, name) for name in names if name != chosen.job.id]
    return [row for row in found if row is not None and can_compare(row)][: MOST_COMPARED - 1]


def _about(context: Context, chosen: Row | None, beside: list[Row], run: str) -> list[Part]:
    """Heading, figures, curves, records and log of the chosen run, or a comparison."""
    nothing = _ready("")
    if chosen is None:
        return [_ready(unknown_run(run) if run else ""), *[nothing] * 4]
    job = chosen.job
    head = _ready(views.heading(chosen))
    if job.kind == SWEEP:
        ranking = _ready(sweep_ranking(ranked([row.job for row in chosen.runs])))
        return [head, ranking, nothing, _ready(_records(context, chosen)), nothing]
    log = _ready(log_panel(log_tail(context.service, job)))
    if beside:
        rows = [chosen, *beside]
        key = tuple((row.job.id, row.job.name, row.job.status, row.history.seq) for row in rows)
        return [head, (key, lambda: comparison(rows)), nothing, nothing, log]
    lines = ((job.id, chosen.history.seq), lambda: curves(chosen.history))
    records = _ready(_records(context, chosen))
    return [head, _ready(views.figures(chosen)), lines, records, log]


def _ready(text: str) -> Part:
    """What was quick to draw is its own key."""
    return text, lambda: text


def _records(context: Context, row: Row) -> str:
    return views.records(row.job, context.workspace.job_folder(row.job.id))


def _card(context: Context, row: Row) -> str:
    try:
        return card_text(context.workspace.job_folder(row.job.id))
    except MedVAEError as error:
        return f"There is no model card: `{str(error).replace('`', ' ')}`"
