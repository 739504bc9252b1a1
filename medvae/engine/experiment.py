"""A whole run, from a configuration to a calibrated, evaluated model with its report card.

The worker, the terminal and the tests all run this one function.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medvae.atomic import replacing
from medvae.config import Config, DataConfig
from medvae.data import transform
from medvae.data.cache import ImageSet, import_images
from medvae.data.card import write_card as write_data_card
from medvae.data.catalog import Record
from medvae.data.download import fetch_public_set
from medvae.data.leak_guard import copies_of
from medvae.data.loader import HealthyLoaders, XRayLoader, build_healthy_loaders
from medvae.data.sources import resolve_root
from medvae.data.splits import Split, from_manifest, read_manifest, split
from medvae.data.survey import make_survey, read_survey
from medvae.device import Compute, choose_compute
from medvae.distributed import ALONE, World
from medvae.engine import attempts, checkpoint
from medvae.engine.audit import audit
from medvae.engine.detector import AnomalyDetector, Detection, calibrate_model
from medvae.engine.evaluation import Evaluation, evaluate, score_test_images
from medvae.engine.events import (
    MayPublish,
    OnEvent,
    Preparing,
    ShouldStop,
    Stop,
    Stopped,
    always,
)
from medvae.engine.model_card import NAME as CARD
from medvae.engine.model_card import write_card
from medvae.engine.plots import draw_calibration, draw_histograms, draw_roc
from medvae.engine.report import most_confident_mistakes, write_report
from medvae.engine.report_card import IMAGES, draw_report_card
from medvae.engine.scores import DEFAULT_SCORE
from medvae.engine.trainer import FitResult, Trainer
from medvae.engine.tuning import fastest
from medvae.errors import CheckpointError, DataError, LeakError
from medvae.limits import MB
from medvae.workspace import Workspace

logger = logging.getLogger(__name__)

BEST = attempts.MODEL
SPLIT = "split.json"
EVALUATION = "evaluation.json"
REPORT_CARD = "report_card.png"
ROC = "roc.png"
HISTOGRAMS = "scores.png"
CALIBRATION = "calibration.png"
AUDIT = "audit.json"
REPORT = "report.html"


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run came to; `checkpoint` is None when it was cancelled or paused."""

    stopped: Stop | None
    checkpoint: Path | None = None
    best_epoch: int = 0
    best_validation_loss: float = float("nan")
    best_validation_elbo: float | None = None  # None in models of older versions
    evaluation: Evaluation | None = None
    files: list[Path] = field(default_factory=list)
    promoted: bool = False

    def summary(self) -> dict[str, Any]:
        """Plain values for the job table."""
        return {
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "best_epoch": self.best_epoch,
            "best_validation_loss": self.best_validation_loss,
            "best_validation_elbo": self.best_validation_elbo,
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
            "files": [str(file) for file in self.files],
            "promoted": self.promoted,
        }


@dataclass(frozen=True)
class EvaluationOutcome:
    """`evaluation` is None when it was stopped before."""

    evaluation: Evaluation | None
    files: list[Path]
    stopped: Stop | None = None

    def summary(self) -> dict[str, Any]:
        return {
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
            "files": [str(file) for file in self.files],
        }


def run_training(
    config: Config,
    folder: Path,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
    *,
    attempt: Path | None = None,
    may_publish: MayPublish = always,
    world: World = ALONE,
) -> TrainingOutcome:
    """Train, calibrate and evaluate one model in `folder`, or go on with the run begun there.

    A run that is finished already is not run again. One that was begun with other settings than
    `config` is refused: its name stands for them.
    attempt: where to work until the model is finished, below `folder`; by default `folder` itself.
    may_publish: says no when somebody else has taken the run over; nothing is published then.
    Leaves `best.pth`, the split manifest, the evaluation (JSON and plots), model and report card.
    Of several processes the first one does all but the training, and knows what it came to.
    Raises `MedVAEError` with a message for the user.
    """
    if (folder / BEST).exists():
        if not world.leads:
            return TrainingOutcome(None)
        content = checkpoint.load(folder / BEST, "model")
        config.check_same_run(content["config"], folder / BEST)
        attempts.clear(folder)
        return _outcome(folder, content, workspace)
    own = attempt or folder
    try:
        return _train(config, folder, own, workspace, on_event, should_stop, may_publish, world)
    except Stopped as request:
        return TrainingOutcome(request.stop)


