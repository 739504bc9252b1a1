"""Work without torch for real worker processes; every kind writes down who did what, when."""

import os
import time
from pathlib import Path

from jobs.assignment import Assignment, Outcome
from medvae.engine.events import OnEvent, Progress, ShouldStop

STEP = 0.02


def step(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Payload: `steps` to take and the `diary` to keep; goes on from its resume point."""
    payload, resume_point = assignment.job.payload, assignment.folder / "last.pth"
    done = int(resume_point.read_text()) if resume_point.exists() else 0
    write(assignment, f"begin {done}")
    while done < payload["steps"]:
        time.sleep(STEP)
        done += 1
        save(resume_point, done)
        on_event(Progress(1, 1, done, payload["steps"], 1 / done, 0.0, 0.0, 1.0, 1.0))
        stop = should_stop()
        if stop is not None:
            write(assignment, f"{stop.value} {done}")
            return Outcome({"steps": done}, stop)
    write(assignment, f"end {done}")
    return Outcome({"steps": done})


def deaf(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    write(assignment, "begin")
    time.sleep(60)
    return Outcome()


def slow(assignment: Assignment, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    """Once asked to stop, it ends only when the file `free` lies beside the diary."""
    write(assignment, "begin")
    while (stop := should_stop()) is None:
        time.sleep(STEP)
    write(assignment, "asked")
    while not Path(assignment.job.payload["diary"]).with_name("free").exists():
        time.sleep(STEP)
    return Outcome(stopped=stop)


def save(path: Path, done: int) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")  # one given up for dead may write as well
    partial.write_text(str(done))
    partial.replace(path)


def write(assignment: Assignment, words: str) -> None:
    job = assignment.job
    line = f"{job.id} {job.attempt} {os.getpid()} {words}\n".encode()
    descriptor = os.open(job.payload["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line)  # one write to an appending descriptor is never torn
    os.close(descriptor)


RUNNERS = {"step": step, "deaf": deaf, "slow": slow}
