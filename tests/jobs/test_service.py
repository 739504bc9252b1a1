"""What the page may ask of jobs, and what it is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from jobs.queue import open_queue, queue_url
from jobs.service import JobService
from jobs.store import Store, database_url
from jobs.sweeps import SweepPlan
from jobs.views import Status
from medvae.config import Config
from medvae.engine.events import CheckpointSaved, Event, Progress, Stop
from medvae.errors import DataError, JobError
from medvae.workspace import Workspace


@pytest.fixture
def store(service: JobService) -> Store:
    """The worker's side of the same table."""
    return service._store


def ended(service: JobService, status: Status) -> str:
    job_id = service.submit(Config())
    job = service._store.claim("w", 60, job_id)
    assert job is not None
    service._store.finish(job_id, 1, status, error="why")
    return job_id


def test_a_submitted_job_is_a_row_and_a_nudge_that_carries_only_its_id(service: JobService) -> None:
    config = Config().override({"training.epochs": 3})
    job_id = service.submit(config, name="Mine", priority=1)
    job = service.job(job_id)
    assert (job.status, job.name, job.priority, job.kind) == (Status.QUEUED, "Mine", 1, "train")
    assert Config.parse(job.config) == config
    (message,) = service._queue.storage.enqueued_items()
    task = service._queue.deserialize_task(bytes(message))
    assert task.args == (job_id,)


def test_a_job_on_data_that_is_not_there_is_refused_at_once(service: JobService) -> None:
    config = Config().override({"data.root": "/no/such/folder"})
    plan = SweepPlan.parse(["loss.beta=1,2"])
    for submit in (service.submit, service.submit_import, lambda c: service.submit_sweep(c, plan)):
        with pytest.raises(DataError, match="/no/such/folder: no such folder"):
            submit(config)
    assert service.jobs() == []


def test_a_page_follows_a_job_from_any_event_on(service: JobService, store: Store) -> None:
    job_id = service.submit(Config())
    store.claim("w", 60)
    sent: list[Event] = [CheckpointSaved("1"), Progress(1, 2, 3, 4, 0.5, 0.4, 0.1, 9.0, 1.0)]
    store.extend_lease(job_id, 1, 60, sent)
    job, events = service.follow(job_id)
    assert job.status is Status.RUNNING
    assert events == [(1, sent[0]), (2, sent[1])]
    assert service.follow(job_id, 1)[1] == [(2, sent[1])]
    assert service.follow(job_id, 2)[1] == []


def test_events_of_another_version_of_the_program_are_passed_over(
    service: JobService, store: Store
) -> None:
    @dataclass(frozen=True)
    class Dreamt:
        of: str

    job_id = service.submit(Config())
    store.claim("w", 60)
    dream: Any = Dreamt("sheep")
    store.extend_lease(job_id, 1, 60, [dream, CheckpointSaved("2")])
    assert service.follow(job_id)[1] == [(2, CheckpointSaved("2"))]


def test_stopping_cancels_a_waiting_job_at_once_and_asks_a_running_one(
    service: JobService, store: Store
) -> None:
    waiting, running = service.submit(Config()), service.submit(Config())
    assert store.claim("w", 60, running)
    assert service.stop(waiting).status is Status.CANCELLED
    asked = service.stop(running, Stop.KEEP)
    assert (asked.status, asked.stop) == (Status.RUNNING, Stop.KEEP)
    with pytest.raises(JobError, match=f"cannot stop job {waiting}: it is cancelled"):
        service.stop(waiting)


def test_a_job_that_waits_can_be_cancelled_but_not_paused(service: JobService) -> None:
    first, second = service.submit(Config()), service.submit(Config())
    with pytest.raises(JobError, match="it is queued"):
        service.stop(first, Stop.PAUSE)
    assert service.stop(second, Stop.KEEP).status is Status.CANCELLED


def test_cancelling_a_job_whose_worker_died_needs_no_worker(
    service: JobService, store: Store
) -> None:
    job_id = service.submit(Config())
    store.claim("dead", -1)
    assert service.stop(job_id).status is Status.CANCELLED


def test_retry_begins_anew_and_keeps_the_logs(
    service: JobService, store: Store, workspace: Workspace
) -> None:
    job_id = ended(service, Status.FAILED)
    folder = workspace.run_folder(job_id)
    (folder / "samples").mkdir(parents=True)
    for name in ("last.pth", "log.txt", "events.jsonl", "samples/epoch_0001.png"):
        (folder / name).write_text("x")
    job = service.retry(job_id)
    assert (job.status, job.error, job.max_attempts) == (Status.QUEUED, None, 4)
    assert sorted(path.name for path in folder.iterdir()) == ["events.jsonl", "log.txt"]
    assert store.claim("w", 60) is not None
    with pytest.raises(JobError, match=r"cannot retry .* it is running"):
        service.retry(job_id)