def _train(
    config: Config,
    folder: Path,
    attempt: Path,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
    may_publish: MayPublish,
    world: World,
) -> TrainingOutcome:
    training = config.training
    manifest = _manifest_of_run(config, folder)
    compute = choose_compute(world.device(training.device), training.precision)
    with world.leader_first(lambda: _obey(should_stop)):
        images = load_images(config, workspace, on_event, should_stop)
        if manifest is None:
            divided = split(images.catalog, config.data, training.seed)
        else:
            divided = from_manifest(manifest, images.catalog)
        attempts.take_over(folder, attempt)
    world.connect(compute)
    loaders = build_healthy_loaders(
        images,
        divided,
        compute,
        batch_size=training.batch_size,
        seed=training.seed,
        augment=training.augment,
        world=world,
        least_images=training.least_images,
    )
    if manifest is None and world.leads:  # only now that the guard has let the split pass
        with replacing(folder / SPLIT) as partial:
            manifest = {**divided.manifest(), "config": config.model_dump()}
            partial.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    if training.precision == "auto":
        resumes = (attempt / attempts.RESUME_POINT).exists()
        compute = _in_fastest_format(config, loaders, compute, resumes, on_event)
    trainer = Trainer(config, loaders, compute, attempt)
    fitted = trainer.fit(on_event, should_stop)
    world.leave()
    if fitted.stopped in (Stop.CANCEL, Stop.PAUSE) or not world.leads:
        return TrainingOutcome(fitted.stopped)
    _begin("Calibrating on healthy validation images", on_event, should_stop)
    content = _model_content(config, folder.name, fitted, loaders, images, divided)
    content["compute"] = trainer.compute.choice()
    if any(record.label == "sick" for record in divided.test):
        _begin("Evaluating on the test set", on_event, should_stop)
        detector = AnomalyDetector(content, config, folder / BEST, choose_compute("auto", "fp32"))
        evaluation, _ = _evaluate_into(attempt, detector, images, divided)
        content["metrics"] = evaluation.to_json()
    checkpoint.save(attempt / BEST, "model", content)
    write_card(attempt / CARD, content)
    if not may_publish():
        return TrainingOutcome(Stop.CANCEL)
    attempts.publish(attempt, folder)
    attempts.clear(folder)
    return _outcome(folder, content, workspace, fitted.stopped)


def _in_fastest_format(
    config: Config, loaders: HealthyLoaders, compute: Compute, resumes: bool, on_event: OnEvent
) -> Compute:
    """What the first process finds out for all. A resumed run keeps what its resume point knows."""
    world = loaders.train.world
    chosen = fastest(config, loaders, compute, on_event) if world.leads and not resumes else compute
    return compute.as_chosen(json.loads(world.told("format", json.dumps(chosen.choice()))))


def run_evaluation(
    model: Path,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
    data: str | None = None,
    folder: Path | None = None,
) -> EvaluationOutcome:
    """Evaluate a checkpoint on its own test split, or on another folder of both classes.

    Everything else comes from the checkpoint alone. Raises `LeakError` when the other folder
    holds an image that the model was trained on; re-encoded or resized copies of one are left out,
    and counted.
    """
    detector = AnomalyDetector.load(model)
    try:
        images, test = load_test_set(detector, workspace, on_event, should_stop, data)
        _begin("Evaluating on the test set", on_event, should_stop)
    except Stopped as request:
        return EvaluationOutcome(None, [], request.stop)
    target = folder or model.parent
    evaluation, files = _evaluate_into(target, detector, images, test)
    on_event(Preparing("Testing for shortcuts and other machines", 0, 1))
    files += _report_into(target, detector, images, test, evaluation)
    return EvaluationOutcome(evaluation, files)


def redraw_report_card(
    model: Path,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
    out: Path | None = None,
    seed: int = 0,
) -> Path:
    """The report card of a checkpoint, with five sick test images drawn by `seed`."""
    target = out or model.parent / REPORT_CARD
    if target.suffix.lower() not in (".png", ".pdf") or target.is_dir():
        raise DataError(f"{target}: expected the name of a file that ends in .png or .pdf")
    detector = AnomalyDetector.load(model)
    images, test = load_test_set(detector, workspace, on_event, should_stop)
    metrics = detector.card.metrics
    evaluation = Evaluation.from_json(metrics) if metrics else None
    return _draw_card(detector, images, test, evaluation, target, seed)


