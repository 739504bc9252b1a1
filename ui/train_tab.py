"""The Train tab: choose data and settings, queue a run, and watch it learn.

What is shown follows from the URL's run and the event table alone, so a page may come and go.
"""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.views import JobView, Status
from medvae.config import Config, presets
from medvae.data.cache import imported_roots
from medvae.engine.events import Stop
from medvae.errors import JobError
from ui.config_form import (
    MAIN,
    Fault,
    FormField,
    describe_preset,
    form_fields,
    read_form,
    values_of,
)
from ui.context import Context, patient, told
from ui.theme import canvas
from ui.train_views import curves, film, nothing_yet, run_status, unknown_run
from ui.views import fault_list

PERIOD = 1.0
PHANTOMS, OTHER = "phantoms", "other"
FIRST_PRESET = "default"

Choice = tuple[str, str]
Components = dict[str, gr.components.Component]


def build_train_tab(context: Context, page: gr.Blocks, tab: gr.Tab, run: gr.Textbox) -> None:
    """The form at the left, the run at the right. `run` holds the name from the URL."""
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=0, min_width=340, elem_classes="controls"):
            _build_form(context, page, tab, run)
        with gr.Column(scale=1, min_width=320, elem_id="live"):
            status = canvas(elem_id="run-status")
            with gr.Row(elem_classes="actions"):
                keep = gr.Button("Stop and keep", elem_id="stop-keep", visible=False)
                cancel = gr.Button("Cancel run", elem_id="cancel", visible=False)
            charts = canvas(elem_id="curves")
            strip = canvas(elem_id="film")
    seen = gr.Textbox("", visible=False)
    shown = gr.Textbox("", visible=False)  # the run on display, which the URL need not name
    live: dict[str, Any] = {
        "fn": partial(follow_run, context),
        "inputs": [run, seen],
        "outputs": [status, keep, cancel, charts, strip, shown, seen],
        "show_progress": "hidden",
        "queue": False,
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    gr.Timer(PERIOD).tick(**live)
    tab.select(**live)
    run.change(**live)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    keep.click(partial(stop_run, context, Stop.KEEP), shown, **quiet).then(**live)
    cancel.click(
        partial(stop_run, context, Stop.CANCEL), shown, js="medvae.confirmCancel", **quiet
    ).then(**live)


def _build_form(context: Context, page: gr.Blocks, tab: gr.Tab, run: gr.Textbox) -> None:
    config = Config.load(FIRST_PRESET)
    fields = form_fields()
    with gr.Group():
        data = gr.Dropdown(
            data_choices(context), value=PHANTOMS, label="Data set", elem_id="data-set"
        )
        path = gr.Textbox(
            "",
            label="Folder on this computer",
            info="With folders NORMAL and PNEUMONIA in it, or train, val and test with these.",
            placeholder="/path/to/chest_xray",
            visible=False,
            elem_id="data-path",
        )
        preset = gr.Radio(
            [(name.capitalize(), name) for name in presets()],
            value=FIRST_PRESET,
            label="Preset",
            info=describe_preset(FIRST_PRESET),
            elem_id="preset",
        )
    components = _build_main_settings(config, fields)
    faults = canvas(elem_id="faults")
    queue = gr.Button("Queue training", variant="primary", elem_id="queue-training")
    components |= _build_advanced_settings(config, fields)

    private: dict[str, Any] = {
        "show_progress": "hidden", "queue": False, "api_visibility": "private"
    }  # fmt: skip
    data.change(lambda choice: gr.Textbox(visible=choice == OTHER), data, path, **private)
    ordered = [components[field.key] for field in fields]
    preset.input(apply_preset, preset, [preset, *ordered], **private)
    page.load(partial(fresh_data, context), None, data, **private)
    tab.select(lambda: gr.Dropdown(choices=data_choices(context)), None, data, **private)
    queue.click(
        partial(queue_training, context),
        inputs_kwargs={"data": data, "path": path, **components},
        outputs=[faults, run],
        trigger_mode="once",
        **private,
    ).then(None, run, None, js="(run) => medvae.show({ run })", show_progress="hidden")


def _build_main_settings(config: Config, fields: list[FormField]) -> Components:
    components = {}
    main = sorted((f for f in fields if f.dotted in MAIN), key=lambda f: MAIN.index(f.dotted))
    with gr.Group(elem_classes="pairs"):
        for field in main:
            components[field.key] = field.component(value_in(config, field))
    return components


def _build_advanced_settings(config: Config, fields: list[FormField]) -> Components:
    """All others, by section."""
    components = {}
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        for section in Config.model_fields:
            rest = [f for f in fields if f.section == section and f.dotted not in MAIN]
            if rest:
                canvas(f'<h3 class="section">{section.capitalize()}</h3>')
            for field in rest:
                components[field.key] = field.component(value_in(config, field))
    return components


def data_choices(context: Context) -> list[Choice]:
    """Phantoms, the folders imported or named before, and the way to any other folder."""
    imported = [r for r in imported_roots(context.workspace) if not (r / "phantoms.json").exists()]
    roots = {str(root): root for root in [*named_roots(context), *imported]}
    folders = [(f"{root.name} ({root.parent})", name) for name, root in roots.items()]
    return [("Phantoms (drawn X-rays)", PHANTOMS), *folders, ("Another folder …", OTHER)]


def named_roots(context: Context) -> list[Path]:
    """The folder named at the start, then those of earlier runs, the latest first."""
    configs = [job.config or {} for job in context.service.jobs(50)]
    names = [context.data, *(config.get("data", {}).get("root") for config in configs)]
    return [Path(name) for name in dict.fromkeys(names) if name and Path(name).is_dir()]


def fresh_data(context: Context) -> gr.Dropdown:
    """The data sets there are now; the one named at the start or used last is chosen."""
    last = next((str(root) for root in named_roots(context)), PHANTOMS)
    return gr.Dropdown(choices=data_choices(context), value=last)


def apply_preset(name: str) -> list[Any]:
    """The preset's description, then the value of every setting in the form's order."""
    return [gr.Radio(info=describe_preset(name)), *values_of(Config.load(name))]


def value_in(config: Config, field: FormField) -> Any:
    return getattr(getattr(config, field.section), field.name)


@told
def queue_training(context: Context, data: str, path: str, **settings: Any) -> Any:
    """Queue a run; returns the faults of the form, if there are any, and the run to follow."""
    root, faults = _root(data, path.strip())
    config = read_form(root, settings)
    if isinstance(config, list):
        faults += config
    if faults or isinstance(config, list):
        return fault_list("Nothing was queued. Please change:", faults), gr.skip()
    return "", context.service.submit(config)


def _root(data: str, path: str) -> tuple[str | None, list[Fault]]:
    """The chosen folder as an absolute path, since the worker may run elsewhere; None: phantoms."""
    if data == PHANTOMS:
        return None, []
    chosen = path if data == OTHER else data
    if not chosen:
        return None, [("Folder on this computer", "is empty")]
    root = Path(chosen).expanduser().resolve()
    return str(root), [] if root.is_dir() else [("Data set", f"{chosen}: no such folder")]


@told
def stop_run(context: Context, stop: Stop, run: str) -> None:
    """An empty run is a question that was answered with no."""
    if run:
        context.service.stop(run, stop)


@patient
def follow_run(context: Context, run: str, seen: str) -> Any:
    """What has changed on display: status, two buttons, curves, film; the run shown; a token."""
    try:
        job = context.service.job(run) if run else newest_run(context)
    except StoreUnavailable:
        raise
    except JobError:
        return _if_new(seen, f"unknown {run}", unknown_run(run))
    if job is None:
        return _if_new(seen, "nothing", nothing_yet())
    history = context.histories.of(job)
    has_worker = any(worker.alive for worker in context.service.workers())
    position = context.service.queue_position(job.id)
    status = run_status(job, history, position, has_worker)
    tokens = [
        f"{job.id} {hash(status)}",
        f"{job.id} {len(history.epochs)} {max(history.epochs, default=0)}",
        f"{job.id} {max(history.samples, default=0)}",
    ]
    if tokens == seen.split("|"):
        return gr.skip()
    known = [*seen.split("|"), "", "", ""]
    waiting = job.status is Status.QUEUED
    stoppable = waiting or (job.status is Status.RUNNING and job.stop is None)
    return (
        status,
        gr.Button(visible=stoppable and not waiting and bool(history.epochs)),
        gr.Button(visible=stoppable),
        gr.skip() if known[1] == tokens[1] else curves(history),
        gr.skip() if known[2] == tokens[2] else film(history),
        job.id,
        "|".join(tokens),
    )


def newest_run(context: Context) -> JobView | None:
    """The training that runs, else the next in line, else the one that ended last."""
    trainings = [job for job in context.service.jobs(50) if job.kind == "train"]
    running = [job for job in trainings if job.status is Status.RUNNING]
    waiting = [job for job in trainings if job.status is Status.QUEUED]
    return next(iter([*running, *waiting[::-1], *trainings]), None)


def _if_new(seen: str, token: str, text: str) -> Any:
    """A page without a run: only words."""
    hidden = gr.Button(visible=False)
    return gr.skip() if seen == token else (text, hidden, hidden, "", "", "", token)
