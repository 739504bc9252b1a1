"""The Detect tab: drop X-rays or sample test images, and see where they differ from healthy."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from medvae.engine.score_request import ScoreRequest
from medvae.errors import ConfigError, DataError, MedVAEError
from ui import detect_views as views
from ui.context import Context, patient, told
from ui.downloads import picture_zip, report_cards, score_csv
from ui.looking import (
    MOST_IMAGES,
    Look,
    OnProgress,
    Unreadable,
    look_at_files,
    look_at_test_images,
)
from ui.models import describe
from ui.paths import typed_path
from ui.permission import allowed
from ui.pictures import figure_uri
from ui.places import Place
from ui.results import Results
from ui.theme import canvas
from ui.train_tab import newest_run
from ui.train_views import doing
from ui.viewer import neighbours, no_neighbours, viewer
from ui.views import link

if TYPE_CHECKING:
    from medvae.engine.detector import AnomalyDetector

SHOWS_PROGRESS_FROM = 5  # images
PERIOD = 5.0  # seconds between two looks at whether there is a model yet
FORMATS = "DICOM, JPEG, PNG, TIFF (8 to 16 bit), WebP, BMP or a ZIP; several, or paste one."
DRAWN = "It learns from drawn chest X-rays (phantoms), until you bring images of your own. "
KINDS = [("Healthy", "normal"), ("Sick", "sick"), ("Both", "both")]


def build_detect_tab(context: Context, page: gr.Blocks, tab: gr.Tab) -> None:
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
                        6,
                        label="How many",
                        info=f"At most {MOST_IMAGES}.",
                        precision=0,
                        min_width=80,
                        elem_id="sample-number",
                    )
                    seed = gr.Number(
                        0,
                        label="Seed",
                        info="Picks which.",
                        precision=0,
                        min_width=80,
                        elem_id="sample-seed",
                    )
            sample = gr.Button("Show test images", elem_id="sample")
            _build_archive(context)
        with gr.Column(scale=1, min_width=320, elem_id="looks"):
            intro = canvas(elem_id="intro")  # hidden as soon as there are results
            results = canvas(elem_id="results")
            keep = gr.Row(elem_classes="actions", visible=False, elem_id="keep")
            with keep:
                table = gr.Button("Download table", size="sm", elem_id="save-table")
                pictures = gr.Button("Download heatmaps", size="sm", elem_id="save-pictures")
                draw = gr.Button("Draw report card", size="sm", elem_id="draw-card")
            card = canvas(elem_id="card")
    key = gr.Textbox("", visible=False)
    seen = gr.Textbox("", visible=False)
    asked = gr.Textbox("", visible=False)  # JSON from assets/detect.js: an image, or choices
    opener = gr.Button(elem_id="open-viewer", visible="hidden")
    closer_look = canvas(elem_id="viewer")
    alike = canvas(elem_id="alike")
    ready = canvas(elem_id="ready")

    shown = [results, key, keep, card]
    private: dict[str, Any] = {"api_visibility": "private"}
    look: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "detector"} | private
    into_view: dict[str, Any] = {"js": "medvae.showResults", "show_progress": "hidden"}
    files.upload(partial(show_files, context), files, [*shown, files], **look).success(
        None, **into_view
    )
    sample.click(partial(show_sample, context), [which, number, seed], shown, **look).success(
        None, **into_view
    )
    quietly: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "once"} | private
    choose: dict[str, Any] = {"js": "(key, _) => [key, medvae.choice()]"} | private
    draw.click(partial(show_report_card, context), [key, asked], card, **choose).success(
        None, js="medvae.showCard", show_progress="hidden"
    )
    for button, make in ((table, save_table), (pictures, save_pictures)):
        button.click(partial(make, context), [key, asked], ready, **choose).success(
            None, js="medvae.save", show_progress="hidden"
        )
    opener.click(
        partial(open_viewer, context),
        [key, asked],
        closer_look,
        js="(key, _) => [key, medvae.look()]",
        **quietly,
    ).success(None, js="medvae.openViewer", show_progress="hidden").then(
        partial(find_neighbours, context),
        [key, asked],
        alike,
        js="(key, _) => [key, medvae.look()]",
        **quietly,
    ).success(None, js="medvae.placeNeighbours", show_progress="hidden")
    for moment in (page.load, tab.select, gr.Timer(PERIOD).tick):
        moment(partial(refresh_intro, context), seen, [intro, seen], **quietly)


def _build_archive(context: Context) -> None:
    """Any number of images, scored by the workers into a table."""
    with gr.Accordion("Score a whole archive", open=False, elem_id="archive"):
        canvas(
            '<p class="meta">For thousands of images: the workers score them into one Parquet and '
            "one CSV, and files that cannot be read get a row that says why.</p>"
        )
        source = gr.Textbox(
            "",
            label="Folder or list on this computer",
            info="A list is a text or CSV file with a path in each line.",
            placeholder="/path/to/archive",
            elem_id="archive-source",
        )
        out = gr.Textbox(
            "",
            label="Table to write",
            info="Empty: scores.parquet beside the folder.",
            placeholder="/path/to/scores.parquet",
            elem_id="archive-out",
        )
        score = gr.Button("Queue scoring", elem_id="queue-scoring")
        told_so = canvas(elem_id="archive-queued")
    score.click(partial(queue_scoring, context), [source, out], told_so, api_visibility="private")


@told
@allowed("operator")
def queue_scoring(context: Context, source: str, out: str) -> str:
    """Queue the scoring of an archive; returns where to watch it."""
    if not source.strip():
        raise DataError("the archive's folder is empty: name a folder of images or a list")
    path = typed_path(source)
    table = typed_path(out) if out.strip() else path.parent / "scores.parquet"
    request = ScoreRequest(path, table, context.workspace.promoted)
    job = context.service.submit_score(request)
    return f'<p class="meta">Queued. {link(Place("runs", job), "Watch it on the Runs tab")}.</p>'


@told
@allowed("viewer")
def show_files(context: Context, files: list[str] | None, progress: Any = gr.Progress()) -> Any:  # noqa: B008
    """Results of uploaded files, and an empty field for the next ones."""
    detector = context.model.detector()
    paths = [Path(file) for file in files or []]
    looks = look_at_files(detector, paths, _reporter(progress), context.sandbox.see)
    return *_present(context, looks, detector), None


@told
@allowed("viewer")
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
    return _present(context, looks, detector)


@told
@allowed("viewer")
def open_viewer(context: Context, key: str, asked: str) -> str:
    """One image, large."""
    wanted = json.loads(asked)
    return viewer(context.results.get(key), int(wanted["look"]), float(wanted["fpr"]))


@told
@allowed("viewer")
def find_neighbours(context: Context, key: str, asked: str) -> str:
    """The healthy images most like the one in the viewer, or why there are none."""
    index, results = int(json.loads(asked)["look"]), context.results.get(key)
    detector = context.model.detector()
    if describe(detector).run != results.model.run:
        return no_neighbours(index, "another model is in use by now.")
    try:
        found = context.neighbours.of(detector, results.look(index).detection.image)
    except MedVAEError as error:
        return no_neighbours(index, f"{error}.")
    return neighbours(index, found)


@told
@allowed("viewer")
def save_table(context: Context, key: str, asked: str) -> str:
    """The table of all scores, with verdicts at the share of false alarms that is set."""
    table = score_csv(context.results.get(key), float(json.loads(asked)["fpr"]))
    return views.download(table, "Table")


@told
@allowed("viewer")
def save_pictures(context: Context, key: str, asked: str) -> str:
    """The heatmaps of the chosen images."""
    pictures = picture_zip(context.results.get(key), json.loads(asked)["picked"])
    return views.download(pictures, "Heatmaps")


@told
@allowed("viewer")
def show_report_card(context: Context, key: str, asked: str) -> str:
    """The card of the first images chosen."""
    chosen = json.loads(asked)
    cards = report_cards(context.results.get(key), chosen["picked"], float(chosen["fpr"]))
    return views.report_card(*cards)


@patient
def refresh_intro(context: Context, seen: str) -> Any:
    """What the tab says as long as there are no results on it."""
    model = context.model.look()
    example = _card_of(context, model.run)
    training = _training(context) if model.status == "absent" else ""
    text = views.intro(model, training, example)
    token = str(hash(text))
    return gr.skip() if token == seen else (text, token)


def _card_of(context: Context, run: str) -> str | None:
    """The report card of the model's run; a model from elsewhere may name any, or none."""
    try:
        return figure_uri(context.workspace.run_folder(run) / "report_card.png")
    except ConfigError:
        return None


def _present(
    context: Context, looks: list[Look | Unreadable], detector: "AnomalyDetector"
) -> tuple[Any, ...]:
    from medvae.engine.scores import DEFAULT_SCORE

    healthy = {name: values.tolist() for name, values in detector.calibration.scores.items()}
    results = Results(looks, describe(detector), DEFAULT_SCORE, healthy)
    found = any(isinstance(look, Look) for look in looks)
    return views.draw_results(results), context.results.keep(results), gr.Row(visible=found), ""


def _training(context: Context) -> str:
    """What the run that brings the first model is doing; empty when there is none."""
    job = newest_run(context)
    if job is None or job.status.ended:
        return ""
    words, bars = doing(job, context.histories.of(job), None, has_worker=True)
    on_phantoms = not (job.config or {}).get("data", {}).get("root")
    return (DRAWN if on_phantoms else "") + words + bars


def _reporter(progress: Any) -> OnProgress:
    """A bar for what takes a while."""

    def report(done: int, total: int, what: str) -> None:
        if total >= SHOWS_PROGRESS_FROM:
            progress((done, total), desc=what)

    return report
