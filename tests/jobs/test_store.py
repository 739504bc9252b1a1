"""The job table on both databases: order, atomic claims, fencing, recovery."""

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.queue import fill
from jobs.database import StoreUnavailable
from jobs.schema import SchemaRow
from jobs.store import LeaseLost, Store
from jobs.views import Status
from medvae.engine.events import CheckpointSaved, Event, Progress, Stop
from medvae.errors import JobError
from tests.jobs.conftest import PostgresServer, wait_for


def saved(number: int) -> Event:
    return CheckpointSaved(f"{number}.pth")


def progress(step: int) -> Event:
    return Progress(1, 1, step, 9, 0.5, 0.4, 0.1, 100.0, 3.0)


def expired(store: Store, attempts: int = 1, **options: object) -> str:
    """A job whose worker died so many times, the last one not reaped yet."""
    job_id = store.add("x", **options)  # type: ignore[arg-type]
    for attempt in range(attempts):
        if attempt:
            assert store.reap()
        assert store.claim("dead", lease=-1, job_id=job_id)
    return job_id


def test_a_new_job_waits_with_all_it_was_given(store: Store) -> None:
    config = {"training": {"epochs": 3}, "data": {"root": None}}
    job_id = store.add("train", name="First", config=config, payload={"a": [1]}, priority=2)
    job = store.job(job_id)
    assert re.fullmatch("[a-z]+-[a-z]+-[0-9a-f]{4}", job_id)
    assert (job.status, job.name, job.kind) == (Status.QUEUED, "First", "train")
    assert (job.config, job.payload, job.priority, job.attempt) == (config, {"a": [1]}, 2, 0)
    assert list(job.config) == ["training", "data"]
    assert abs(job.created - time.time()) < 5
    assert store.job(unnamed := store.add("train")).name == unnamed


def test_any_text_can_be_stored_even_one_that_is_no_utf8_or_holds_a_nul(store: Store) -> None:
    strange, storable = "R\udcf6ntgen\0.png", r"R\udcf6ntgen\0.png"
    job_id = store.add("x", name=strange, config={"data": {"root": strange}})
    assert store.claim("w", 9)
    assert store.rename(job_id, strange)
    store.extend_lease(job_id, 1, 9, [CheckpointSaved(strange)])
    store.finish(job_id, 1, Status.FAILED, error=strange)
    job = store.job(job_id)
    assert (job.name, job.error) == (storable, storable)
    assert job.config == {"data": {"root": strange}}  # a path must still lead to its file
    assert store.events.after(job_id) == [(1, {"kind": "CheckpointSaved", "path": strange})]
    with pytest.raises(JobError, match="there is no job"):
        store.job(strange)


def test_an_unknown_job_is_one_clear_line(store: Store) -> None:
    with pytest.raises(JobError, match="there is no job 'nobody'"):
        store.job("nobody")


def test_the_line_is_by_priority_then_arrival_and_can_be_changed(store: Store) -> None:
    first, second, urgent, last = (store.add("x", priority=p) for p in (0, 0, 5, 0))
    assert [store.queue_position(job) for job in (urgent, first, second, last)] == [1, 2, 3, 4]
    assert store.waiting() == 4
    assert store.move_first(last)
    assert [store.queue_position(job) for job in (last, urgent, first, second)] == [1, 2, 3, 4]
    claimed = [store.claim("w", 9) for _ in range(4)]
    assert [job and job.id for job in claimed] == [last, urgent, first, second]
    assert store.claim("w", 9) is None
    assert (store.queue_position(last), store.waiting()) == (None, 0)
    assert store.move_first(last) is None


def test_a_job_that_comes_back_shares_its_place_with_nobody(store: Store) -> None:
    back, middle, last = (store.add("x") for _ in range(3))
    store.cancel_idle(back)
    store.move_first(last)
    store.requeue(back)
    assert [job.id for job in store.line()] == [last, back, middle]
    assert [store.queue_position(job) for job in (last, back, middle)] == [1, 2, 3]
    assert store.change_places(back, last)
    assert [job.id for job in store.line()] == [back, last, middle]


def test_a_job_is_moved_first_with_its_parts(store: Store) -> None:
    parent, other = store.add("x"), store.add("x", priority=1)
    assert store.claim("w", 9, parent)
    parts = store.split(parent, 1, {"part 1": {}, "part 2": {}})
    assert store.move_first(other) and store.move_first(parent)
    assert [job.id for job in store.line()] == [parent, other]
    assert store.queue_position(parent) == 1
    taken = [store.claim("w", 9) for _ in range(3)]
    assert {job.id for job in taken[:2] if job} == set(parts)
    assert taken[2] and taken[2].id == other


