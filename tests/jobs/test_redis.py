"""Nudges through a real Redis server: signed, fast, and no loss when it is gone."""

from contextlib import closing

import pytest
import redis

from jobs.queue import open_queue
from jobs.service import JobService
from jobs.views import Status
from medvae.errors import JobError
from medvae.workspace import Workspace
from tests.jobs.conftest import NUDGED_ONLY, RedisServer, SpawnWorker, Work, wait_for


def test_jobs_nudged_through_redis_are_taken(
    redis_server: RedisServer, work: Work, spawn_worker: SpawnWorker
) -> None:
    spawn_worker(*NUDGED_ONLY)
    wait_for(work.service.workers)
    for _ in range(5):
        job_id = work.submit(steps=1)
        wait_for(lambda job_id=job_id: work.has(job_id, Status.SUCCEEDED))  # type: ignore[misc]


def test_a_message_that_somebody_else_wrote_is_not_run(
    redis_server: RedisServer, work: Work, spawn_worker: SpawnWorker
) -> None:
    with closing(redis.Redis(port=redis_server.port)) as client:
        client.zadd("huey.redis.medvae", {b"cos\nsystem\n(S'touch hacked'\ntR.": 0})
    spawn_worker()
    job_id = work.submit(steps=1)
    wait_for(lambda: work.has(job_id, Status.SUCCEEDED))


def test_an_outage_of_redis_costs_no_job(
    redis_server: RedisServer, work: Work, spawn_worker: SpawnWorker
) -> None:
    running = work.submit(steps=40)
    spawn_worker()
    wait_for(lambda: work.begun)
    redis_server.stop()
    waiting = work.submit(steps=1)  # its nudge goes nowhere
    assert work.has(waiting, Status.QUEUED)
    wait_for(lambda: work.has(running, Status.SUCCEEDED))
    redis_server.start()
    wait_for(lambda: work.has(waiting, Status.SUCCEEDED))


def test_a_shared_queue_needs_a_secret_and_a_server(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDVAE_QUEUE_SECRET", raising=False)
    with pytest.raises(JobError, match="MEDVAE_QUEUE_SECRET"):
        open_queue("redis://127.0.0.1:1/0")
    monkeypatch.setenv("MEDVAE_QUEUE_SECRET", "x")
    with closing(JobService(workspace, queue="redis://127.0.0.1:1/0")) as service:
        job_id = service.submit(None, "step")  # nobody hears it, and nothing is lost
        assert service.job(job_id).status is Status.QUEUED
