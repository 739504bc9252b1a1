"""One worker inside the test process: what it stores, how it fails, when it keeps silent."""

import errno
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.assignment import Assignment, Outcome, Runner
from jobs.failures import explain
from jobs.queue import open_queue, queue_url
from jobs.service import JobService
from jobs.store import Store, database_url
from jobs.views import JobView, Status
from jobs.worker import Timing, Worker
from medvae.config import Config
from medvae.engine.events import (
    CheckpointSaved,
    EpochEnded,
    OnEvent,
    Preparing,
    Progress,
    ShouldStop,
    Stop,
)
from medvae.errors import DataError
from medvae.workspace import Workspace
from tests.jobs.conftest import PATIENCE

TIMING = Timing(lease=5, heartbeat=0.05)


class Bench:
    """A store, a queue and a way to run one job with any runner, all in this process."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.store = Store(database_url(workspace))
        self.queue = open_queue(queue_url(workspace))

    def run(self, runner: Runner, config: Config | None = None) -> JobView:
        job_id = self.store.add("test", config=None if config is None else config.model_dump())
        self.worker(runner).take(job_id)
        return self.store.job(job_id)

    def worker(self, runner: Runner) -> Worker:
        self.queue._registry._registry.clear()  # each worker registers the queue's task again
        return Worker(
            self.store, self.queue, self.workspace, runners={"test": runner}, timing=TIMING
        )

    def folder(self, job: JobView) -> Path:
        return self.workspace.run_folder(job.id)

    def close(self) -> None:
        self.queue.storage.close()
        self.store.close()


@pytest.fixture
def bench(workspace: Workspace) -> Iterator[Bench]:
    with closing(Bench(workspace)) as bench:
        yield bench


def raising(error: BaseException) -> Runner:
    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        raise error

    return runner


def ended(epoch: int) -> EpochEnded:
    return EpochEnded(epoch, 9, 1.0, 0.9, 0.1, 1.1, 1.0, 0.1, True, 2.0, 100.0)


def test_a_job_gets_its_place_and_its_result_is_kept(bench: Bench) -> None:
    seen: list[Assignment] = []

    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        seen.append(assignment)
        assert should_stop() is None
        return Outcome({"auroc": 0.93, "path": Path("best.pth")})

    job = bench.run(runner)
    assert (job.status, job.result) == (Status.SUCCEEDED, {"auroc": 0.93, "path": "best.pth"})
    assert seen[0].folder == bench.folder(job)
    assert (seen[0].job.id, seen[0].job.attempt) == (job.id, 1)
    assert job.ended is not None and job.seconds is not None


def test_progress_is_thinned_out_and_everything_else_is_kept_in_order(bench: Bench) -> None:
    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        for image in range(500):
            on_event(Preparing("Importing", image, 500))
        for epoch in (1, 2):
            begun = time.monotonic()
            step = 0
            while time.monotonic() - begun < 0.3:
                step += 1
                on_event(Progress(epoch, 2, step, 999, 1.0, 0.9, 0.1, 10.0, 1.0))
                time.sleep(0.001)
            on_event(ended(epoch))
            on_event(CheckpointSaved(f"{epoch}.pth"))
        return Outcome()

    job = bench.run(runner)
    events = [record for _, record in bench.store.events.after(job.id)]
    kinds = [record["kind"] for record in events]
    assert 2 <= kinds.count("Progress") <= 0.6 / TIMING.heartbeat + 2
    assert kinds.count("Preparing") <= 2
    rest = [record for record in events if record["kind"] not in ("Progress", "Preparing")]
    assert [record.get("epoch", record.get("path")) for record in rest] == [1, "1.pth", 2, "2.pth"]
    lines = (bench.folder(job) / "events.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert [line["kind"] for line in written] == kinds
    assert {line["attempt"] for line in written} == {1}


def test_what_a_person_asks_reaches_the_runner_and_decides_the_end(bench: Bench) -> None:
    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        stop = Stop(assignment.job.payload["stop"])
        bench.store.request_stop(assignment.job.id, stop)
        begun = time.monotonic()
        while should_stop() is None:
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.01)
        return Outcome({"kept": True}, should_stop())

    endings = {}
    for stop in Stop:
        job_id = bench.store.add("test", payload={"stop": stop.value})
        bench.worker(runner).take(job_id)
        job = bench.store.job(job_id)
        endings[stop] = (job.status, job.result)
        bench.store.delete(job_id)
    assert endings == {
        Stop.CANCEL: (Status.CANCELLED, None),
        Stop.KEEP: (Status.SUCCEEDED, {"kept": True}),
        Stop.PAUSE: (Status.QUEUED, None),
    }


def test_a_leaving_worker_pauses_its_job_and_hands_it_back(bench: Bench) -> None:
    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        worker.leave()
        return Outcome(stopped=should_stop())

    worker = bench.worker(runner)
    job_id = bench.store.add("test")
    worker.take(job_id)
    job = bench.store.job(job_id)
    assert (job.status, job.attempt, job.error) == (Status.QUEUED, 1, None)
    assert bench.queue.storage.queue_size() == 1
    worker.take(job_id)  # a nudge that arrives now is passed on
    assert bench.store.job(job_id).attempt == 1
    assert bench.queue.storage.queue_size() == 2


def test_an_attempt_that_lost_its_job_stops_and_writes_nothing(bench: Bench) -> None:
    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        bench.store.expire([worker.id])
        bench.store.reap()
        bench.store.claim("successor", 60)
        on_event(CheckpointSaved("zombie.pth"))
        begun = time.monotonic()
        while should_stop() is not Stop.CANCEL:
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.01)
        on_event(CheckpointSaved("zombie.pth"))
        return Outcome({"zombie": True})

    worker = bench.worker(runner)
    job_id = bench.store.add("test")
    worker.take(job_id)
    job = bench.store.job(job_id)
    assert (job.status, job.owner, job.attempt) == (Status.RUNNING, "successor", 2)
    assert job.result is None and job.last_seq == 0
    assert not (bench.folder(job) / "events.jsonl").exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DataError("no images in /data: expected NORMAL"), "no images in /data: expected NORMAL"),
        (MemoryError(), "out of memory with batch size 64: try training.batch_size=32"),
        (OSError(errno.ENOSPC, "No space left"), "the disk is full: free some space"),
        (ValueError("what\nnow"), "unexpected ValueError: what now; the traceback is in"),
        (SystemExit(3), "unexpected SystemExit: 3"),
    ],
)
def test_a_failure_is_one_plain_line_and_the_worker_goes_on(
    bench: Bench, error: BaseException, sentence: str
) -> None:
    job = bench.run(raising(error), Config())
    assert job.status is Status.FAILED
    assert job.error is not None and job.error.startswith(sentence) and "\n" not in job.error
    log = (bench.folder(job) / "log.txt").read_text()
    assert "Traceback (most recent call last)" in log and type(error).__name__ in log
    assert bench.run(lambda *_: Outcome()).status is Status.SUCCEEDED


def test_a_file_name_that_is_no_utf8_does_not_keep_a_failed_job_from_ending(bench: Bench) -> None:
    job = bench.run(raising(DataError("R\udcf6ntgen.png: cannot be read")))
    assert (job.status, job.error) == (Status.FAILED, r"R\udcf6ntgen.png: cannot be read")
    assert r"R\udcf6ntgen.png" in (bench.folder(job) / "log.txt").read_text()


def test_a_job_ends_also_when_what_came_of_it_cannot_be_stored(bench: Bench) -> None:
    job = bench.run(lambda *_: Outcome({("no", "key"): 1}))  # type: ignore[dict-item]
    assert (job.status, job.result) == (Status.FAILED, None)
    assert job.error is not None and "could not be stored" in job.error
    assert bench.run(lambda *_: Outcome()).status is Status.SUCCEEDED


def test_a_missing_memory_is_known_in_every_guise_of_torch(tmp_path: Path) -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    for error in (
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
        ),
    ):
        for size, hint in ((64, "training.batch_size=32"), (1, "a smaller model.image_size")):
            line = explain(error, {"training": {"batch_size": size}}, tmp_path / "log.txt")
            assert line.startswith("out of memory") and hint in line
    assert "close other programs" in explain(MemoryError(), None, tmp_path / "log.txt")


def test_a_kind_nobody_knows_fails_by_name(bench: Bench) -> None:
    job_id = bench.store.add("dance")
    bench.worker(raising(AssertionError())).take(job_id)
    job = bench.store.job(job_id)
    assert job.error == "this version of the program cannot do jobs of kind dance"


def test_a_run_folder_that_cannot_be_made_fails_the_job(bench: Bench) -> None:
    bench.workspace.checkpoints.write_text("a file where the folder should be")
    job = bench.run(lambda *_: Outcome())
    assert job.status is Status.FAILED
    assert job.error is not None and "a file stands where a folder is needed" in job.error


def test_a_file_name_that_is_not_utf8_is_told_in_words_that_the_table_can_hold(
    bench: Bench,
) -> None:
    def runner(*_: object) -> Outcome:
        Path("gone\udcff/model.pth").read_bytes()
        return Outcome()

    job = bench.run(runner)
    assert job.error is not None
    assert job.error.startswith(r"gone\udcff/model.pth: not there")


def test_the_log_of_a_run_holds_what_was_logged_meanwhile(bench: Bench) -> None:
    def runner(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
        logging.getLogger("anywhere").warning("the learning rate is %s", 0.1)
        return Outcome()

    job = bench.run(runner)
    logging.getLogger("anywhere").warning("afterwards")
    log = (bench.folder(job) / "log.txt").read_text()
    assert "the learning rate is 0.1" in log and "afterwards" not in log


def test_the_page_side_starts_without_torch_and_without_gradio() -> None:
    script = (
        "import jobs.service, jobs.launcher, jobs.worker, sys;"
        "print([name for name in ('torch', 'gradio', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_nudge_that_cannot_be_sent_does_not_lose_the_job(workspace: Workspace) -> None:
    with closing(JobService(workspace)) as service:
        service._queue.storage.sql("drop table task")
        job_id = service.submit(Config())
        assert service.job(job_id).status is Status.QUEUED
