"""The keeper of the worker process, with real children."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.launcher import PATIENCE as LAUNCHER_PATIENCE
from jobs.launcher import WorkerProcess, stop_workers
from jobs.service import JobService
from jobs.store import MAX_ATTEMPTS
from jobs.views import Status
from jobs.worker import Timing
from tests.jobs.conftest import FAST, PATIENCE, Work, is_running, wait_for

POLITE = "import sys; sys.stdin.read()"
DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).wait()
"""
WORKER = (sys.executable, "-m", "jobs.worker", "--watch-stdin", *FAST)
WORKER = (*WORKER, "--runners=tests.jobs.fake_runners:RUNNERS")

Launch = Callable[..., WorkerProcess]


@pytest.fixture
def launch() -> Iterator[Launch]:
    launched: list[WorkerProcess] = []

    def launch(*command: str, on_death: Callable[[int], None] = lambda pid: None) -> WorkerProcess:
        launched.append(WorkerProcess(command, on_death=on_death, pause=0.1))
        launched[-1].start()
        wait_for(lambda: launched[-1].state.pid or launched[-1].state.died_at)
        return launched[-1]

    yield launch
    stop_workers(launched, patience=0.5)


def pid_of(process: WorkerProcess) -> int:
    wait_for(lambda: process.state.pid)
    assert process.state.pid is not None
    return process.state.pid


def test_a_worker_that_dies_is_started_again_and_the_page_can_say_so(launch: Launch) -> None:
    deaths: list[int] = []
    process = launch(sys.executable, "-c", POLITE, on_death=deaths.append)
    first = pid_of(process)
    assert process.state.last_words is None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: process.state.pid not in (first, None))
    state = process.state
    assert (state.restarts, state.last_exit, state.last_words) == (1, -9, "signal 9")
    assert state.died_at is not None and abs(state.died_at - time.time()) < PATIENCE
    assert deaths == [first]


def test_a_polite_worker_leaves_when_asked_and_a_deaf_one_is_ended_with_all_it_started(
    launch: Launch, caplog: pytest.LogCaptureFixture
) -> None:
    polite, deaf = launch(*WORKER), launch(sys.executable, "-c", DEAF)
    time.sleep(1)
    group = subprocess.check_output(["ps", "-o", "pid=", "-g", str(pid_of(deaf))], text=True)
    pids = [pid_of(polite), *map(int, group.split())]
    assert len(pids) == 3
    stop_workers([polite], patience=PATIENCE)
    assert "killed" not in caplog.text
    stop_workers([deaf], patience=0.3)
    wait_for(lambda: not any(is_running(pid) for pid in pids))
    assert polite.state.pid is None and polite.state.died_at is None


@pytest.fixture
def two_slow_jobs(work: Work, launch: Launch) -> tuple[list[str], list[WorkerProcess]]:
    """Each with a worker of its own; they end when told to, but not before they may."""
    jobs = [work.submit(kind="slow") for _ in range(2)]
    workers = [launch(*WORKER, f"--grace={PATIENCE}") for _ in jobs]
    wait_for(lambda: [work.words(job) for job in jobs] == [["begin"]] * 2)
    return jobs, workers


def test_workers_are_stopped_together_and_their_jobs_get_the_time_they_need(
    work: Work, two_slow_jobs: tuple[list[str], list[WorkerProcess]]
) -> None:
    jobs, workers = two_slow_jobs
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop_workers, workers)
        wait_for(lambda: [work.words(job) for job in jobs] == [["begin", "asked"]] * 2)
        work.path.with_name("free").touch()
        stopping.result()
    views = [work.service.job(job) for job in jobs]
    assert [(job.status, job.attempt, job.max_attempts) for job in views] == [
        (Status.QUEUED, 1, MAX_ATTEMPTS + 1)
    ] * 2  # a pause, which costs no try
    assert Timing().grace < LAUNCHER_PATIENCE


def test_whoever_waits_for_a_job_to_save_itself_is_told_and_can_end_it_at_once(
    two_slow_jobs: tuple[list[str], list[WorkerProcess]], caplog: pytest.LogCaptureFixture
) -> None:
    _, workers = two_slow_jobs
    pids = [pid_of(worker) for worker in workers]
    hurry = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop_workers, workers, hurry=hurry.is_set)
        wait_for(lambda: "Ctrl-C again ends them at once" in caplog.text)
        hurry.set()
        stopping.result()
    assert not any(is_running(pid) for pid in pids)


def test_a_worker_that_cannot_start_is_tried_again_more_and_more_slowly(launch: Launch) -> None:
    process = launch(sys.executable, "-c", "import sys; sys.exit(2)")
    wait_for(lambda: process.state.restarts >= 3)
    assert process.state.last_words == "exit code 2"
    time.sleep(0.7)  # the next pause lasts 0.8 s
    assert process.state.restarts == 3
    missing = launch("/nowhere/python")
    wait_for(lambda: missing.state.restarts >= 1)
    assert missing.state.last_exit is None


def test_a_killed_worker_is_replaced_and_its_job_goes_on_without_waiting_for_the_lease(
    work: Work, service: JobService, launch: Launch
) -> None:
    process = launch(*WORKER, "--lease=600", on_death=service.worker_died)
    job_id = work.submit(steps=100)
    wait_for(lambda: work.begun)
    os.kill(pid_of(process), signal.SIGKILL)
    wait_for(lambda: len(work.words(job_id)) == 2)
    assert service.job(job_id).attempt == 2


def test_however_often_the_worker_is_killed_no_job_is_lost(
    work: Work, service: JobService, launch: Launch
) -> None:
    draw = random.Random(7)
    jobs = [
        service._store.add("step", payload={"steps": 15, "diary": str(work.path)}, max_attempts=99)
        for _ in range(6)
    ]
    process = launch(*WORKER, on_death=service.worker_died)
    for _ in range(4):
        pid = pid_of(process)
        wait_for(service.workers)
        time.sleep(draw.uniform(0, 0.6))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: process.state.pid != pid)  # type: ignore[misc]
    wait_for(lambda: all(work.has(job, Status.SUCCEEDED) for job in jobs))
    assert all(service.job(job).result == {"steps": 15} for job in jobs)