def test_of_many_retries_at_once_one_counts_and_none_removes_what_came_after_it(
    database_url: str, workspace: Workspace
) -> None:
    retries = 4
    barrier = threading.Barrier(retries)
    queue = f"sqlite:///{workspace.state}/queue.db"

    def retry_and_begin(job_id: str) -> bool:
        with closing(JobService(workspace, database_url, queue)) as own:
            barrier.wait()
            try:
                own.retry(job_id)
            except JobError as error:
                assert f"cannot retry job {job_id}: it is" in str(error)
                return False
            assert own._store.claim("w", 60, job_id)
            (workspace.run_folder(job_id) / "new.pth").write_text("x")
            return True

    with (
        closing(JobService(workspace, database_url, queue)) as service,
        ThreadPoolExecutor(retries) as pool,
    ):
        for _ in range(5):
            job_id = ended(service, Status.FAILED)
            folder = workspace.run_folder(job_id)
            for number in range(100):
                (folder / f"attempt-{number}").mkdir(parents=True)
                (folder / f"attempt-{number}" / "old.pth").write_text("x")
            counted = list(pool.map(retry_and_begin, [job_id] * retries))
            assert sorted(counted) == [False] * (retries - 1) + [True]
            assert [path.name for path in folder.iterdir()] == ["new.pth"]


def test_resume_needs_a_resume_point(service: JobService, workspace: Workspace) -> None:
    job_id = ended(service, Status.CANCELLED)
    with pytest.raises(JobError, match="no resume point"):
        service.resume(job_id)
    folder = workspace.run_folder(job_id)
    folder.mkdir(parents=True)
    (folder / "last.pth").write_text("x")
    assert service.resume(job_id).status is Status.QUEUED
    assert (folder / "last.pth").exists()
    done = ended(service, Status.SUCCEEDED)
    with pytest.raises(JobError, match=r"cannot resume .* it is succeeded"):
        service.resume(done)


def test_a_clone_is_a_new_job_with_the_same_configuration(service: JobService) -> None:
    old = service.job(ended(service, Status.SUCCEEDED))
    new = service.job(service.clone(old.id))
    assert new.id != old.id
    assert (new.config, new.status, new.name) == (old.config, Status.QUEUED, f"{old.name} (copy)")


def test_delete_takes_the_files_along_but_never_the_promoted_model(
    service: JobService, store: Store, workspace: Workspace
) -> None:
    job_id = ended(service, Status.SUCCEEDED)
    folder = workspace.run_folder(job_id)
    folder.mkdir(parents=True)
    (folder / "best.pth").write_text("weights")
    workspace.promoted.write_text("weights")
    service.delete(job_id)
    assert not folder.exists()
    assert workspace.promoted.read_text() == "weights"
    with pytest.raises(JobError, match="there is no job"):
        service.delete(job_id)
    running = service.submit(Config())
    store.claim("w", 60)
    with pytest.raises(JobError, match=r"cannot delete .* it is running"):
        service.delete(running)


def test_a_job_can_be_renamed_but_not_to_nothing(service: JobService) -> None:
    job_id = service.submit(Config())
    assert service.rename(job_id, "  Wider\nmodel ").name == "Wider model"
    with pytest.raises(JobError, match="needs a name"):
        service.rename(job_id, " \n")
    with pytest.raises(JobError, match="there is no job"):
        service.rename("nobody", "x")


def test_a_job_in_one_line_says_what_came_of_it(service: JobService, store: Store) -> None:
    failed = service.job(ended(service, Status.FAILED))
    assert failed.line().split() == [failed.id, "failed", "train", "0", "s", "why"]
    good = service.submit(Config(), name="Wide")
    store.claim("w", 60, good)
    evaluation = {"score": "mse", "auroc": {"mse": {"value": 0.9126, "low": 0.8, "high": 0.95}}}
    store.finish(good, 1, Status.SUCCEEDED, {"evaluation": evaluation})
    assert service.job(good).line().endswith("Wide  AUROC 0.913")


def test_an_evaluation_needs_a_finished_model(service: JobService, workspace: Workspace) -> None:
    run = ended(service, Status.SUCCEEDED)
    with pytest.raises(JobError, match="no finished model"):
        service.submit_evaluation(run)
    folder = workspace.run_folder(run)
    folder.mkdir(parents=True)
    (folder / "best.pth").write_text("weights")
    job = service.job(service.submit_evaluation(run, data="/elsewhere"))
    assert (job.kind, job.parent) == ("evaluate", run)
    assert job.payload == {"run": run, "data": "/elsewhere"}


def test_the_start_of_a_page_recovers_what_died_with_the_last_one(
    service: JobService, store: Store
) -> None:
    job_id = service.submit(Config())
    store.claim("dead", -1)
    service._queue.storage.flush_queue()
    service.recover()
    assert service.job(job_id).status is Status.QUEUED
    assert service._queue.storage.queue_size() == 1


def test_shared_databases_come_from_the_environment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_url(workspace).endswith("/data/state/jobs.db")
    assert queue_url(workspace).endswith("/data/state/queue.db")
    monkeypatch.setenv("MEDVAE_DATABASE_URL", "postgresql://host/db")
    assert database_url(workspace) == queue_url(workspace) == "postgresql://host/db"
    with pytest.raises(JobError, match="MEDVAE_QUEUE_SECRET"):
        open_queue(queue_url(workspace))
    monkeypatch.setenv("MEDVAE_QUEUE_URL", "amqp://host")
    with pytest.raises(JobError, match=r"cannot use amqp://… as queue"):
        open_queue(queue_url(workspace))