def load_test_set(
    detector: AnomalyDetector,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
    data: str | None = None,
) -> tuple[ImageSet, Split]:
    """The images and the split that a model is tested on; `data` names another folder."""
    config = detector.config
    own = detector.content["split"]
    if data is None:
        images = load_images(config, workspace, on_event, should_stop)
        return images, from_manifest(own, images.catalog)
    other = DataConfig(**{**config.data.model_dump(), "root": data})
    config = config.model_copy(update={"data": other})
    images = load_images(config, workspace, on_event, should_stop)
    seen = {sha256 for part in ("train", "validation") for _, sha256 in own[part]}
    known = [record.path for record in images.catalog.records if record.sha256 in seen]
    if known:
        raise LeakError(
            f"{known[0]} and {len(known) - 1} other images of {data} were used to train this "
            "model; evaluate on images that it has not seen"
        )
    copies = _copies_of_seen(detector, images, workspace, on_event, should_stop)
    unseen = tuple(record for record in images.catalog.records if record not in copies)
    left_out = {"copies of images that the model learnt from": len(copies)} if copies else {}
    return images, Split("outside", 0, (), (), unseen, left_out)


def _copies_of_seen(
    detector: AnomalyDetector,
    others: ImageSet,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
) -> list[Record]:
    """The other set's images that look like one which the model was trained or calibrated on."""
    try:
        images = load_images(detector.config, workspace, on_event, should_stop)
        own = from_manifest(detector.content["split"], images.catalog)
    except DataError as error:
        logger.warning("copies of training images cannot be told from new ones: %s", error)
        return []
    _begin("Looking for copies of training images", on_event, should_stop)
    return copies_of([*own.train, *own.validation], images, others)


def load_images(
    config: Config, workspace: Workspace, on_event: OnEvent, should_stop: ShouldStop
) -> ImageSet:
    """Find or draw the configured data set and open its cache, telling how far it is."""
    drawing = _reporter("Drawing phantoms", on_event, should_stop)
    importing = _reporter("Importing images", on_event, should_stop)
    root = resolve_root(config.data, workspace, drawing)
    return import_images(config.data, root, config.model.image_size, workspace, importing)


