"""What is to be scored, written down once: the list of images in shards, and a copy of the model.

Scores nothing. All files appear whole or not at all; the plan itself comes last.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from medvae.atomic import replacing
from medvae.data.listing import list_images
from medvae.engine.events import OnEvent, Preparing, ShouldStop, Stopped, ignore, never
from medvae.engine.score_request import PLAN, ScoreRequest
from medvae.errors import DataError

MODEL = "model.pth"
SHARDS = "shards"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Archive:
    """What is to be scored, kept in `folder` beside a copy of the model and the shards."""

    folder: Path
    source: str
    out: str
    target_fpr: float | None  # None: the model's own
    model_sha256: str
    images: int
    shards: int

    @classmethod
    def open(cls, folder: Path) -> "Archive | None":
        """The plan in `folder`, or None where there is none yet."""
        try:
            plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(folder, **plan)

    def is_for(self, request: ScoreRequest) -> bool:
        """Whether going on with this plan gives what is asked for."""
        wanted = (str(request.source), str(request.out), request.target_fpr)
        same = (self.source, self.out, self.target_fpr) == wanted
        return same and self.model_sha256 == _sha256(request.model)

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    def missing(self) -> list[int]:
        """Numbers of the shards without a result; none once all are merged."""
        if self.summary_file.exists():
            return []
        return [n for n in range(self.shards) if not self.result_file(n).exists()]

    def paths(self, number: int) -> list[str]:
        """The images of one shard."""
        paths: list[str] = json.loads(_list_file(self.folder, number).read_text(encoding="utf-8"))
        return paths

    def result_file(self, number: int) -> Path:
        return _list_file(self.folder, number).with_suffix(".parquet")

    @property
    def shard_folder(self) -> Path:
        return self.folder / SHARDS

    @property
    def summary_file(self) -> Path:
        """Written when all shards are merged."""
        return self.folder / SUMMARY


def plan_archive(
    folder: Path,
    request: ScoreRequest,
    on_event: OnEvent = ignore,
    should_stop: ShouldStop = never,
) -> Archive:
    """Write down in `folder` what is to be scored with which model, or take up what is there.

    Raises `DataError` when there is no image, or `folder` holds the plan of something else;
    `Stopped` when asked to.
    """
    request = request.checked()
    known = Archive.open(folder)
    if known is not None:
        if not known.is_for(request):
            raise DataError(
                f"{folder}: holds unfinished work on {known.source} with other settings or another "
                "model; remove that folder, or choose another output file"
            )
        return known
    images, shards = _write_lists(folder, request, on_event, should_stop)
    with writing(folder / MODEL) as partial:
        shutil.copyfile(request.model, partial)
    archive = Archive(
        folder,
        str(request.source),
        str(request.out),
        request.target_fpr,
        _sha256(folder / MODEL),
        images,
        shards,
    )
    with writing(folder / PLAN) as partial:
        plan = {key: value for key, value in asdict(archive).items() if key != "folder"}
        partial.write_text(json.dumps(plan, indent=1), encoding="utf-8")
    return archive


def _write_lists(
    folder: Path, request: ScoreRequest, on_event: OnEvent, should_stop: ShouldStop
) -> tuple[int, int]:
    """The paths of each shard in a file of its own; returns how many images and shards."""
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    images = shards = 0
    paths = list_images(request.source)
    while shard := list(islice(paths, request.shard_size)):
        if (stop := should_stop()) is not None:
            raise Stopped(stop)
        with writing(_list_file(folder, shards)) as partial:
            partial.write_text(json.dumps(shard), encoding="utf-8")
        images, shards = images + len(shard), shards + 1
        on_event(Preparing("Listing images", images, images))
    if not images:
        raise DataError(
            f"{request.source}: names no image; expected image files, or a list of paths"
        )
    return images, shards


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """`replacing`, with its errors in words."""
    try:
        with replacing(file) as partial:
            yield partial
    except OSError as error:
        raise DataError(
            f"{file}: cannot be written ({error.strerror or error}); what is scored so far is kept"
        ) from error


def _list_file(folder: Path, number: int) -> Path:
    return folder / SHARDS / f"{number:06d}.json"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
