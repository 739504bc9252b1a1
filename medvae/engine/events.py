"""What a run tells the outside while it goes on: small facts, no behaviour.

The trainer hands them to one callable and neither knows nor cares who listens.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, get_args


class Stop(str, Enum):
    """Why a run is asked to end before its last epoch."""

    CANCEL = "cancel"  # throw the run away
    KEEP = "keep"  # end now, keep the best weights so far as a finished model
    PAUSE = "pause"  # save a resume point; somebody will go on from it


class Stopped(Exception):
    """A stop was requested where there is nothing to hand back but the request."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop


@dataclass(frozen=True)
class Preparing:
    """Work before the first step; `done` of `total` images so far."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class FormatChosen:
    """How the run will compute, such as "bf16, channels last", and what came of each candidate.

    None were tried where the run is too short for that.
    """

    format: str
    tried: dict[str, str]


@dataclass(frozen=True)
class RunStarted:
    device: str
    precision: str
    parameters: int
    train_images: int
    validation_images: int
    epochs: int
    steps_per_epoch: int
    resumed_at_step: int


@dataclass(frozen=True)
class Progress:
    """Means over the epoch so far; `step` counts from 1 within the epoch, `epoch` from 1.

    waiting: share of the epoch's time, 0..1, in which the trainer waited for images. busy and
    memory_mb: see `medvae.telemetry.Reading`; None where nobody can tell.
    """

    epoch: int
    epochs: int
    step: int
    steps_per_epoch: int
    loss: float
    mse: float
    kld: float
    images_per_second: float
    seconds_left: float
    waiting: float | None = None
    busy: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True)
class EpochEnded:
    """Training and validation means of one epoch, in nats-like units per image (see loss.py)."""

    epoch: int
    epochs: int
    loss: float
    mse: float
    kld: float
    validation_loss: float
    validation_mse: float
    validation_kld: float
    best: bool
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class SamplesDrawn:
    """A strip of validation images above their reconstructions; path of the PNG."""

    epoch: int
    path: str


@dataclass(frozen=True)
class CheckpointSaved:
    path: str


@dataclass(frozen=True)
class RunEnded:
    """`stopped` is None when all epochs were run."""

    stopped: Stop | None
    epochs_run: int
    best_epoch: int
    best_validation_loss: float
    seconds: float


Event = (
    Preparing
    | FormatChosen
    | RunStarted
    | Progress
    | EpochEnded
    | SamplesDrawn
    | CheckpointSaved
    | RunEnded
)
OnEvent = Callable[[Event], None]
ShouldStop = Callable[[], Stop | None]
MayPublish = Callable[[], bool]  # asked once, right before a finished model is put in its place


def ignore(event: Event) -> None:
    """The listener for those who only want the result."""


def never() -> Stop | None:
    """The `should_stop` of a run that nobody can interrupt."""
    return None


def always() -> bool:
    """The `may_publish` of a run that nobody else may have taken over."""
    return True


_KINDS = {cls.__name__: cls for cls in get_args(Event)}


def to_record(event: Event) -> dict[str, Any]:
    """Plain values for JSON, with the event's class under `kind`."""
    return {"kind": type(event).__name__, **asdict(event)}


def from_record(record: dict[str, Any]) -> Event:
    """The inverse of `to_record`."""
    values = {key: value for key, value in record.items() if key != "kind"}
    if values.get("stopped") is not None:
        values["stopped"] = Stop(values["stopped"])
    event: Event = _KINDS[record["kind"]](**values)
    return event
