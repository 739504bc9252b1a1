"""The files of a run that several processes may try one after the other, each in its own folder.

An attempt writes only below `RUN/attempt-N`, so that one that was given up for dead and still
lives cannot overwrite its successor's files. What it made moves to `RUN` at the end, the model
last: its presence there says that the run is finished. Knows nothing of leases: whoever calls
`publish` has made sure that the attempt is still the current one.
"""

import contextlib
import logging
from pathlib import Path

from medvae.errors import CheckpointError

logger = logging.getLogger(__name__)

MODEL = "best.pth"
RESUME_POINT = "last.pth"


def attempt_folder(run: Path, number: int) -> Path:
    return run / f"attempt-{number}"


def resume_points(run: Path) -> list[Path]:
    """Those of all attempts, and of a run begun without attempts; any of them may be damaged."""
    files = [run / RESUME_POINT, *run.glob(f"attempt-*/{RESUME_POINT}")]
    return [file for file in files if file.is_file()]


def take_over(run: Path, own: Path) -> None:
    """Move the furthest readable resume point of the run to `own`; does nothing without one.

    A rename, so that it is always in one place, whenever this process is killed. A predecessor
    that still lives writes itself a new one, which disturbs nobody.
    """
    readable = [(_progress(file), file) for file in resume_points(run)]
    position, furthest = max(readable, default=((-1, -1), own))
    if position >= (0, 0) and furthest.parent != own:
        own.mkdir(parents=True, exist_ok=True)
        furthest.replace(own / RESUME_POINT)


def publish(own: Path, run: Path) -> None:
    """Move the finished model and the files around it to the run folder."""
    made = [path for path in own.iterdir() if path.is_file() and path.name != RESUME_POINT]
    for file in sorted(made, key=lambda path: path.name == MODEL):
        file.replace(run / file.name)


def clear(run: Path) -> None:
    """Remove what a finished run does not need any more; pictures stay where they are."""
    for file in [*resume_points(run), *run.glob("attempt-*/*.partial")]:
        with contextlib.suppress(OSError):  # a leftover costs space, nothing else
            file.unlink()


def _progress(resume_point: Path) -> tuple[int, int]:
    """Epochs and steps done; (-1, -1) for a file that cannot be read."""
    from medvae.engine import checkpoint  # here, because the job queue starts no torch

    try:
        content = checkpoint.load(resume_point, "resume point")
    except CheckpointError as error:
        logger.warning("passed over: %s", error)
        return -1, -1
    return content["epoch"], content["step"]
