"""Real worker processes and real signals: no job is lost, none is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.service import JobService
from jobs.views import Status
from medvae.engine.events import Stop
from medvae.workspace import PROJECT, Workspace
from tests.jobs.conftest import (
    NUDGED_ONLY,
    PATIENCE,
    PostgresServer,
    SpawnWorker,
    Work,
    is_running,
    wait_for,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_work(
    request: pytest.FixtureRequest,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Work]:
    """The same on each kind of job table and queue, for this process and the workers."""
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setenv("MEDVAE_DATABASE_URL", postgres.new_database())
        monkeypatch.setenv("MEDVAE_QUEUE_SECRET", "correct horse battery staple")
    with closing(JobService(workspace)) as service:
        yield Work(service, tmp_path / "diary")


def test_two_workers_do_each_job_exactly_once(shared_work: Work, spawn_worker: SpawnWorker) -> None:
    work = shared_work
    jobs = [work.submit(steps=2) for _ in range(60)]
    spawn_worker(), spawn_worker()
    wait_for(lambda: len(work.service.jobs(99, [Status.SUCCEEDED])) == 60)
    ends = Counter(line[0] for line in work.diary() if line[3] == "end")
    assert ends == Counter(jobs)
    assert len(work.diary()) == 120
    pids = Counter(line[2] for line in work.diary())
    assert len(pids) == 2 and min(pids.values()) >= 20  # both did their share


def test_an_idle_worker_takes_a_job_when_it_is_nudged(
    shared_work: Work, spawn_worker: SpawnWorker
) -> None:
    work = shared_work
    spawn_worker(*NUDGED_ONLY)
    wait_for(work.service.workers)
    for _ in range(15):
        job_id = work.submit(steps=1)
        wait_for(lambda job_id=job_id: work.has(job_id, Status.SUCCEEDED))  # type: ignore[misc]


def test_after_a_kill_another_worker_goes_on_as_the_next_attempt(
    shared_work: Work, spawn_worker: SpawnWorker
) -> None:
    work = shared_work
    job_id = work.submit(steps=60)
    victim = spawn_worker()
    wait_for(lambda: work.begun)
    other = spawn_worker()
    time.sleep(0.5)
    victim.send_signal(signal.SIGKILL)
    wait_for(lambda: work.has(job_id, Status.SUCCEEDED))
    first, second, last = work.diary()
    assert (first[1:4], int(first[2])) == (["1", str(victim.pid), "begin"], victim.pid)
    assert (second[1:4], last[1:4]) == (
        ["2", str(other.pid), "begin"],
        ["2", str(other.pid), "end"],
    )
    assert int(second[4]) > 0  # it did not begin anew
    job = work.service.job(job_id)
    assert (job.attempt, job.result) == (2, {"steps": 60})


def test_a_job_that_kills_every_worker_fails_and_the_queue_goes_on(
    work: Work, spawn_worker: SpawnWorker
) -> None:
    poison = work.submit(kind="deaf")
    healthy = work.submit(steps=1)
    for attempt in (1, 2, 3):
        victim = spawn_worker("--lease=0.3")
        wait_for(lambda n=attempt: len(work.words(poison)) >= n)  # type: ignore[misc]
        victim.kill()
        victim.wait()
        time.sleep(0.3)
    spawn_worker()
    wait_for(lambda: work.has(healthy, Status.SUCCEEDED))
    assert work.has(poison, Status.FAILED)
    assert "the worker died" in str(work.service.job(poison).error)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_pauses_the_job_and_queues_it_at_once(
    work: Work, spawn_worker: SpawnWorker, signum: int
) -> None:
    job_id = work.submit(steps=100)
    worker = spawn_worker("--lease=60")
    wait_for(lambda: work.begun)
    time.sleep(0.2)
    worker.send_signal(signum)
    assert worker.wait(PATIENCE) == 0
    assert work.has(job_id, Status.QUEUED)
    assert work.words(job_id) == ["begin", "pause"]
    assert work.service.workers() == []
    spawn_worker("--lease=60")
    wait_for(lambda: len(work.words(job_id)) == 3)
    pause, again = work.diary()[1:]
    assert again[4] == pause[4]  # from exactly where it was
    assert work.service.job(job_id).attempt == 2


def test_a_second_signal_ends_a_worker_that_hangs(work: Work, spawn_worker: SpawnWorker) -> None:
    work.submit(kind="deaf")
    worker = spawn_worker()
    wait_for(lambda: work.begun)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 128 + signal.SIGTERM


def test_a_worker_that_hangs_ends_when_its_grace_is_over(
    work: Work, spawn_worker: SpawnWorker
) -> None:
    work.submit(kind="deaf")
    worker = spawn_worker("--grace=0.5")
    wait_for(lambda: work.begun)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 1


@pytest.mark.parametrize(
    ("stop", "status"), [(Stop.CANCEL, Status.CANCELLED), (Stop.KEEP, Status.SUCCEEDED)]
)
def test_a_stop_takes_effect_at_the_next_heartbeat(
    work: Work, spawn_worker: SpawnWorker, stop: Stop, status: Status
) -> None:
    job_id = work.submit(steps=100_000)
    spawn_worker("--heartbeat=0.5")
    wait_for(lambda: work.begun)
    work.service.stop(job_id, stop)
    wait_for(lambda: work.has(job_id, status))


def test_a_lost_nudge_is_made_up_for(work: Work, spawn_worker: SpawnWorker) -> None:
    spawn_worker()
    wait_for(work.service.workers)
    payload = {"steps": 1, "diary": str(work.path)}
    job_id = work.service._store.add("step", payload=payload)  # to the table only, past the queue
    wait_for(lambda: work.has(job_id, Status.SUCCEEDED))


def test_the_line_can_be_changed_while_it_waits(work: Work, spawn_worker: SpawnWorker) -> None:
    first, second, third = (work.submit(steps=1) for _ in range(3))
    work.service.move_first(third)
    work.service.stop(second)
    spawn_worker()
    wait_for(lambda: work.has(first, Status.SUCCEEDED))
    assert [line[0] for line in work.diary() if line[3] == "end"] == [third, first]


def test_a_worker_whose_parent_is_gone_pauses_its_job_and_ends(
    work: Work, spawn_worker: SpawnWorker
) -> None:
    job_id = work.submit(steps=500)
    worker = spawn_worker("--watch-stdin")
    wait_for(lambda: work.begun)
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(PATIENCE) == 0
    assert work.has(job_id, Status.QUEUED)


PAGE = """
import sys, time
from jobs.launcher import WorkerProcess
worker = WorkerProcess(sys.argv[1:])
worker.start()
while worker.state.pid is None:
    time.sleep(0.02)
