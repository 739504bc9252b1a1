"""What somebody wants scored: which images, into which file, with which model.

Checks that it can be begun; imports neither torch nor pyarrow, so that a page may call it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medvae.errors import CheckpointError, DataError

PLAN = "plan.json"  # in the folder of the work: what is to be done, and that it has begun
SHARD_SIZE = 1000  # images: seconds of work, so that little is lost with a worker


@dataclass(frozen=True)
class ScoreRequest:
    """`source`: a folder, or a list (see `data/listing.py`). `out`: the Parquet file to write."""

    source: Path
    out: Path
    model: Path
    target_fpr: float | None = None  # None: the model's own
    shard_size: int = SHARD_SIZE

    @property
    def csv(self) -> Path:
        """The same rows as text."""
        return self.out.with_suffix(".csv")

    def checked(self) -> "ScoreRequest":
        """Itself with absolute paths; `DataError` or `CheckpointError` for what cannot be begun."""
        source, out, model = (path.resolve() for path in (self.source, self.out, self.model))
        if not source.exists():
            raise DataError(f"{source}: no such folder or file; expected images or a list of paths")
        if source.is_file() and _is_binary(source):
            raise DataError(
                f"{source}: no text; expected a folder of images, or a text or CSV file that lists "
                "them (a single image: detect)"
            )
        if out.suffix.lower() != ".parquet" or out.is_dir():
            raise DataError(f"{out}: expected a file name ending in .parquet")
        if out.with_suffix(".csv") == source:
            raise DataError(f"{source}: the CSV of the scores would replace it; choose another out")
        if not model.is_file():
            raise CheckpointError(f"{model}: no such checkpoint; train a model first")
        return replace(self, source=source, out=out, model=model)

    def to_plain(self) -> dict[str, Any]:
        """For the job table."""
        paths = {"source": str(self.source), "out": str(self.out), "model": str(self.model)}
        return {**paths, "target_fpr": self.target_fpr, "shard_size": self.shard_size}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "ScoreRequest":
        paths = {key: Path(plain[key]) for key in ("source", "out", "model")}
        return cls(**{**plain, **paths})


def _is_binary(file: Path) -> bool:
    """As an image or an archive is: no path holds a zero byte, and they do near their start."""
    with file.open("rb") as opened:
        return b"\0" in opened.read(4096)
