"""The form of the Train tab: data, preset and settings; queues a run or a sweep of runs.

Every fault is told at once, at the button and at its own field.
"""

import os
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from jobs.sweeps import SweepPlan
from medvae.config import Config, presets
from medvae.data.cache import imported_roots
from medvae.errors import DataError
from ui.config_form import (
    MAIN,
    Fault,
    FormField,
    describe_preset,
    form_fields,
    read_form,
    values_of,
)
from ui.context import Context, told
from ui.estimates import time_estimate
from ui.paths import typed_path
from ui.permission import allowed
from ui.theme import canvas
from ui.views import fault_list

PHANTOMS, OTHER = "phantoms", "other"
FIRST_PRESET = "default"
TRY = "try "  # before the name of a setting: the values that a sweep tries
TRIED = {
    "loss.beta": ("Beta", "0.5, 1, 2"),
    "model.latent_size": ("Latent size", "64, 128, 256"),
    "model.width": ("Width", "16, 32"),
    "training.learning_rate": ("Learning rate", "0.0005, 0.001"),
}

PATH_LABEL = "Folder on this computer"
PATH_HELP = "With folders NORMAL and PNEUMONIA in it, or train, val and test with these."

Choice = tuple[str, str]
Components = dict[str, gr.components.Component]


def build_train_form(
    context: Context, page: gr.Blocks, tab: gr.Tab, run: gr.Textbox, origin: gr.Textbox
) -> None:
    """`run` gets the name of what was queued, and so does the URL.

    `origin`: the run that the URL names for its settings to be taken over.
    """
    config = Config.load(FIRST_PRESET)
    fields = form_fields()
    with gr.Group():
        data = gr.Dropdown(
            data_choices(context), value=PHANTOMS, label="Data set", elem_id="data-set"
        )
        path = gr.Textbox(
            "",
            label=PATH_LABEL,
            info=PATH_HELP,
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
    estimate = canvas(elem_id="estimate")
    components |= _build_advanced_settings(config, fields)

    private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    data.change(lambda choice: gr.Textbox(visible=choice == OTHER), data, path, **private)
    ordered = [components[field.key] for field in fields]
    preset.input(apply_preset, preset, [preset, *ordered], **private)
    page.load(partial(fresh_data, context), origin, data, js="medvae.origin", **private)
    origin.change(partial(settings_of_run, context), origin, [data, path, *ordered], **private)
    tab.select(lambda: gr.Dropdown(choices=data_choices(context)), None, data, **private)
    tried, tries, queue_several = _build_sweep()
    queued: dict[str, Any] = {
        "outputs": [faults, run, path, *ordered], "trigger_mode": "once"
    } | private  # fmt: skip
    show: dict[str, Any] = {"js": "(run) => medvae.show({ run })", "show_progress": "hidden"}
    form: dict[str, Any] = {"data": data, "path": path, **components}
    foretell: dict[str, Any] = {"inputs_kwargs": form, "outputs": estimate} | private
    main: list[Any] = [components[field.key] for field in fields if field.dotted in MAIN]
    for changed in (data.change, preset.input, *(each.change for each in main)):
        changed(partial(foresee, context), **foretell)
    tab.select(partial(foresee, context), **foretell)
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
    return [Path(name) for name in dict.fromkeys(names) if name and _exists(name)]


def _exists(name: str) -> bool:
    return os.path.exists(name)  # noqa: PTH110  # Path.exists raises for what cannot be a name


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
@allowed("operator")
def queue_training(context: Context, data: str, path: str, **settings: Any) -> list[Any]:
    """Queue a run; returns the faults of the form, the run to follow, and a mark for each field."""
    config = _config(data, path, settings)
    if isinstance(config, list):
        return _refused(config)
    return ["", context.service.submit(config), *_marks([])]


@told
@allowed("operator")
def queue_sweep(
    context: Context, data: str, path: str, tries: int | None, **settings: Any
) -> list[Any]:
    """Queue a run for each combination; returns the same as `queue_training`."""
    values = {key: settings.pop(f"{TRY}{key}").replace(" ", "") for key in TRIED}
    config = _config(data, path, settings)
    if isinstance(config, list):
        return _refused(config)
    plan = SweepPlan.parse([f"{key}={text}" for key, text in values.items() if text], tries or None)
    return ["", context.service.submit_sweep(config, plan), *_marks([])]


def foresee(context: Context, data: str, path: str, **settings: Any) -> str:
    """How long such a run takes, where a run like it is known; empty for a form with faults."""
    config = _config(data, path, settings)
    if isinstance(config, list):
        return ""
    words = time_estimate(config, context.service.jobs(50), context.histories.of)
    return f'<p class="meta">{escape(words)}</p>'


def _config(data: str, path: str, settings: dict[str, Any]) -> Config | list[Fault]:
    root, faults = _root(data, path.strip())
    config = read_form(root, settings)
    if isinstance(config, list):
        return faults + config
    return faults or config


def _refused(faults: list[Fault]) -> list[Any]:
    words = fault_list("Nothing was queued. Please change:", faults)
    return [words, gr.skip(), *_marks(faults)]


def _marks(faults: list[Fault]) -> list[Any]:
    """What is wrong with it beside each field, for the path and then in the form's order."""
    wrong = dict(faults)
    fields = [(PATH_LABEL, PATH_HELP), *((field.label, field.help) for field in form_fields())]
    return [
        gr.update(info=f"Here: {wrong[label]}", elem_classes=["faulty"])
        if label in wrong
        else gr.update(info=text, elem_classes=[])
        for label, text in fields
    ]


def _root(data: str, path: str) -> tuple[str | None, list[Fault]]:
    """The chosen folder, and what is wrong with it; None: phantoms."""
    if data == PHANTOMS:
        return None, []
    chosen = path if data == OTHER else data
    if not chosen:
        return None, [(PATH_LABEL, "is empty")]
    where = PATH_LABEL if data == OTHER else "Data set"
    try:
        root = typed_path(chosen)
    except DataError as error:
        return None, [(where, str(error))]
    return str(root), [] if root.exists() else [(where, f"{chosen}: no such folder or file")]
