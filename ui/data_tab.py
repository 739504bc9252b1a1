"""The Data tab: bring images in, and see what is in each set and whether it may be trained on.

An import is a job, so it goes on when the page is closed. The chosen set is the one in the URL.
"""

import contextlib
import shutil
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gradio as gr

from jobs.views import JobView, Status
from medvae.config import Config, DataConfig
from medvae.data.cache import INDEX, imported_roots
from medvae.data.sources import resolve_root
from medvae.data.stores import ARCHIVES
from medvae.data.survey import SURVEY, Survey, read_survey, surveyed_folders
from medvae.engine.events import Stop
from medvae.errors import DataError, MedVAEError
from ui import data_views as views
from ui.context import Context, patient, told
from ui.history import RunHistory
from ui.paths import typed_path
from ui.permission import allowed
from ui.theme import canvas
from ui.train_tab import stop_run
from ui.views import notice

PERIOD = 2.0
LOOKED_THROUGH = 200  # jobs, for the newest import among them
DEFAULTS = DataConfig()
PUBLIC = [("PneumoniaMNIST, 75 MB", "medmnist"), ("Kaggle's Chest X-Ray Images, 2.5 GB", "kaggle")]
PUBLIC_HELP = (
    "From zenodo.org or kaggle.com; a line that breaks is taken up again. Kaggle wants your key in "
    "~/.kaggle/kaggle.json."
)


def build_data_tab(context: Context, tab: gr.Tab, images: gr.Textbox) -> None:
    """Ways in at the left, sets at the right. `images`: the id of the set that the URL names."""
    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=0, min_width=300, elem_classes="controls"):
            ways = _build_ways()
        with gr.Column(scale=1, min_width=320, elem_id="data-live"):
            status = canvas(elem_id="import-status")
            with gr.Row(elem_classes="actions"):
                stop = gr.Button("Stop import", elem_id="stop-import", visible=False)
            table = canvas(elem_id="sets")
            details = canvas(elem_id="set-details")
    importing = gr.Textbox("", visible=False)  # the job that the status tells of
    seen = gr.Textbox("", visible=False)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    live: dict[str, Any] = {
        "fn": partial(show_data, context),
        "inputs": [images, seen],
        "outputs": [status, stop, importing, table, details, seen],
        "trigger_mode": "once",
    } | quiet
    gr.Timer(PERIOD).tick(**live)
    tab.select(**live)
    images.change(**live | {"trigger_mode": "always_last"})
    labels = [ways["normal"], ways["sick"]]
    ways["go"].click(partial(import_folder, context), [ways["path"], *labels], **quiet).then(**live)
    ways["fetch"].click(partial(download_set, context), ways["public"], **quiet).then(**live)
    ways["draw"].click(partial(draw_phantoms, context), ways["phantoms"], **quiet).then(**live)
    ways["archive"].upload(
        partial(import_archive, context),
        [ways["archive"], *labels],
        ways["archive"],
        api_visibility="private",
    ).then(**live)
    stop.click(
        partial(stop_run, context, Stop.CANCEL), importing, js="medvae.confirmStopImport", **quiet
    ).then(**live)


def _build_ways() -> dict[str, Any]:
    """A folder, an archive, a public set, phantoms; and the names of the two label folders."""
    canvas('<h2 class="step">Import a folder</h2>')
    path = gr.Textbox(
        "",
        label="Folder on this computer",
        info="With folders NORMAL and PNEUMONIA in it, or train, val and test with these. A ZIP, "
        "TAR, NPZ or a list (CSV, JSON) will do, too.",
        placeholder="/path/to/chest_xray",
        elem_id="import-path",
    )
    with gr.Accordion("Folders with other names", open=False, elem_id="import-labels"):
        normal = gr.Textbox(DEFAULTS.normal, label="Healthy images", elem_id="import-normal")
        sick = gr.Textbox(DEFAULTS.sick, label="Sick images", elem_id="import-sick")
    go = gr.Button("Import folder", variant="primary", elem_id="import-go")
    canvas('<h2 class="step">Or upload an archive of one</h2>')
    archive = gr.File(
        file_types=list(ARCHIVES),
        show_label=False,
        label="Archive",
        elem_id="import-archive",
        height=150,
    )
    canvas('<h2 class="step">Or download a public set</h2>')
    public = gr.Dropdown(
        PUBLIC, value="medmnist", label="Set", info=PUBLIC_HELP, elem_id="public-set"
    )
    fetch = gr.Button("Download and import", elem_id="download-set")
    canvas('<h2 class="step">Or draw phantoms</h2>')
    phantoms = gr.Number(
        DEFAULTS.phantoms,
        label="How many",
        info="Drawn X-rays, a part of them with lesions whose place is known.",
        precision=0,
        elem_id="phantom-count",
    )
    draw = gr.Button("Draw phantoms", elem_id="draw-phantoms")
    return {
        "path": path, "normal": normal, "sick": sick, "go": go,
        "archive": archive, "public": public, "fetch": fetch, "phantoms": phantoms, "draw": draw,
    }  # fmt: skip


