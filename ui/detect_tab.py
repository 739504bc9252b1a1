"""The Detect tab: drop X-rays or sample test images, and see where they differ from healthy."""

import contextlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ui import detect_views as views
from ui.context import Context, patient, told
from ui.looking import Look, OnProgress, Unreadable, look_at_files, look_at_test_images
from ui.models import ModelView, describe
from ui.pictures import figure_uri, png_uri
from ui.results import Results
from ui.theme import canvas
from ui.train_tab import newest_run
from ui.train_views import doing
from ui.views import interval

SHOWS_PROGRESS_FROM = 5  # images
CARD_IMAGES = 5  # of a report card
PERIOD = 3.0
FORMATS = "JPEG, PNG (8 or 16 bit), TIFF, WebP or BMP; several at once."
KINDS = [("Healthy", "normal"), ("Sick", "sick"), ("Both", "both")]


def build_detect_tab(context: Context, tab: gr.Tab) -> None:
    """Controls at the left, results at the right. Nothing is kept but a key to the last results."""
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=0, min_width=300, elem_classes="controls"):
            canvas('<h2 class="step">Drop X-rays</h2>')
            files = gr.File(
                file_count="multiple",
                show_label=False,
                label="X-rays",
                elem_id="upload",
                height=150,
            )
            canvas(f'<p class="meta">{FORMATS}</p>')
            canvas('<h2 class="step">Or look at test images</h2>')
            with gr.Group():
                which = gr.Radio(KINDS, value="both", label="Which", elem_id="sample-which")
                with gr.Row():
                    number = gr.Number(
                        6, label="How many", precision=0, min_width=80, elem_id="sample-number"
                    )
                    seed = gr.Number(
                        0, label="Seed", precision=0, min_width=80, elem_id="sample-seed"
                    )
            sample = gr.Button("Show test images", elem_id="sample")
        with gr.Column(scale=1, min_width=320, elem_id="looks"):
            draw = gr.Button("Draw report card", elem_id="draw-card", visible=False)
            card = canvas(elem_id="card")
            results = canvas(elem_id="results")
    key = gr.Textbox("", visible=False)
    seen = gr.Textbox("", visible=False)

    shown = [results, key, draw, card]
    private: dict[str, Any] = {"api_visibility": "private"}
    look: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "detector"} | private
    files.upload(partial(show_files, context), files, [*shown, files], **look)
    sample.click(partial(show_sample, context), [which, number, seed], shown, **look)
    draw.click(partial(show_report_card, context), key, card, **look)
    quietly: dict[str, Any] = {
        "show_progress": "hidden", "queue": False, "trigger_mode": "once"
    } | private  # fmt: skip
    gr.Timer(PERIOD).tick(partial(refresh_intro, context), [key, seen], [results, seen], **quietly)
    tab.select(partial(refresh_intro, context), [key, seen], [results, seen], **quietly)


@told
def show_files(context: Context, files: list[str] | None, progress: Any = gr.Progress()) -> Any:  # noqa: B008
    """Results of uploaded files, which are deleted whatever happens."""
    paths = [Path(file) for file in files or []]
    try:
        detector = context.model.detector()
        looks = look_at_files(detector, paths, _reporter(progress))
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()
    return *_present(context, looks, describe(detector)), None


@told
def show_sample(
    context: Context,
    which: str,
    number: int | None,
    seed: int | None,
    progress: Any = gr.Progress(),  # noqa: B008
) -> Any:
    """Results of images drawn from the model's own test split."""
    detector = context.model.detector()
    looks = look_at_test_images(
        detector,
        context.workspace,
        which,
        max(1, number or 1),
        abs(seed or 0),
        _reporter(progress),
    )
    return _present(context, looks, describe(detector))


@told
def show_report_card(context: Context, key: str) -> str:
    """The card of the first images shown, drawn in a folder that is gone at once."""
    from medvae.engine.report_card import draw_report_card

    results = context.results.get(key)
    model = results.model
    auroc = model.metrics["auroc"][model.metrics["score"]] if model.metrics else None
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_report_card(
            results.detections,
            Path(folder) / "card.png",
            model.run,
            "images shown on the page",
            interval(auroc) if auroc else "not evaluated",
        )
        uri = png_uri(drawn.read_bytes())
    return views.report_card(uri, f"report-card-{model.run}.png")


@patient
def refresh_intro(context: Context, key: str, seen: str) -> Any:
    """What an empty tab says, as long as there are no results on it."""
    if key:
        return gr.skip()
    model = context.model.look()
    example = figure_uri(context.workspace.run_folder(model.run) / "report_card.png")
    training = _training(context) if model.status == "absent" else ""
    text = views.intro(model, training, example)
    token = str(hash(text))
    return gr.skip() if token == seen else (text, token)


def _present(context: Context, looks: list[Look | Unreadable], model: ModelView) -> tuple[Any, ...]:
    detections = [look.detection for look in looks if isinstance(look, Look)]
    key = context.results.keep(Results(detections[:CARD_IMAGES], model))
    html = views.draw_results(looks, model)
    return html, key, gr.Button(visible=bool(detections)), ""


def _training(context: Context) -> str:
    """What the run that brings the first model is doing; empty when there is none."""
    job = newest_run(context)
    if job is None or job.status.ended:
        return ""
    words, bars = doing(job, context.histories.of(job), None, has_worker=True)
    return words + bars


def _reporter(progress: Any) -> OnProgress:
    """A bar for what takes a while."""

    def report(done: int, total: int, what: str) -> None:
        if total >= SHOWS_PROGRESS_FROM:
            progress((done, total), desc=what)

    return report
