"""Where the program keeps what it writes. One object, so that a test can point it elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path

from medvae.errors import ConfigError

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"
LONGEST_NAME = 100  # bytes; of the 255 that file systems take, some must be left for endings


@dataclass(frozen=True)
class Workspace:
    """The folders below `home`; none is created before somebody writes into it."""

    home: Path

    @classmethod
    def current(cls) -> "Workspace":
        """The folder named by `MEDVAE_HOME`, else the project folder itself."""
        return cls(Path(os.environ.get("MEDVAE_HOME") or PROJECT).expanduser().resolve())

    @property
    def raw(self) -> Path:
        """Data sets that the program unpacked or made."""
        return self.home / "data" / "raw"

    @property
    def processed(self) -> Path:
        """Decoded images, one folder a data set and transform."""
        return self.home / "data" / "processed"

    @property
    def state(self) -> Path:
        """The job table and the queue."""
        return self.home / "data" / "state"

    @property
    def uploads(self) -> Path:
        """What visitors uploaded, for a while: see `upload_seconds` in limits.py."""
        return self.home / "data" / "uploads"

    @property
    def checkpoints(self) -> Path:
        """One folder a run, and the promoted model."""
        return self.home / "checkpoints"

    @property
    def promoted(self) -> Path:
        """The model that detection uses when none is named."""
        return self.checkpoints / "vae_m4_best.pth"

    def run_folder(self, run: str) -> Path:
        """Where a run keeps its files. Raises `ConfigError` for a name that is no folder's."""
        plain = run.isprintable() and not run.startswith(".") and not set("/\\") & set(run)
        if not (plain and run.strip() and len(run.encode()) <= LONGEST_NAME):
            raise ConfigError(
                f"{run[:LONGEST_NAME]!r}: cannot be the name of a run; expected a plain folder "
                f"name of at most {LONGEST_NAME} bytes"
            )
        if run.lower() == self.promoted.name:
            raise ConfigError(f"{run}: the name of the model in use; give the run another one")
        return self.checkpoints / run

    def job_folder(self, job: str) -> Path:
        """Where a job of the table works: a run's folder, or one below it (`RUN/shards/000001`)."""
        run, *below = job.split("/")
        return self.run_folder(run).joinpath(*below)