def test_jobs_that_arrive_or_are_moved_first_at_once_get_a_place_each(database_url: str) -> None:
    barrier = threading.Barrier(6)

    def add_and_move(_: int) -> list[str]:
        with closing(Store(database_url)) as own:
            barrier.wait()
            added = [own.add("x") for _ in range(20)]
            for job_id in added[::2]:
                assert own.move_first(job_id)
            return added

    with ThreadPoolExecutor(6) as pool:
        added = [job for part in pool.map(add_and_move, range(6)) for job in part]
    with closing(Store(database_url)) as store:
        positions = sorted(store.queue_position(job) or 0 for job in added)
        assert positions == list(range(1, len(added) + 1))


def test_two_that_wait_change_places_also_across_priorities(store: Store) -> None:
    first, second, urgent = (store.add("x", priority=p) for p in (0, 0, 5))
    part = store.claim("w", 9, store.add("x", priority=9))
    assert part is not None
    store.split(part.id, part.attempt, {"part 1": {}})
    assert [job.id for job in store.line()] == [part.id, urgent, first, second]
    assert store.change_places(second, first)
    assert store.change_places(second, urgent)
    assert [job.id for job in store.line()] == [part.id, second, urgent, first]
    assert store.change_places(part.id, second)  # and its part goes with it
    taken = store.claim("w", 9)
    assert taken and taken.id == second
    assert not store.change_places(second, first)
    assert [job.id for job in store.line()] == [part.id, urgent, first]


def test_places_are_changed_while_others_write_and_change_them_too(database_url: str) -> None:
    with closing(Store(database_url)) as store:
        line = [store.add("x") for _ in range(4)]
        running = store.claim("w", 99, store.add("x"))
        assert running
        done = threading.Event()

        def heartbeats() -> None:
            with closing(Store(database_url)) as own:
                while not done.wait(0.001):
                    own.extend_lease(running.id, running.attempt, 99)

        def changes(first: int) -> list[bool]:
            with closing(Store(database_url)) as own:
                return [own.change_places(line[first], line[first + 1]) for _ in range(100)]

        with ThreadPoolExecutor(3) as pool:
            beating = pool.submit(heartbeats)
            changing = [pool.submit(changes, first) for first in (0, 1)]
            wait(changing)
            done.set()
            beating.result()
        assert all(all(each.result()) for each in changing)
        assert sorted(map(store.queue_position, line)) == [1, 2, 3, 4]  # no two in one place


def test_a_claim_raises_the_attempt_and_takes_a_job_only_once(store: Store) -> None:
    job_id = store.add("x")
    job = store.claim("worker-1", 9, job_id)
    assert job is not None
    assert (job.status, job.attempt, job.owner) == (Status.RUNNING, 1, "worker-1")
    assert job.started is not None and job.seconds is not None
    assert store.claim("worker-2", 9, job_id) is None


def test_many_claimants_get_each_job_exactly_once(database_url: str) -> None:
    with closing(Store(database_url)) as store:
        jobs = {store.add("x") for _ in range(60)}
        barrier = threading.Barrier(8)

        def claim_all(name: str) -> list[str]:
            barrier.wait()
            taken = []
            while (job := store.claim(name, 60)) is not None:
                taken.append(job.id)
            return taken

        with ThreadPoolExecutor(8) as pool:
            taken = [job for part in pool.map(claim_all, "abcdefgh") for job in part]
        assert Counter(taken) == Counter(jobs)


