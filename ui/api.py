"""The page's public endpoints for programs, described in docs/api.md; all others are private.

The same functions do the work as on the page. Answers are plain JSON values.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from jobs.views import JobView, Status
from medvae.config import Config, presets
from medvae.engine.attempts import MODEL
from medvae.engine.events import Stop
from medvae.errors import ConfigError, DataError
from ui.context import Context, told
from ui.looking import Look, Unreadable, look_at_files
from ui.models import describe
from ui.permission import allowed
from ui.pictures import to_uri
from ui.views import NOTICE

LISTED = 500  # jobs, among which finished models are looked for
Plain = dict[str, Any]


def build_api(context: Context) -> None:
    """Five endpoints on components that no page shows."""
    files = gr.File(file_count="multiple", label="files", visible=False)
    target_fpr = gr.Number(None, label="target_fpr", visible=False)
    pictures = gr.Checkbox(False, label="pictures", visible=False)
    settings = gr.JSON({}, label="settings", visible=False)
    preset = gr.Textbox("default", label="preset", visible=False)
    name = gr.Textbox("", label="name", visible=False)
    job = gr.Textbox("", label="job", visible=False)
    answer = gr.JSON(label="answer", visible=False)
    _endpoint(detect, context, [files, target_fpr, pictures], answer)
    _endpoint(train, context, [settings, preset, name], answer)
    _endpoint(job_state, context, [job], answer, "job")
    _endpoint(cancel, context, [job], answer)
    _endpoint(models, context, [], answer)


def _endpoint(
    handler: Callable[..., Any],
    context: Context,
    inputs: list[Any],
    answer: gr.JSON,
    name: str | None = None,
) -> None:
    gr.Button(visible=False).click(
        partial(handler, context),
        inputs,
        answer,
        api_name=name or handler.__name__,
        api_description=(handler.__doc__ or "").split("\n")[0],
        api_visibility="public",
        concurrency_limit=2,
        concurrency_id="detector" if handler is detect else None,
    )


@told
@allowed("viewer")
def detect(
    context: Context,
    files: list[str] | None,
    target_fpr: float | None = None,
    pictures: bool = False,
) -> Plain:
    """Look at images with the model in use: score, p-value and verdict of each.

    target_fpr: share of healthy images that may be called unusual; the model's own by default.
    pictures: also the heatmap and the healthy counterpart, as data URIs.
    """
    if not files:
        raise DataError("files is empty; expected one or more images")
    detector = context.model.detector()
    paths = [Path(file) for file in files]
    looks = look_at_files(detector, paths, lambda *_: None, context.sandbox.see)
    view = describe(detector)
    fpr = view.target_fpr if target_fpr is None else target_fpr
    if not 0 < fpr < 0.5:
        raise ConfigError(f"target_fpr is {fpr:g}; expected a share above 0 and below 0.5")
    return {
        "model": view.run,
        "target_fpr": fpr,
        "images": [_image(look, fpr, pictures) for look in looks],
        "notice": NOTICE,
    }


@told
@allowed("operator")
def train(
    context: Context, settings: Plain | None = None, preset: str = "default", name: str = ""
) -> Plain:
    """Queue a training; returns its job.

    settings: what differs from the preset, by dotted name: {"training.epochs": 5}.
    """
    if preset not in presets():  # a name, never a path of this computer
        raise ConfigError(f"no preset {preset!r}; expected one of {', '.join(presets())}")
    if not isinstance(settings or {}, dict):
        raise ConfigError('settings are no object; expected {"training.epochs": 5}')
    config = Config.load(preset).override(settings or {})
    run = context.service.submit(config, name=name or None)
    return _job(context.service.job(run))


@told
def job_state(context: Context, job: str) -> Plain:
    """Where a job stands, how far it is, and what came of it."""
    found = context.service.job(job)
    history = context.histories.of(found)
    return _job(found) | {"epochs_done": max(history.epochs, default=0)}


@told
@allowed("operator")
def cancel(context: Context, job: str) -> Plain:
    """Cancel a job that waits or runs; returns it as it is then."""
    return _job(context.service.stop(job, Stop.CANCEL))


@told
def models(context: Context) -> list[Plain]:
    """Finished models, the newest first, and which of them is in use."""
    in_use = context.model.look().run
    jobs = context.service.jobs(LISTED, [Status.SUCCEEDED])
    return [
        _job(job) | {"in_use": job.id == in_use}
        for job in jobs
        if job.kind == "train" and (context.workspace.run_folder(job.id) / MODEL).is_file()
    ]


def _image(look: Look | Unreadable, target_fpr: float, pictures: bool) -> Plain:
    if isinstance(look, Unreadable):
        return {"name": look.name, "error": look.reason}
    detection = look.detection
    found: Plain = {
        "name": detection.name,
        "unusual": detection.p_value <= target_fpr,
        "score": detection.score,
        "p_value": detection.p_value,
        "scores": detection.scores,
    }
    if pictures:
        found["heatmap"] = to_uri(look.heat)
        found["counterpart"] = to_uri(look.counterpart)
    return found


def _job(job: JobView) -> Plain:
    """A job in plain values. `figures`: of its evaluation, each with its 95 % interval."""
    result = job.result or {}
    evaluation = result.get("evaluation")
    return {
        "job": job.id,
        "name": job.name,
        "kind": job.kind,
        "status": job.status.value,
        "seconds": job.seconds,
        "error": job.error,
        "best_validation_loss": result.get("best_validation_loss"),
        "figures": evaluation and _figures(evaluation),
    }


def _figures(evaluation: Plain) -> Plain:
    shared = ("protocol", "normal_images", "sick_images", "threshold", "target_fpr")
    rates = ("sensitivity", "specificity", "balanced_accuracy")
    return {key: evaluation[key] for key in (*shared, *rates, "auroc")}
