"""Kills workers at every bad moment while they train, and looks at what is left.

Real worker processes run real trainings, two at a time, on one SQLite job table; each is ended by
SIGKILL: between claim and first event, inside the write of a resume point, during calibration,
while the model is published, after that but before the job table knows, and anywhere else. Then
every job must have completed once, with weights equal bit for bit to those of a run that nobody
disturbed, and no checkpoint may ever have been unreadable.

    python -m benchmarks.chaos --kills 100
"""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.doomed import MOMENTS
from jobs.service import JobService
from jobs.views import JobView, Status
from medvae.config import Config
from medvae.engine import checkpoint
from medvae.engine.attempts import MODEL, resume_points
from medvae.engine.events import ignore, never
from medvae.engine.experiment import run_training
from medvae.errors import CheckpointError
from medvae.workspace import PROJECT, Workspace

TIMING = ("--lease=2", "--heartbeat=0.2", "--housekeeping=0.3", "--lost_nudge=1", "--grace=5")
SEEDS = 2  # different trainings; each job is one of them
AT_WORK = 2  # jobs that are kept unfinished while the killing goes on
LONGEST_LIFE = 30.0  # seconds; a worker that its moment did not find is killed then
PEACE = 600.0  # seconds; unless a job is lost, its end comes far earlier
TRIES = 10_000
COUNT_COMPLETIONS = """
    CREATE TABLE completion (job TEXT);
    CREATE TRIGGER completed AFTER UPDATE OF status ON job
    WHEN NEW.status = 'succeeded' BEGIN INSERT INTO completion VALUES (NEW.id); END
"""


def tiny_config(seed: int) -> Config:
    """A training of a second or two, on one CPU core."""
    return Config().override(
        {
            "data.phantoms": 40,
            "data.validation_fraction": 0.3,
            "model.image_size": 32,
            "model.width": 4,
            "model.latent_size": 8,
            "training.epochs": 30,
            "training.batch_size": 8,
            "training.augment": True,
            "training.seed": seed,
            "training.device": "cpu",
            "training.precision": "fp32",  # the same in every run, so that weights can be compared
            "training.save_every_seconds": 0.05,
        }
    )


@dataclass
class Report:
    """What happened; `problems` is empty when all is well."""

    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    attempts: list[int] = field(default_factory=list)
    checkpoints_read: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        moments = ", ".join(f"{count} {moment}" for moment, count in self.kills.most_common())
        return [
            f"{self.kills.total()} kills in {self.seconds:.0f} s: {moments}",
            f"{self.jobs} jobs, {sum(self.attempts)} attempts, at most {max(self.attempts)} a job",
            f"{self.checkpoints_read} checkpoints read after kills",
            *(self.problems or ["no job lost, none completed twice, all weights bit-identical"]),
        ]


