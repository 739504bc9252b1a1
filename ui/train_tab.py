"""The Train tab: choose data and settings, queue a run, and watch it learn.

What is shown follows from the URL's run and the event table alone, so a page may come and go.
"""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from jobs.database import StoreUnavailable
from jobs.sweeps import MOST_RUNS, SWEEP, SweepPlan
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
TRY = "try "  # before the name of a setting: the values that a sweep tries
TRIED = {
    "loss.beta": ("Beta", "0.5, 1, 2"),
    "model.latent_size": ("Latent size", "64, 128, 256"),
    "model.width": ("Width", "16, 32"),
    "training.learning_rate": ("Learning rate", "0.0005, 0.001"),
}

Choice = tuple[str, str]
Components = dict[str, gr.components.Component]


def build_train_tab(
    context: Context, page: gr.Blocks, tab: gr.Tab, run: gr.Textbox, origin: gr.Textbox
) -> None:
    """The form at the left, the run at the right.

    `run` and `origin` are named by the URL: the one to follow, the one whose settings to take.
    """
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=0, min_width=340, elem_classes="controls"):
            _build_form(context, page, tab, run, origin)
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


def _build_form(
    context: Context, page: gr.Blocks, tab: gr.Tab, run: gr.Textbox, origin: gr.Textbox
) -> None:
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
    page.load(partial(fresh_data, context), origin, data, js="medvae.origin", **private)
    origin.change(partial(settings_of_run, context), origin, [data, path, *ordered], **private)
    tab.select(lambda: gr.Dropdown(choices=data_choices(context)), None, data, **private)
    tried, tries, queue_several = _build_sweep()
    queued: dict[str, Any] = {"outputs": [faults, run], "trigger_mode": "once"} | private
    show: dict[str, Any] = {"js": "(run) => medvae.show({ run })", "show_progress": "hidden"}
    form: dict[str, Any] = {"data": data, "path": path, **components}
    queue.click(partial(queue_training, context), inputs_kwargs=form, **queued).then(
        None, run, None, **show
    )
    queue_several.click(
        partial(queue_sweep, context), inputs_kwargs=form | tried | {"tries": tries}, **queued
    ).then(None, run, None, **show)


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


def _build_sweep() -> tuple[Components, gr.Number, gr.Button]:
    """Values to try of the settings that matter most, how many tries, and the button."""
    with gr.Accordion("Try several values", open=False, elem_id="sweep"):
        canvas(
            '<p class="meta">Trains a model for each combination and ranks them on healthy '
            "validation images alone. All other settings are those above.</p>"
        )
        components: Components = {
            f"{TRY}{key}": gr.Textbox(
                "", label=label, placeholder=example, elem_id=f"try-{key.replace('.', '-')}"
            )
            for key, (label, example) in TRIED.items()
        }
        tries = gr.Number(
            0,
            label="Random tries",
            info="0 tries every combination; only a random search takes ranges (0.1..10).",
            precision=0,
            elem_id="tries",
        )
        return components, tries, gr.Button("Queue sweep", elem_id="queue-sweep")


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


def fresh_data(context: Context, origin: str = "") -> Any:
    """The data sets there are now; the one named at the start or used last is chosen.

    Not when the form is filled from the run `origin`.
    """
    if origin:
        return gr.skip()
    last = next((str(root) for root in named_roots(context)), PHANTOMS)
    return gr.Dropdown(choices=data_choices(context), value=last)


def apply_preset(name: str) -> list[Any]:
    """The preset's description, then the value of every setting in the form's order."""
    return [gr.Radio(info=describe_preset(name)), *values_of(Config.load(name))]


@told
def settings_of_run(context: Context, origin: str) -> Any:
    """Data set, folder, then the value of every setting as a run had it."""
    if not origin:
        return gr.skip()
    config = Config.parse(context.service.job(origin).config or {}, f"job {origin}")
    choices, root = data_choices(context), config.data.root or PHANTOMS
    is_listed = root in [value for _, value in choices]
    data = gr.Dropdown(choices=choices, value=root if is_listed else OTHER)
    path = gr.Textbox("" if is_listed else root, visible=not is_listed)
    return data, path, *values_of(config)


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


@told
def queue_sweep(context: Context, data: str, path: str, tries: int | None, **settings: Any) -> Any:
    """Queue a run for each combination; returns the faults of the form, and the sweep to follow."""
    values = {key: settings.pop(f"{TRY}{key}").replace(" ", "") for key in TRIED}
    root, faults = _root(data, path.strip())
    config = read_form(root, settings)
    if isinstance(config, list):
        faults += config
    if faults or isinstance(config, list):
        return fault_list("Nothing was queued. Please change:", faults), gr.skip()
    wanted = [f"{key}={text}" for key, text in values.items() if text]
    return "", context.service.submit_sweep(config, SweepPlan.parse(wanted, tries or None))


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
        job = _run_of(context, run) if run else newest_run(context)
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
    jobs = [job for job in context.service.jobs(50) if job.kind in ("train", SWEEP)]
    chosen = _most_alive(jobs)
    return None if chosen is None else _run_of(context, chosen.id)


def _run_of(context: Context, job_id: str) -> JobView | None:
    """The job itself, or the run of a sweep that there is most to see of."""
    job = context.service.job(job_id)
    if job.kind != SWEEP:
        return job
    return _most_alive(context.service.jobs(MOST_RUNS, parent=job_id))


def _most_alive(jobs: list[JobView]) -> JobView | None:
    """Of jobs, the newest first: the one that runs, else the next in line, else the last."""
    running = [job for job in jobs if job.status is Status.RUNNING]
    waiting = [job for job in jobs if job.status is Status.QUEUED]
    return next(iter([*running, *waiting[::-1], *jobs]), None)


def _if_new(seen: str, token: str, text: str) -> Any:
    """A page without a run: only words."""
    hidden = gr.Button(visible=False)
    return gr.skip() if seen == token else (text, hidden, hidden, "", "", "", token)
