"""How long a training will take on this machine, judged by its own last runs.

Pure functions from jobs and histories to words.
"""

from collections.abc import Callable, Sequence
from statistics import median

from jobs.views import JobView, Status
from medvae.config import Config
from ui.history import RunHistory
from ui.views import duration

ALIKE = (("data", "root"), ("data", "phantoms"), ("model", "image_size"), ("model", "width"))


def time_estimate(
    config: Config, jobs: Sequence[JobView], history_of: Callable[[JobView], RunHistory]
) -> str:
    """ "About 3 min, …", from the newest finished run of the same data and network size."""
    for job in jobs:
        if job.kind != "train" or job.status is not Status.SUCCEEDED or not _alike(config, job):
            continue
        epochs = history_of(job).epochs.values()
        if epochs and job.seconds:
            each = median(epoch.seconds for epoch in epochs)
            around = max(0.0, job.seconds - sum(epoch.seconds for epoch in epochs))
            whole = duration(around + each * config.training.epochs)
            return f"About {whole} on this machine: {job.name} took {each:.1f} s an epoch."
    return "No estimate: nothing like it has been trained on this machine yet."


def _alike(config: Config, job: JobView) -> bool:
    wanted, had = config.model_dump(), job.config or {}
    return all(wanted[part][key] == had.get(part, {}).get(key) for part, key in ALIKE)