class Chaos:
    """One storm over one workspace; `brew` may be called once."""

    def __init__(self, workspace: Workspace, kills: int, seed: int) -> None:
        self._workspace = workspace
        self._service = JobService(workspace)
        self._random = random.Random(seed)
        planned = [*MOMENTS, "saving", "anywhere"] * kills
        self._plan = planned[:kills]
        self._random.shuffle(self._plan)
        self._lock = threading.Lock()
        self._jobs: dict[str, int] = {}
        self.report = Report()

    def brew(self) -> Report:
        begun = time.monotonic()
        with closing(self._service):
            with closing(sqlite3.connect(self._workspace.state / "jobs.db")) as table:
                table.executescript(COUNT_COMPLETIONS)
            slots = [threading.Thread(target=self._kill_one_after_the_other) for _ in range(2)]
            for slot in slots:
                slot.start()
            for slot in slots:
                slot.join()
            self._finish_in_peace()
            self._look_at_what_is_left()
        self.report.seconds = time.monotonic() - begun
        return self.report

    def _kill_one_after_the_other(self) -> None:
        while True:
            with self._lock:
                if not self._plan:
                    return
                moment = self._plan.pop()
                self._fill_the_line()
                delay, life = self._random.uniform(0, 0.05), self._random.uniform(0.5, 6)
            delay = 0.0 if moment in ("claim", "published") else delay
            worker = self._spawn({"CHAOS_MOMENT": moment, "CHAOS_DELAY": str(delay)})
            hit = self._see_it_die(worker, moment, life)
            with self._lock:
                self.report.kills[hit] += 1
                self._read_all_checkpoints()

    def _see_it_die(self, worker: "subprocess.Popen[bytes]", moment: str, life: float) -> str:
        """Returns the moment at which it really died."""
        deadline = time.monotonic() + (life if moment == "anywhere" else LONGEST_LIFE)
        writing = f"*/attempt-*/*.pth.{worker.pid}-*.partial"

        def torn() -> bool:
            return any(self._workspace.checkpoints.glob(writing))

        while worker.poll() is None and time.monotonic() < deadline:
            if moment == "saving" and torn():
                break
            time.sleep(0.001 if moment == "saving" else 0.05)
        by_itself = worker.poll() is not None
        worker.kill()
        worker.wait()
        return moment if by_itself else "saving" if torn() else "anywhere"

    def _fill_the_line(self) -> None:
        while len(self._unfinished()) < AT_WORK:
            seed = len(self._jobs) % SEEDS
            config = tiny_config(seed).model_dump()
            job = self._service._store.add("train", config=config, max_attempts=TRIES)
            self._jobs[job] = seed

    def _finish_in_peace(self) -> None:
        workers = [self._spawn({}), self._spawn({})]
        deadline = time.monotonic() + PEACE
        while self._unfinished() and time.monotonic() < deadline:
            time.sleep(0.1)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()

    def _unfinished(self) -> list[JobView]:
        return self._service.jobs(AT_WORK, [Status.QUEUED, Status.RUNNING])

    def _spawn(self, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "jobs.worker", "--runners=benchmarks.doomed:RUNNERS"]
        home = {"MEDVAE_HOME": str(self._workspace.home), "OMP_NUM_THREADS": "1"}
        with (self._workspace.home / "workers.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *TIMING],
                cwd=PROJECT,
                env={**os.environ, **home, **environment},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def _read_all_checkpoints(self) -> None:
        for file in self._workspace.checkpoints.rglob("*.pth"):
            try:
                checkpoint.load(file, "resume point" if file.name == "last.pth" else "model")
                self.report.checkpoints_read += 1
            except CheckpointError as error:
                if file.exists():  # else the other worker has just moved it
                    self.report.problems.append(str(error))

    def _look_at_what_is_left(self) -> None:
        problem = self.report.problems.append
        whole = _undisturbed()
        with closing(sqlite3.connect(self._workspace.state / "jobs.db")) as table:
            completions = Counter(job for (job,) in table.execute("SELECT job FROM completion"))
        for job_id, seed in self._jobs.items():
            job = self._service.job(job_id)
            folder = self._workspace.run_folder(job_id)
            self.report.attempts.append(job.attempt)
            if job.status is not Status.SUCCEEDED or completions[job_id] != 1:
                problem(f"{job_id}: {job.status.value}, completed {completions[job_id]} times")
                continue
            weights = checkpoint.load(folder / MODEL, "model")["weights"]
            if not all(torch.equal(weights[key], whole[seed][key]) for key in whole[seed]):
                problem(f"{job_id}: other weights than an undisturbed run with seed {seed}")
            if resume_points(folder) or any(folder.rglob("*.partial")):
                problem(f"{job_id}: left files behind")
        self.report.jobs = len(self._jobs)


def _undisturbed() -> list[dict[str, torch.Tensor]]:
    """The weights of each training when nobody is killed, by seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers: the order of sums decides the last bit
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace(Path(home))
        runs = [workspace.run_folder(f"seed-{seed}") for seed in range(SEEDS)]
        for seed, run in enumerate(runs):
            run_training(tiny_config(seed), run, workspace, ignore, never)
        torch.set_num_threads(threads)
        return [checkpoint.load(run / MODEL, "model")["weights"] for run in runs]


def main(
    kills: Annotated[int, typer.Option(min=1)] = 100,
    seed: int = 0,
) -> None:
    with tempfile.TemporaryDirectory(prefix="medvae-chaos-") as home:
        report = Chaos(Workspace(Path(home)), kills, seed).brew()
    for line in report.lines():
        print(line)
    if report.problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
