"""The only entry point: without a command the page and its worker, with one everything else.

Turns errors meant for the user into one line and exit code 2. Imports the heavy parts inside
the commands that need them, so that `--help` is instant.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jobs.failures import foreseen
from medvae.config import Config, DataConfig, parse_overrides
from medvae.errors import ConfigError, MedVAEError
from medvae.workspace import Workspace

if TYPE_CHECKING:
    from medvae.engine.events import OnEvent, ShouldStop

app = typer.Typer(
    help="Learns healthy chest X-rays and shows where another one differs. Research use only.",
    invoke_without_command=True,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Bring images in, or draw some.", no_args_is_help=True)
app.add_typer(data_app, name="data")

DataOption = Annotated[
    str | None, typer.Option("--data", help="Folder with NORMAL and PNEUMONIA images.")
]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Checkpoint; default: the promoted model.")
]
FprOption = Annotated[
    float | None,
    typer.Option(min=0.001, max=0.5, help="Share of healthy images that may be called unusual."),
]
QueueOption = Annotated[
    bool, typer.Option("--queue", help="Hand it to the workers instead of running it here.")
]
ConfigOption = Annotated[str, typer.Option("--config", help="Preset name or YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: training.epochs=5")
]


@app.callback()
def page(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Also make a public link.")] = False,
    data: DataOption = None,
    demo: Annotated[
        bool, typer.Option(help="Train a quick model on phantoms at the first start.")
    ] = True,
    device: Annotated[
        str | None, typer.Option(help="A worker for each of: cuda:0,cuda:1; none: no worker here.")
    ] = None,
    auth: Annotated[
        list[str] | None,
        typer.Option(help="NAME:PASSWORD of an operator; required with --share or a public host."),
    ] = None,
    viewer: Annotated[
        list[str] | None, typer.Option(help="NAME:PASSWORD of somebody who may only detect.")
    ] = None,
) -> None:
    """Start the page and its worker."""
    if context.invoked_subcommand is None:
        from jobs.locks import lock_page

        workspace = Workspace.current()
        with lock_page(workspace) as lock:  # first, so that a second page is told at once
            from ui.app import serve

            serve(workspace, host, port, share, data, demo, device, auth, viewer, lock.describe)


@app.command()
def train(
    data: DataOption = None,
    config: ConfigOption = "default",
    changes: SetOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; a known one resumes.")] = None,
    queue: QueueOption = False,
) -> None:
    """Train a model on healthy images, calibrate it, evaluate it."""
    workspace = Workspace.current()
    if queue:
        from jobs.service import JobService

        settings = _training_settings(config, data, changes)
        job = JobService(workspace).submit(settings, name=name)
        print(f"queued as {job}; follow it with: python main.py runs")
        return
    from medvae.distributed import join
    from medvae.engine.console import ConsoleProgress
    from medvae.engine.events import Stop, ignore
    from medvae.engine.experiment import BEST, run_training

    with join() as world, ConsoleProgress() as progress, _interruptible() as should_stop:
        settings = _training_settings(config, data, changes)
        run = world.told("run", name or time.strftime("run-%Y%m%d-%H%M%S"))
        folder, on_event = workspace.run_folder(run), progress if world.leads else ignore
        finished = (folder / BEST).exists()
        outcome = run_training(settings, folder, workspace, on_event, should_stop, world=world)
    if not world.leads:
        raise typer.Exit(130 if outcome.stopped is Stop.PAUSE else 0)
    if outcome.stopped is Stop.PAUSE:
        print(f"stopped; go on with the same command and --name {run}")
        raise typer.Exit(130)
    if finished:
        print(f"run {run} was finished before with these settings; nothing was trained now")
    if outcome.evaluation:
        print(outcome.evaluation.summary())
    else:
        print("not evaluated: the data set holds no sick images to test with")
    _print_files(outcome.files)
    if outcome.promoted:
        print(f"promoted to {workspace.promoted}")
    else:
        print(f"not promoted: a model is in use; replace it with: python main.py promote {run}")


@app.command()
def sweep(
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", help="What to try: loss.beta=0.5,1,2; with --random also LOW..HIGH."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--random", help="Random search of so many runs.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random search.", min=0)] = 0,
    data: DataOption = None,
    config: ConfigOption = "default",
    changes: SetOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep.")] = None,
) -> None:
    """Queue a training for each combination of settings."""
    from jobs.service import JobService
    from jobs.sweeps import SweepPlan

    plan = SweepPlan.parse(values or [], trials, seed)
    service = JobService(Workspace.current())
    job = service.submit_sweep(_training_settings(config, data, changes), plan, name=name)
    print(
        f"queued {len(service.ranking(job))} runs; compare them with: python main.py ranking {job}"
    )


@app.command()
def ranking(sweep_id: Annotated[str, typer.Argument(help="Id of a sweep.")]) -> None:
    """List the runs of a sweep, the best on healthy validation images first."""
    from jobs.service import JobService

    print("validation MSE + KLD at beta 1 (lower is better), without any sick or test image")
    for trial in JobService(Workspace.current()).ranking(sweep_id):
        print(trial.line())


@app.command()
def evaluate(model: ModelOption = None, data: DataOption = None) -> None:
    """Repeat a model's figures from its checkpoint alone, or on another folder."""
    from medvae.engine.console import ConsoleProgress
    from medvae.engine.experiment import run_evaluation

    workspace = Workspace.current()
    path = model or workspace.promoted
    folder = path.parent / f"{path.stem}-on-{Path(data).resolve().name}" if data else _home_of(path)
    with ConsoleProgress() as progress, _interruptible() as should_stop:
        outcome = run_evaluation(path, workspace, progress, should_stop, data, folder)
    if outcome.evaluation is None:
        raise KeyboardInterrupt
    print(outcome.evaluation.summary())
    _print_files(outcome.files)


