"""Two workers, 200 short jobs, one of the two killed in the middle: each job exactly once."""

import random
import signal
from collections import Counter

from jobs.views import Status
from tests.jobs.conftest import SpawnWorker, Work, wait_for
from tests.jobs.test_processes import shared_work  # noqa: F401

JOBS = 200


def test_a_kill_in_the_middle_of_many_jobs_loses_and_repeats_none(
    shared_work: Work,  # noqa: F811
    spawn_worker: SpawnWorker,
) -> None:
    work = shared_work
    jobs = [work.submit(steps=1) for _ in range(JOBS)]
    victim, survivor = spawn_worker(), spawn_worker()
    half = random.Random(1).randrange(80, 120)
    wait_for(lambda: len([line for line in work.diary() if line[3] == "end"]) >= half)
    victim.send_signal(signal.SIGKILL)
    wait_for(lambda: len(work.service.jobs(JOBS, [Status.SUCCEEDED])) == JOBS)
    ends = Counter(line[0] for line in work.diary() if line[3] == "end")
    assert set(ends) == set(jobs)
    again = [job for job in work.service.jobs(JOBS) if job.attempt > 1]
    assert len(again) <= 1  # what the victim had in hand
    # The victim may have died between the last line of its work and the word to the job table.
    assert all(count == 1 for job, count in ends.items() if job not in {view.id for view in again})
    assert {line[2] for line in work.diary()} == {str(victim.pid), str(survivor.pid)}