def download_images(
    name: str, workspace: Workspace, on_event: OnEvent, should_stop: ShouldStop
) -> Path:
    """Fetch a public data set; returns where it lies. Raises `Stopped` when asked to end."""
    report = _reporter(f"Downloading {name}, megabytes", on_event, should_stop)
    report(0, 1)
    return fetch_public_set(
        name, workspace.raw, lambda done, total: report(done // MB, max(1, total // MB))
    )


def import_and_survey(
    config: Config,
    workspace: Workspace,
    on_event: OnEvent,
    should_stop: ShouldStop,
    source: str = "",
) -> Path:
    """Import the configured data set, look through it and write its card; returns their folder.

    source: see `make_survey`. Raises `Stopped` when asked to end.
    """
    images = load_images(config, workspace, on_event, should_stop)
    looking = _reporter("Looking through the images", on_event, should_stop)
    seed = config.training.seed
    folder = make_survey(config.data, images, workspace, seed, looking, source)
    write_data_card(read_survey(folder), folder)
    return folder


def sick_sample(
    detector: AnomalyDetector, images: ImageSet, test: Split, seed: int = 0
) -> list[Detection]:
    """The report card's images: five sick ones drawn by the seed, not by their score."""
    sick = [record for record in test.test if record.label == "sick"]
    order = np.random.default_rng(seed).permutation(len(sick))[:IMAGES]
    records = [sick[i] for i in order]
    inputs = [images.pixels[record.row] for record in records]
    return list(detector.detect_inputs(inputs, [record.path for record in records]))


def _obey(should_stop: ShouldStop) -> None:
    stop = should_stop()
    if stop is not None:
        raise Stopped(stop)


def _reporter(stage: str, on_event: OnEvent, should_stop: ShouldStop) -> Callable[[int, int], None]:
    def on_progress(done: int, total: int) -> None:
        _obey(should_stop)
        on_event(Preparing(stage, done, total))

    return on_progress


def _begin(stage: str, on_event: OnEvent, should_stop: ShouldStop) -> None:
    """Announce a stage that runs to its end, unless somebody asked to stop before it."""
    stop = should_stop()
    if stop in (Stop.CANCEL, Stop.PAUSE):
        raise Stopped(stop)
    on_event(Preparing(stage, 0, 1))


def _outcome(
    folder: Path, content: dict[str, Any], workspace: Workspace, stopped: Stop | None = None
) -> TrainingOutcome:
    """What the files in `folder` and its model say; the same for a run finished before."""
    names = (BEST, SPLIT, EVALUATION, CARD, REPORT_CARD, ROC, HISTOGRAMS)
    return TrainingOutcome(
        stopped,
        folder / BEST,
        content["best_epoch"],
        content["best_validation_loss"],
        content.get("best_validation_elbo"),
        Evaluation.from_json(content["metrics"]) if content["metrics"] else None,
        [folder / name for name in names if (folder / name).exists()],
        promoted=_promote_if_first(content, workspace),
    )


def _manifest_of_run(config: Config, folder: Path) -> dict[str, Any] | None:
    """The split that this run began with; None for a new one. Refuses one of other settings."""
    file = folder / SPLIT
    if not file.exists():
        return None
    manifest = read_manifest(file)
    if "config" in manifest:  # older versions did not write it
        config.check_same_run(manifest["config"], file)
    return manifest


def _model_content(
    config: Config,
    run: str,
    fitted: FitResult,
    loaders: HealthyLoaders,
    images: ImageSet,
    divided: Split,
) -> dict[str, Any]:
    """Everything a detector is rebuilt from."""
    compute = choose_compute("auto", "fp32")
    weights = fitted.best.weights

    def on_device(loader: XRayLoader) -> Callable[[], Iterator[Tensor]]:
        return lambda: (batch.to(compute.device) for batch in loader.ordered())

    calibration = calibrate_model(
        config, weights, on_device(loaders.train), on_device(loaders.validation), compute
    )
    return {
        "run": run,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "config": config.model_dump(),
        "weights": weights,
        "preprocessing": {"size": config.model.image_size, "transform": transform.VERSION},
        "calibration": calibration.to_content(),
        "data": {"root": str(images.catalog.root), "summary": images.catalog.summary()},
        "split": divided.manifest(),
        "seed": config.training.seed,
        "best_epoch": fitted.best.epoch,
        "best_validation_loss": fitted.best.loss,
        "best_validation_elbo": fitted.best.elbo,
        "history": [asdict(epoch) for epoch in fitted.history],
        "metrics": {},
        "versions": checkpoint.versions(),
    }


def _promote_if_first(content: dict[str, Any], workspace: Workspace) -> bool:
    """Give detection a model as soon as there is one; a model of real images replaces the demo.

    Any later choice is the user's.
    """
    if workspace.promoted.exists():
        try:
            current = checkpoint.load(workspace.promoted, "model")
        except CheckpointError:  # detection will say so; a finished run is no less finished
            return False
        is_demo = current["config"]["data"]["root"] is None
        if not is_demo or content["config"]["data"]["root"] is None:
            return False
    checkpoint.save(workspace.promoted, "model", content)
    return True


def _evaluate_into(
    folder: Path, detector: AnomalyDetector, images: ImageSet, test: Split
) -> tuple[Evaluation, list[Path]]:
    tested = score_test_images(detector, images, test.test)
    evaluation = evaluate(detector, tested, images.catalog.root.name, test.protocol)
    evaluation = replace(evaluation, left_out=test.left_out)
    file = folder / EVALUATION
    with replacing(file) as partial:
        partial.write_text(json.dumps(evaluation.to_json(), indent=2), encoding="utf-8")
    card = _draw_card(detector, images, test, evaluation, folder / REPORT_CARD, seed=0)
    roc = draw_roc(evaluation, tested, folder / ROC)
    return evaluation, [file, card, roc, draw_histograms(evaluation, tested, folder / HISTOGRAMS)]


def _report_into(
    folder: Path, detector: AnomalyDetector, images: ImageSet, test: Split, evaluation: Evaluation
) -> list[Path]:
    """The audit, and everything in one page; too slow to be part of each training."""
    tested = score_test_images(detector, images, test.test)
    pixels = images.pixels[[record.row for record in test.test]]
    audited = audit(detector, pixels, tested)
    file = folder / AUDIT
    with replacing(file) as partial:
        partial.write_text(json.dumps(audited.to_json(), indent=2), encoding="utf-8")
    healthy = tested.values[DEFAULT_SCORE][~tested.sick]
    p_values = np.array([detector.calibration.p_value(DEFAULT_SCORE, float(v)) for v in healthy])
    calibration = draw_calibration(evaluation, p_values, folder / CALIBRATION)
    report = write_report(
        folder / REPORT,
        detector,
        evaluation,
        tested,
        audited,
        most_confident_mistakes(detector, pixels, tested),
        [folder / ROC, folder / HISTOGRAMS, calibration],
    )
    return [file, calibration, report]


def _draw_card(
    detector: AnomalyDetector,
    images: ImageSet,
    test: Split,
    evaluation: Evaluation | None,
    path: Path,
    seed: int,
) -> Path:
    auroc = str(evaluation.auroc[evaluation.score]) if evaluation else "unknown"
    data = f"{images.catalog.root.name} ({test.protocol} test)"
    sample = sick_sample(detector, images, test, seed)
    if not sample:
        raise DataError(f"{images.catalog.root}: no sick test images to draw a report card of")
    return draw_report_card(sample, path, detector.card.run, data, auroc)