@app.command()
def detect(
    files: Annotated[list[Path], typer.Argument(help="Images to look at.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the table.")],
    model: ModelOption = None,
    target_fpr: FprOption = None,
) -> None:
    """Score images; write each one's heatmap and a table of scores."""
    from medvae.engine.console import ConsoleProgress
    from medvae.engine.detection_files import detect_files
    from medvae.engine.detector import AnomalyDetector

    detector = AnomalyDetector.load(model or Workspace.current().promoted)
    with ConsoleProgress() as progress:
        written = detect_files(detector, files, out, progress, target_fpr)
    for line in written.lines:
        print(line)
    _print_files([written.table])
    if written.unreadable:
        raise MedVAEError(f"{written.unreadable} of {len(files)} files could not be read")


@app.command()
def score(
    source: Annotated[
        Path, typer.Argument(help="Folder of images, or a text or CSV file that lists them.")
    ],
    out: Annotated[Path, typer.Option(help="Parquet file to write; a CSV goes beside it.")],
    model: ModelOption = None,
    target_fpr: FprOption = None,
    queue: QueueOption = False,
) -> None:
    """Score any number of images into one table. Interrupted, the same command goes on."""
    from medvae.engine.score_request import ScoreRequest

    workspace = Workspace.current()
    request = ScoreRequest(source, out, model or workspace.promoted, target_fpr)
    if queue:
        from jobs.service import JobService

        job = JobService(workspace).submit_score(request)
        print(f"queued as {job}; follow it with: python main.py runs")
        return
    from medvae.engine.archive import score_here
    from medvae.engine.console import ConsoleProgress
    from medvae.engine.events import Stopped

    with ConsoleProgress() as progress, _interruptible() as should_stop:
        try:
            summary = score_here(request, progress, should_stop)
        except Stopped:
            print("stopped; go on with the same command")
            raise typer.Exit(130) from None
    print(
        "{images} images: {unusual} unusual, {unreadable} unreadable; model {model}; "
        "research use only".format(**summary)
    )
    _print_files([Path(file) for file in summary["files"]])


@app.command("report-card")
def report_card(
    model: ModelOption = None,
    out: Annotated[Path | None, typer.Option(help="PNG or PDF to write.")] = None,
    seed: Annotated[int, typer.Option(help="Which five sick images are drawn.", min=0)] = 0,
) -> None:
    """Draw five sick images, their healthy counterparts and their heatmaps."""
    from medvae.engine.console import ConsoleProgress
    from medvae.engine.experiment import redraw_report_card

    workspace = Workspace.current()
    path = model or workspace.promoted
    with ConsoleProgress() as progress, _interruptible() as should_stop:
        card = redraw_report_card(path, workspace, progress, should_stop, out, seed)
    _print_files([card])


@app.command()
def promote(run: Annotated[str, typer.Argument(help="Name of a finished run.")]) -> None:
    """Make a finished run the model that detection uses."""
    from medvae.engine.checkpoint import promote as promote_file
    from medvae.engine.experiment import BEST

    workspace = Workspace.current()
    print(f"promoted to {promote_file(workspace.run_folder(run) / BEST, workspace)}")


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Name of a finished run.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Only the network, as ONNX, checked in ONNX Runtime.")
    ] = False,
) -> None:
    """Write a run as one ZIP: model, settings, figures, card, hashes."""
    folder = Workspace.current().run_folder(run)
    if onnx:
        from medvae.engine.attempts import MODEL
        from medvae.engine.onnx_export import export_onnx

        _print_files([export_onnx(folder / MODEL, out)])
        return
    from medvae.engine.bundle import export_run

    _print_files([export_run(folder, out)])


@app.command("import-bundle")
def import_bundle(
    archive: Annotated[Path, typer.Argument(help="ZIP that an export wrote.")],
) -> None:
    """Check a bundle and list it as a run; nothing of it is run."""
    from jobs.service import JobService

    run = JobService(Workspace.current()).import_bundle(archive)
    print(f"imported as {run}; use it with: python main.py promote {run}")