@told
@allowed("operator")
def import_folder(context: Context, path: str, normal: str, sick: str) -> None:
    """Queue the import of a folder, archive or list of this computer."""
    if not path or not path.strip():
        raise DataError("the folder is empty: name one with NORMAL and PNEUMONIA images")
    _queue(context, typed_path(path), normal, sick)


@told
@allowed("operator")
def import_archive(context: Context, uploaded: str | None, normal: str, sick: str) -> None:
    """Keep a copy of an uploaded archive, which is read where it lies, and queue its import."""
    if not uploaded:
        return
    archive = Path(uploaded)
    kept = context.workspace.raw / archive.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        copy = kept.open("xb")
    except FileExistsError:
        text = f"{archive.name} was uploaded before; rename it, or import {kept}"
        raise DataError(text) from None
    try:
        with copy, archive.open("rb") as content:
            shutil.copyfileobj(content, copy)
        _queue(context, kept, normal, sick)
    except MedVAEError:
        kept.unlink()
        raise
    except OSError as error:
        kept.unlink()
        raise DataError(f"{archive.name}: not kept ({error.strerror}); upload it again") from None


@told
@allowed("operator")
def download_set(context: Context, name: str) -> None:
    """Queue the download and the import of a public data set."""
    context.service.submit_download(name)


@told
@allowed("operator")
def draw_phantoms(context: Context, number: int | None) -> None:
    """Queue the drawing of phantoms."""
    if number is None:
        raise DataError("how many phantoms is empty; expected 40 or more")
    context.service.submit_import(_config(phantoms=number))


@patient
def show_data(context: Context, chosen: str, seen: str) -> Any:
    """Import status, its stop button and job; sets; details of the chosen one; a token."""
    job = newest_import(context)
    history = RunHistory() if job is None else context.histories.of(job)
    has_worker = any(worker.alive for worker in context.service.workers())
    position = None if job is None else context.service.queue_position(job.id)
    status = views.import_status(job, history, position, has_worker)
    surveys = known_sets(context)
    shown = chosen or next(iter(surveys), "")
    looked_at = {survey.root for survey in surveys.values()}
    others = [root for root in imported_roots(context.workspace) if str(root) not in looked_at]
    table = views.sets_table(surveys, shown) + views.not_looked_through(others)
    details = _details(context, surveys, shown)
    tokens = [str(hash(part)) for part in (status, table, details)]
    if tokens == seen.split("|"):
        return gr.skip()
    known = [*seen.split("|"), "", "", ""]
    open_ = job is not None and not job.status.ended and job.stop is None
    return (
        status if tokens[0] != known[0] else gr.skip(),
        gr.Button(visible=open_),
        "" if job is None else job.id,
        table if tokens[1] != known[1] else gr.skip(),
        details if tokens[2] != known[2] else gr.skip(),
        "|".join(tokens),
    )


def newest_import(context: Context) -> JobView | None:
    """The import that runs, else the newest one."""
    running = context.service.jobs(LOOKED_THROUGH, [Status.RUNNING])
    jobs = [*running, *context.service.jobs(LOOKED_THROUGH)]
    return next((job for job in jobs if job.kind == "import"), None)


def known_sets(context: Context) -> dict[str, Survey]:
    """Surveys by the id of their set, the newest first; a damaged one is left out."""
    found = {}
    for folder in surveyed_folders(context.workspace):
        with contextlib.suppress(MedVAEError, OSError):
            times = tuple((folder / name).stat().st_mtime_ns for name in (SURVEY, INDEX))
            found[folder.name] = _survey(folder, times)
    return found


@lru_cache(maxsize=64)
def _survey(folder: Path, modified_ns: tuple[int, ...]) -> Survey:
    return read_survey(folder)


def _details(context: Context, surveys: dict[str, Survey], name: str) -> str:
    if not name:
        return ""
    if name not in surveys:
        return notice("No such data set", "It was removed, or never looked through.")
    return views.set_details(surveys[name], context.workspace.processed / name)


def _queue(context: Context, root: Path, normal: str, sick: str) -> None:
    """Queue an import, unless it is plain already that there is nothing to import."""
    config = _config(root=str(root), normal=normal, sick=sick)
    resolve_root(config.data, context.workspace, lambda done, total: None)
    context.service.submit_import(config)


def _config(**data: Any) -> Config:
    """The reference configuration on other images. Raises `ConfigError`."""
    return Config.parse({"data": data}, "import")
