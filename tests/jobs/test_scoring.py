"""Score jobs on a real table with real workers: every file is one row, whoever dies."""

import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.service import JobService
from jobs.store import LeaseLost, Store
from jobs.views import JobView, Status
from medvae.engine.events import Stop
from medvae.engine.score_request import ScoreRequest
from medvae.errors import CheckpointError, JobError
from medvae.workspace import PROJECT, Workspace
from tests.jobs.conftest import FAST, wait_for
from tests.small_archive import write_images, write_model, write_odd_files

PARTS = {f"p{n}": {"shard": n} for n in range(3)}

Spawn = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def spawn_worker() -> Iterator[Spawn]:
    """Workers with the program's own runners."""
    processes: list[subprocess.Popen[bytes]] = []

    def spawn() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "jobs.worker", f"--device=cpu:{len(processes)}", *FAST]
        processes.append(subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE))
        return processes[-1]

    yield spawn
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 images in two folders. Read it; copy what you want to change."""
    folder = tmp_path_factory.mktemp("archive")
    write_images(folder, 600)
    return folder


@pytest.fixture
def request_(workspace: Workspace, tmp_path: Path) -> ScoreRequest:
    model = write_model(workspace.promoted)
    return ScoreRequest(tmp_path / "images", tmp_path / "out.parquet", model, shard_size=20)


def test_two_workers_one_killed_half_way_leave_no_row_missing_or_doubled(
    service: JobService,
    spawn_worker: Spawn,
    request_: ScoreRequest,
    workspace: Workspace,
    drawn: Path,
) -> None:
    paths = sorted(shutil.copytree(drawn, request_.source).rglob("*.png"))
    odd = write_odd_files(request_.source / "odd")
    workers = {worker.pid: worker for worker in (spawn_worker(), spawn_worker())}
    wait_for(lambda: len(service.workers()) == 2)
    job_id = service.submit_score(request_)
    wait_for(lambda: service.parts(job_id).get(Status.SUCCEEDED, 0) >= 8)
    running = service._store.jobs(1, [Status.RUNNING], parent=job_id)
    owners = {view.id: view.pid for view in service.workers()}
    victim = workers[owners[running[0].owner or ""] if running else next(iter(workers))]
    victim.send_signal(signal.SIGKILL)
    assert service.job(job_id).status is Status.QUEUED
    assert [job.id for job in service.jobs()] == [job_id]
    wait_for(lambda: service.job(job_id).status.ended)
    job = service.job(job_id)
    assert job.status is Status.SUCCEEDED, job.error
    assert service.parts(job_id) == {Status.SUCCEEDED: 31}
    rows = pq.read_table(request_.out).to_pylist()
    expected = sorted([*map(str, paths), *(str(request_.source / "odd" / name) for name in odd)])
    assert [row["path"] for row in rows] == expected
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [row["sha256"] for row in rows if not row["error"]] == digests
    assert job.result is not None
    assert (job.result["images"], job.result["unreadable"]) == (605, 5)
    assert job.result["unusual"] == sum(row["verdict"] == "unusual" for row in rows)
    assert not (workspace.run_folder(job_id) / "shards").exists()


def test_cancelling_acts_on_the_family_and_resuming_does_what_is_left(
    service: JobService, spawn_worker: Spawn, request_: ScoreRequest, drawn: Path
) -> None:
    shutil.copytree(drawn, request_.source)
    spawn_worker()
    job_id = service.submit_score(request_)
    wait_for(lambda: service.parts(job_id).get(Status.SUCCEEDED, 0) >= 3)
    assert service.stop(job_id).status is Status.CANCELLED
    wait_for(lambda: service.parts(job_id).keys() <= {Status.SUCCEEDED, Status.CANCELLED})
    done = service.parts(job_id)[Status.SUCCEEDED]
    assert 3 <= done < 30
    service.resume(job_id)
    wait_for(lambda: service.job(job_id).status.ended)
    assert service.job(job_id).status is Status.SUCCEEDED
    attempts = [part.attempt for part in service.jobs(99, parent=job_id)]
    assert sum(attempts) <= 30 + 1  # what was done stays done; one may have been stopped
    assert pq.read_table(request_.out).num_rows == 600
    service.delete(job_id)
    assert service.parts(job_id) == {}


def test_an_impossible_request_is_refused_before_it_is_queued(
    service: JobService, request_: ScoreRequest
) -> None:
    request_.source.mkdir()
    request_.model.unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        service.submit_score(request_)
    assert service.jobs() == []


# The table's side of parts, on both databases.


def split(store: Store, parts: dict[str, dict[str, Any]] = PARTS) -> tuple[str, list[str]]:
    job_id = store.add("x", priority=3)
    job = store.claim("w", 60, job_id)
    assert job is not None
    return job_id, store.split(job_id, job.attempt, parts)


def finish(store: Store, job: JobView | None, status: Status = Status.SUCCEEDED) -> None:
    assert job is not None
    store.finish(job.id, job.attempt, status)


def test_a_split_job_waits_for_its_parts_and_is_then_taken_again(store: Store) -> None:
    store.add("x")
    job_id, part_ids = split(store)
    assert part_ids == [f"{job_id}/p{n}" for n in range(3)]
    assert store.claim("w", 60, job_id) is None
    for n in range(3):
        part = store.claim("w", 60)
        assert part is not None and part.id in part_ids
        assert (part.kind, part.parent, part.priority) == ("x part", job_id, 3)
        assert part.payload == PARTS[part.id.partition("/")[2]]
        assert store.claim("w", 60, job_id) is None
        finish(store, part, Status.FAILED if n == 1 else Status.SUCCEEDED)
    assert store.parts(job_id) == {Status.SUCCEEDED: 2, Status.FAILED: 1}
    parent = store.claim("w", 60)
    assert parent is not None
    assert (parent.id, parent.attempt, parent.result) == (job_id, 2, {"parts": 3})
    assert parent.max_attempts == 4  # waiting for parts does not count as a try


def test_parts_are_listed_only_with_their_parent(store: Store) -> None:
    job_id, part_ids = split(store)
    assert [job.id for job in store.jobs()] == [job_id]
    assert sorted(job.id for job in store.jobs(parent=job_id)) == part_ids


def test_an_attempt_that_is_over_or_was_cancelled_splits_nothing(store: Store) -> None:
    job_id = store.add("x")
    store.claim("w", -1)
    store.reap()
    with pytest.raises(LeaseLost):
        store.split(job_id, 1, PARTS)
    store.claim("w", 60)
    store.request_stop(job_id, Stop.CANCEL)
    assert store.split(job_id, 2, PARTS) == []
    assert store.job(job_id).status is Status.CANCELLED
    assert store.parts(job_id) == {}


def test_cancelling_reaches_parts_that_wait_and_parts_that_run(store: Store) -> None:
    job_id, _ = split(store)
    running = store.claim("w", 60)
    assert running is not None
    store.cancel_idle(job_id)
    store.cancel_parts(job_id)
    assert store.parts(job_id) == {Status.RUNNING: 1, Status.CANCELLED: 2}
    assert store.extend_lease(running.id, running.attempt, 60) is Stop.CANCEL
    assert not store.delete(job_id)  # not while a part of it runs
    finish(store, running, Status.CANCELLED)
    assert store.delete(job_id)
    assert store.parts(job_id) == {}


def test_splitting_again_repeats_ended_parts_under_a_new_attempt(store: Store) -> None:
    job_id, _ = split(store)
    first = store.claim("w", 60)
    assert first is not None
    finish(store, first, Status.FAILED)
    store.cancel_idle(job_id)
    store.cancel_parts(job_id)
    requeued = store.requeue(job_id)
    assert requeued is not None and requeued.result is None
    parent = store.claim("w", 60, job_id)
    assert parent is not None
    store.split(job_id, parent.attempt, PARTS)
    assert store.parts(job_id) == {Status.QUEUED: 3}
    again = store.claim("w", 60, first.id)
    assert again is not None and again.attempt == 2
    with pytest.raises(LeaseLost):
        finish(store, first)


def test_a_thousand_parts_are_one_split(store: Store) -> None:
    job_id, part_ids = split(store, {f"p{n}": {} for n in range(1200)})
    assert len(part_ids) == 1200
    assert store.parts(job_id) == {Status.QUEUED: 1200}


def test_a_job_with_parts_that_run_says_why_it_cannot_be_deleted(service: JobService) -> None:
    job_id, _ = split(service._store)
    service._store.claim("w", 60)
    service.stop(job_id)
    with pytest.raises(JobError, match="parts of it"):
        service.delete(job_id)