@app.command()
def worker(
    device: Annotated[str | None, typer.Option(help="mps, cuda:1, cpu; default: auto.")] = None,
    watch_stdin: Annotated[
        bool, typer.Option("--watch-stdin", hidden=True, help="End when standard input closes.")
    ] = False,
) -> None:
    """Run queued jobs until stopped."""
    from jobs.worker import run_worker

    run_worker(Workspace.current(), device, watch_stdin)


@app.command()
def runs(
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=10_000)] = 20,
) -> None:
    """List jobs with their status and figures."""
    from jobs.service import JobService

    jobs = JobService(Workspace.current()).jobs(limit=limit)
    if not jobs:
        print("no jobs yet; queue one with: python main.py train --queue, or on the page")
    for job in jobs:
        print(job.line())


@data_app.command("import")
def import_data(
    path: Annotated[
        Path, typer.Argument(help="Folder, ZIP, TAR, NPZ, or a CSV or JSON list of images.")
    ],
    source: Annotated[
        str, typer.Option(help="Where the images are from, and their licence: for the data card.")
    ] = "",
    changes: SetOption = None,
) -> None:
    """Decode a data set once, and say what is in it and whether it is fit to train on."""
    from medvae.data.card import CARD
    from medvae.data.sources import unpack_tar
    from medvae.data.stores import PACKED_TARS
    from medvae.engine.console import ConsoleProgress
    from medvae.engine.experiment import import_and_survey

    workspace = Workspace.current()
    with ConsoleProgress() as progress, _interruptible() as should_stop:
        if path.name.lower().endswith(PACKED_TARS):
            path = unpack_tar(path, workspace, _told(progress, "Unpacking"))
        settings = _settings("default", str(path), changes)
        folder = import_and_survey(settings, workspace, progress, should_stop, source)
    card = folder / CARD
    print(card.read_text(encoding="utf-8"))
    _print_files([card])
    print(f"train with: python main.py train --data {path}")


@data_app.command("download")
def download_data(
    name: Annotated[Literal["kaggle", "medmnist"], typer.Argument(help="kaggle or medmnist.")],
) -> None:
    """Fetch a public data set. Interrupted, the same command goes on."""
    from tqdm import tqdm

    from medvae.data.download import MEDMNIST, fetch_public_set

    total = MEDMNIST.size if name == "medmnist" else None
    with tqdm(desc=name, total=total, unit="B", unit_scale=True) as bar:
        path = fetch_public_set(
            name, Workspace.current().raw, lambda done, _: bar.update(done - bar.n)
        )
    _print_files([path])
    print(f"import with: python main.py data import {path}")


@data_app.command("phantom")
def phantom(
    count: Annotated[int, typer.Option(help="How many images.", min=40)] = 600,
) -> None:
    """Draw a data set of procedural chest X-rays with known lesions."""
    from medvae.data.sources import resolve_root
    from medvae.engine.console import ConsoleProgress

    with ConsoleProgress() as progress:
        folder = resolve_root(
            DataConfig(phantoms=count),
            Workspace.current(),
            _told(progress, "Drawing phantoms"),
        )
    _print_files([folder])


def _told(progress: "OnEvent", stage: str) -> Callable[[int, int], None]:
    """What counts (done, total), as events of a stage."""
    from medvae.engine.events import Preparing

    return lambda done, total: progress(Preparing(stage, done, total))


def _settings(config: str, data: str | None, changes: list[str] | None) -> Config:
    overrides: dict[str, Any] = parse_overrides(changes or [])
    if data is not None:
        overrides["data.root"] = data
    return Config.load(config).override(overrides)


def _training_settings(config: str, data: str | None, changes: list[str] | None) -> Config:
    """The same, with images that somebody named: drawn ones only for who asks for them."""
    settings = _settings(config, data, changes)
    if settings.data.root is None and "data.phantoms" not in parse_overrides(changes or []):
        raise ConfigError(
            "no images to train on: name a data set with --data PATH, or take drawn ones with "
            f"--set data.phantoms={settings.data.phantoms}"
        )
    return settings


@contextmanager
def _interruptible() -> "Iterator[ShouldStop]":
    """The first Ctrl-C or SIGTERM asks the run to save and end; a second one ends it at once."""
    from medvae.engine.events import Stop, Stopped

    asked: list[Stop] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(Stop.PAUSE)

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked[0] if asked else None
    except Stopped:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _home_of(model: Path) -> Path | None:
    """An evaluation goes beside a run's best.pth; another file gets a folder of its own."""
    from medvae.engine.experiment import BEST

    return None if model.name == BEST else model.with_suffix("")


def _print_files(files: list[Path]) -> None:
    for file in files:
        print(f"wrote {file}")


def main() -> None:
    """Run the program; errors meant for the user become one line and exit code 2."""
    if isinstance(sys.stdout, TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        line = foreseen(error, None, Workspace.current().home)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