print(worker.state.pid, flush=True)
time.sleep(60)
"""


def test_when_the_page_is_killed_its_worker_leaves_by_itself(
    work: Work, workspace: Workspace
) -> None:
    job_id = work.submit(steps=100_000)
    command = [sys.executable, "-m", "jobs.worker", "--watch-stdin"]
    command += ["--runners=tests.jobs.fake_runners:RUNNERS"]
    page = subprocess.Popen(
        [sys.executable, "-c", PAGE, *command], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    with page:
        assert page.stdout is not None
        pid = int(page.stdout.readline())
        wait_for(lambda: work.begun)
        assert is_running(pid) and os.getsid(pid) == pid
        page.kill()
        page.wait()
        wait_for(lambda: not is_running(pid))
    assert work.has(job_id, Status.QUEUED)


def test_an_outage_of_the_database_longer_than_the_lease_costs_no_job(
    postgres: PostgresServer,
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spawn_worker: SpawnWorker,
) -> None:
    monkeypatch.setenv("MEDVAE_DATABASE_URL", postgres.new_database())
    monkeypatch.setenv("MEDVAE_QUEUE_SECRET", "correct horse battery staple")
    with closing(JobService(workspace)) as service:
        work = Work(service, tmp_path / "diary")
        job_id = work.submit(steps=120)
        spawn_worker(), spawn_worker()
        wait_for(lambda: work.begun)
        postgres.stop()
        time.sleep(1.5)
        postgres.start()
        wait_for(lambda: work.has(job_id, Status.SUCCEEDED))
        assert service.job(job_id).result == {"steps": 120}
        assert work.words(job_id).count("end") == 1
