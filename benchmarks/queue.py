"""How fast the job table is: claims and stops by real workers, queries on a table that has grown.

A server for the PostgreSQL figures is named by --database; without one SQLite files are used.

    python -m benchmarks.queue
    MEDVAE_QUEUE_SECRET=x python -m benchmarks.queue --database postgresql://me@host/empty
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.assignment import Assignment, Outcome
from jobs.service import JobService
from jobs.store import Store
from jobs.views import JobView, Status
from medvae.engine.events import OnEvent, Progress, ShouldStop, Stop
from medvae.workspace import PROJECT, Workspace


def nap(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Work that takes no time."""
    return Outcome()


def work(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Work that ends only when asked to."""
    while (stop := should_stop()) is None:
        time.sleep(0.01)
    return Outcome(stopped=stop)


RUNNERS = {"nap": nap, "work": work}
STOPS = 20


class Workers:
    """Real worker processes of `RUNNERS` on the queue of the environment; killed at the end."""

    def __init__(self, workspace: Workspace, count: int) -> None:
        command = [sys.executable, "-m", "jobs.worker", "--runners=benchmarks.queue:RUNNERS"]
        environment = {**os.environ, "MEDVAE_HOME": str(workspace.home)}
        self.processes = [
            subprocess.Popen(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def claim_latencies(service: JobService, jobs: int) -> list[float]:
    """Seconds from a job's submission to its claim, while a worker is idle."""
    waits = []
    for _ in range(jobs):
        job_id = service.submit(None, "nap")
        job = _ended(service, job_id)
        assert job.started is not None
        waits.append(job.started - job.created)
    return waits


def stop_latencies(service: JobService, jobs: int) -> list[float]:
    """Seconds from the wish that a running job stops to its end."""
    waits = []
    for _ in range(jobs):
        job_id = service.submit(None, "work")
        while service.job(job_id).status is not Status.RUNNING:
            time.sleep(0.005)
        begun = time.perf_counter()
        service.stop(job_id, Stop.KEEP)
        _ended(service, job_id)
        waits.append(time.perf_counter() - begun)
    return waits


def throughput(service: JobService, jobs: int) -> float:
    """Jobs per second when all are waiting."""
    begun = time.perf_counter()
    ids = [service.submit(None, "nap") for _ in range(jobs)]
    for job_id in reversed(ids):
        _ended(service, job_id)
    return jobs / (time.perf_counter() - begun)


def fill(store: Store, jobs: int, events: int) -> str:
    """Copies of one finished job, and one running job with many events; returns the latter."""
    first = store.add("nap")
    store.claim("w", 60, first)
    store.finish(first, 1, Status.SUCCEEDED)
    execute = store._database._pool.execute_sql
    columns = [column.name for column in store._database._pool.get_columns("job")]
    copied = ", ".join(name for name in columns if name not in ("id", "created"))
    execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs}) "
        f"INSERT INTO job (id, created, {copied}) SELECT 'copy-' || i, created + i, {copied} "
        f"FROM n, job WHERE id = '{first}'"
    )
    busy = store.add("nap")
    store.claim("w", 600, busy)
    store.extend_lease(busy, 1, 600, [Progress(1, 1, 1, 9, 0.5, 0.4, 0.1, 100.0, 3.0)])
    execute(
        f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {events}) "
        "INSERT INTO event SELECT job, i, attempt, time, kind, body FROM n, event "
        f"WHERE job = '{busy}'"
    )
    store._database.change(_last_seq(busy, events))
    return busy


def query_times(store: Store, busy: str, events: int) -> dict[str, float]:
    """Median milliseconds of what a page and a worker ask again and again."""
    asked: dict[str, Callable[[], Any]] = {
        "Runs page, newest 50": lambda: store.jobs(50),
        "Runs page, newest 50 that failed": lambda: store.jobs(50, [Status.FAILED]),
        "tick: job and its newest events": lambda: (
            store.job(busy),
            store.events.after(busy, events - 10),
        ),
        "heartbeat with one event": lambda: store.extend_lease(
            busy, 1, 600, [Progress(1, 1, 1, 9, 0.5, 0.4, 0.1, 100.0, 3.0)]
        ),
        "claim, nothing waiting": lambda: store.claim("w", 60),
        "reap": store.reap,
        "sweep for lost nudges": lambda: store.sweep(60),
        "settle sweeps": store.families.settle,
        "ask to stop": lambda: store.request_stop(busy, Stop.KEEP),
    }
    return {name: _median_ms(action) for name, action in asked.items()}


def _summary(seconds: list[float]) -> str:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return f"median {statistics.median(seconds):.3f} s, p95 {p95:.3f} s, worst {max(seconds):.3f} s"


def _last_seq(job_id: str, number: int) -> Any:
    from jobs.schema import Job

    return Job.update(last_seq=number).where(Job.id == job_id)


def _ended(service: JobService, job_id: str) -> JobView:
    deadline = time.monotonic() + 60
    while not (job := service.job(job_id)).status.ended:
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {job_id} is still {job.status.value}")
        time.sleep(0.005)
    return job


def _median_ms(action: Callable[[], Any]) -> float:
    times = []
    for _ in range(15):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


def main(
    database: Annotated[str | None, typer.Option(help="URL of an empty PostgreSQL.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    jobs: Annotated[int, typer.Option(min=20, help="Claims that are timed.")] = 200,
    rows: Annotated[int, typer.Option(min=1)] = 100_000,
    events: Annotated[int, typer.Option(min=20)] = 1_000_000,
) -> None:
    if database:
        os.environ["MEDVAE_DATABASE_URL"] = database
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace(Path(home))
        with closing(JobService(workspace)) as service:
            with Workers(workspace, workers):
                _ended(service, service.submit(None, "nap"))
                waits = claim_latencies(service, jobs)
                stops = stop_latencies(service, STOPS)
                rate = throughput(service, jobs)
            print(f"{workers} workers, {jobs} claims: {_summary(waits)}; {rate:.0f} jobs/s in bulk")
            print(f"{STOPS} stops: {_summary(stops)}")
            store = service._store
            busy = fill(store, rows, events)
            print(f"{rows:,} jobs, {events:,} events of one job, median of 15:")
            for name, milliseconds in query_times(store, busy, events).items():
                print(f"  {milliseconds:8.2f} ms  {name}")


if __name__ == "__main__":
    typer.run(main)