def test_a_stale_attempt_cannot_write_anything(store: Store) -> None:
    job_id = expired(store)
    store.reap()
    assert store.claim("next", 9)
    for write in (
        lambda: store.extend_lease(job_id, 1, 9, [saved(1)]),
        lambda: store.finish(job_id, 1, Status.SUCCEEDED, {"zombie": True}),
        lambda: store.release(job_id, 1),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert store.events.after(job_id) == []
    assert store.job(job_id).last_seq == 0
    store.finish(job_id, 2, Status.SUCCEEDED, {"auroc": 0.9})
    job = store.job(job_id)
    assert (job.status, job.result, job.attempt) == (Status.SUCCEEDED, {"auroc": 0.9}, 2)
    with pytest.raises(LeaseLost):
        store.finish(job_id, 2, Status.FAILED, error="twice")


def test_a_lost_job_is_queued_again_and_reaping_twice_changes_nothing(store: Store) -> None:
    job_id = expired(store)
    healthy = store.add("x")
    assert store.claim("alive", 60, healthy)
    assert [job.id for job in store.reap()] == [job_id]
    assert store.reap() == []
    assert store.job(job_id).status is Status.QUEUED
    assert store.job(healthy).status is Status.RUNNING
    assert store.sweep(older_than=5) == [job_id]  # nobody was told yet


def test_a_job_that_kills_its_workers_fails_with_a_sentence(store: Store) -> None:
    job_id = expired(store, attempts=3)
    store.reap()
    job = store.job(job_id)
    assert job.status is Status.FAILED
    assert job.error is not None and "the worker died" in job.error
    assert job.ended is not None


def test_a_lost_job_that_was_cancelled_ends_and_one_to_be_kept_goes_on(store: Store) -> None:
    cancelled, kept = store.add("x"), store.add("x")
    for job_id, stop in ((cancelled, Stop.CANCEL), (kept, Stop.KEEP)):
        store.claim("w", 0.2, job_id)
        store.request_stop(job_id, stop)
    wait_for(lambda: store.reap(), 2)
    time.sleep(0.05)
    store.reap()
    assert store.job(cancelled).status is Status.CANCELLED
    assert (store.job(kept).status, store.job(kept).stop) == (Status.QUEUED, Stop.KEEP)


def test_pauses_do_not_use_up_the_tries(store: Store) -> None:
    job_id = store.add("x", max_attempts=2)
    for attempt in range(1, 6):
        assert store.claim("w", 9)
        assert store.release(job_id, attempt) is Status.QUEUED
    store.claim("w", -1)
    store.reap()
    assert store.job(job_id).status is Status.QUEUED


def test_a_paused_job_goes_back_to_its_place_unless_it_was_cancelled(store: Store) -> None:
    first, second = store.add("x"), store.add("x")
    store.claim("w", 9, first)
    assert store.release(first, 1) is Status.QUEUED
    assert (store.queue_position(first), store.queue_position(second)) == (1, 2)
    store.claim("w", 9, first)
    store.request_stop(first, Stop.CANCEL)
    assert store.release(first, 2) is Status.CANCELLED


def test_the_heartbeat_brings_back_what_people_ask_and_a_cancel_is_never_weakened(
    store: Store,
) -> None:
    job_id = store.add("x")
    store.claim("w", 9)
    assert store.extend_lease(job_id, 1, 9) is None
    store.request_stop(job_id, Stop.KEEP)
    assert store.extend_lease(job_id, 1, 9) is Stop.KEEP
    store.request_stop(job_id, Stop.CANCEL)
    store.request_stop(job_id, Stop.PAUSE)
    assert store.extend_lease(job_id, 1, 9) is Stop.CANCEL


def test_events_are_numbered_across_attempts_and_read_from_an_offset(store: Store) -> None:
    job_id, other = store.add("x"), store.add("x")
    store.claim("w", -1, job_id)
    store.extend_lease(job_id, 1, -1, [saved(1), saved(2)])
    store.reap()
    store.claim("w", 9, job_id)
    store.claim("w", 9, other)
    store.extend_lease(other, 1, 9, [saved(9)])
    store.extend_lease(job_id, 2, 9, [saved(3)])
    assert [(seq, record["path"]) for seq, record in store.events.after(job_id)] == [
        (1, "1.pth"),
        (2, "2.pth"),
        (3, "3.pth"),
    ]
    assert [seq for seq, _ in store.events.after(job_id, 1, limit=1)] == [2]
    assert store.events.after(job_id, 3) == []


def test_a_job_whose_old_files_cannot_be_discarded_stays_as_it_was(store: Store) -> None:
    def discard() -> None:
        raise JobError("cannot remove the files")

    job_id = store.add("x")
    store.claim("w", 9)
    store.extend_lease(job_id, 1, 9, [saved(1)])
    store.finish(job_id, 1, Status.FAILED, error="why")
    with pytest.raises(JobError, match="cannot remove the files"):
        store.requeue(job_id, discard=discard)
    job = store.job(job_id)
    assert (job.status, job.error, job.max_attempts) == (Status.FAILED, "why", 3)
    assert len(store.events.after(job_id)) == 1


def test_thinning_keeps_an_even_sample_the_newest_and_every_other_kind(store: Store) -> None:
    job_id = store.add("x")
    store.claim("w", 9)
    for _ in range(20):
        store.extend_lease(job_id, 1, 9, [progress(step) for step in range(49)] + [saved(1)])
        store.events.thin(job_id, "Progress", keep=50)
    kinds = Counter(record["kind"] for _, record in store.events.after(job_id))
    assert 50 <= kinds["Progress"] <= 100
    assert kinds["CheckpointSaved"] == 20
    numbers = [seq for seq, record in store.events.after(job_id) if record["kind"] == "Progress"]
    assert numbers[-1] == 999
    assert max(b - a for a, b in pairwise(numbers)) <= 32


def test_a_nudge_is_swept_once_it_is_old_and_then_counts_as_sent(store: Store) -> None:
    job_id = store.add("x")
    assert store.sweep(older_than=60) == []
    assert store.sweep(older_than=0) == [job_id]
    assert store.sweep(older_than=60) == []
    store.claim("w", 9)
    assert store.sweep(older_than=0) == []


def test_the_newest_jobs_come_first_and_can_be_filtered(store: Store) -> None:
    parent = store.add("x")
    time.sleep(0.005)
    child = store.add("x", parent=parent)
    store.claim("w", 9, parent)
    assert [job.id for job in store.jobs()] == [child, parent]
    assert [job.id for job in store.jobs(statuses=[Status.RUNNING])] == [parent]
    assert [job.id for job in store.jobs(parent=parent)] == [child]
    assert [job.id for job in store.jobs(limit=1)] == [child]


def test_a_worker_is_seen_from_its_first_beat_until_it_leaves_or_is_buried(store: Store) -> None:
    job_id = store.add("x")
    store.claim("a", 60)
    store.roster.beat("a", "host", 1, "cuda:0", job_id)
    store.roster.beat("b", "host", 2, None, None)
    store.roster.beat("a", "host", 1, "cuda:0", job_id)
    a, b = store.roster.workers()
    assert (a.id, a.device, a.job, a.alive, a.busy) == ("a", "cuda:0", job_id, True, True)
    assert (b.alive, b.busy) == (True, False)
    store.roster.retire("b")
    store.expire(store.roster.bury("host", 1))
    assert store.roster.workers() == []
    assert [job.id for job in store.reap()] == [job_id]


def test_many_processes_may_open_a_new_table_at_once(database_url: str) -> None:
    barrier = threading.Barrier(8)

    def open_and_add(_: int) -> str:
        barrier.wait()
        with closing(Store(database_url)) as store:
            return store.add("x")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(open_and_add, range(8)))) == 8


