"""The files of a run: its log and model card as text, and where each of them lies."""

import re
from pathlib import Path

from jobs.service import JobService
from jobs.views import JobView
from medvae.errors import JobError
from medvae.workspace import Workspace

LOG_LINES = 200
_TAIL_BYTES = 64 * 1024


def log_tail(service: JobService, job: JobView) -> str:
    """The last lines of a job's log; empty before it has begun."""
    file = service.log_file(job.id)
    if not file.is_file():
        return ""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


def card_text(folder: Path) -> str:
    """The model card of a finished run, its headings a level lower. Raises `CheckpointError`."""
    from medvae.engine.bundle import card_of  # late: it starts torch

    return re.sub(r"^#", "##", card_of(folder), flags=re.MULTILINE)


def files_of(workspace: Workspace, job: JobView) -> dict[str, Path]:
    """By name: what lies in the job's folder, and what it wrote elsewhere."""
    folder = workspace.job_folder(job.id)
    own = sorted(folder.iterdir()) if folder.is_dir() else []
    written = [Path(path) for path in (job.result or {}).get("files", [])]
    return {p.name: p for p in [*written, *own] if p.is_file() and p.suffix != ".partial"}


def find_file(workspace: Workspace, job: JobView, name: str | None) -> Path:
    """One of them. Raises `JobError` for a file that the job does not have."""
    file = files_of(workspace, job).get(name or "")
    if file is None:
        raise JobError(f"job {job.id} has no file {name!r}; choose one of the list")
    return file