def test_a_table_of_a_newer_program_is_refused(database_url: str) -> None:
    with closing(Store(database_url)) as store:
        store._database.change(SchemaRow.update(version=99))
    with pytest.raises(JobError, match="newer version of the program"):
        Store(database_url)


def test_bad_urls_and_files_are_one_clear_line_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to look at\n" * 100)
    for url, words in (
        ("mysql://me:secret@host/db", "expected sqlite"),
        ("sqlite://jobs.db", "expected sqlite"),
        (f"sqlite:///{tmp_path}/text.db", "not a database"),
        (f"sqlite:///{tmp_path}/text.db/jobs.db", "cannot create the folder"),
        (f"postgresql://me:secret@/db?host={tmp_path}", "cannot open the job table"),
    ):
        with pytest.raises(JobError, match=words) as caught:
            Store(url)
        assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_restart_of_the_server_is_survived(postgres: PostgresServer) -> None:
    with closing(Store(postgres.new_database())) as store:
        job_id = store.add("x")
        store.claim("w", 60)
        postgres.stop()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.extend_lease(job_id, 1, 60, [saved(1)])
        postgres.start()
        store.extend_lease(job_id, 1, 60, [saved(1)])
        assert store.job(job_id).last_seq == 1


def test_large_tables_stay_fast(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/jobs.db")) as store:
        busy = fill(store, jobs=20_000, events=100_000)
        assert quickest(lambda: store.jobs(50)) < 0.05
        assert quickest(lambda: store.jobs(50, [Status.FAILED, Status.SUCCEEDED])) < 0.05
        assert quickest(lambda: store.events.after(busy, 99_990)) < 0.02
        assert quickest(lambda: store.job(busy)) < 0.02
        assert quickest(lambda: store.reap()) < 0.02
        assert quickest(lambda: store.sweep(60)) < 0.02
        assert quickest(lambda: store.families.settle()) < 0.02


def quickest(action: object) -> float:
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        action()  # type: ignore[operator]
        times.append(time.perf_counter() - begun)
    return min(times)
