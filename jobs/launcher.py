"""Keeps worker processes running beside the page, one a device, and ends them with the page.

Knows nothing of jobs: it starts a command, starts it again when it dies, and says so.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobs.worker import Timing
from medvae.errors import JobError
from medvae.workspace import PROJECT

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, str(PROJECT / "main.py"), "worker", "--watch-stdin")
NO_WORKER = "none"
PATIENCE = Timing().grace + 5.0  # seconds; a worker that is killed costs its job one of its tries
_SILENCE = 1.5  # seconds to wait without a word
_LAST_WAIT = 5.0  # for the end of a worker that was killed
_LONGEST_PAUSE = 30.0
_HEALTHY_SECONDS = 60.0  # a worker that lived this long is restarted without a growing pause


def worker_commands(devices: str | None) -> list[list[str]]:
    """One command a device of a comma list, none for `none`; a device of its choice by default."""
    if devices is None:
        return [list(COMMAND)]
    names = [name.strip() for name in devices.split(",")]
    if names == [NO_WORKER]:
        return []
    if "" in names or len(set(names)) < len(names):
        raise JobError(f"--device {devices}: expected a list of different devices: cuda:0,cuda:1")
    return [[*COMMAND, "--device", name] for name in names]


@dataclass(frozen=True)
class WorkerState:
    """What became of the worker process; `died_at` in seconds since 1970."""

    pid: int | None  # None while there is none
    restarts: int
    last_exit: int | None  # exit code of the latest that died, negative for a signal
    died_at: float | None

    @property
    def last_words(self) -> str | None:
        """For people: `signal 9` or `exit code 2`; None when none has died."""
        if self.last_exit is None:
            return None
        return f"signal {-self.last_exit}" if self.last_exit < 0 else f"exit code {self.last_exit}"


class WorkerProcess:
    """Start it once; it watches over its child from a thread until that is asked to leave.

    The child's standard input is a pipe that nobody writes to. When this process ends in whatever
    way, the pipe closes, and that is how the child knows.
    """

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        on_death: Callable[[int], None] = lambda pid: None,
        pause: float = 0.5,
    ) -> None:
        """on_death: told the process id of a worker that died. pause: seconds before the first
        restart; it doubles while the workers keep dying young.
        """
        self._command = list(command)
        self._on_death = on_death
        self._pause = pause
        self._state = WorkerState(None, 0, None, None)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._keep_running, name="launcher", daemon=True)

    @property
    def state(self) -> WorkerState:
        return self._state

    def start(self) -> None:
        self._watch.start()

    def ask_to_leave(self) -> None:
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)

    @property
    def has_left(self) -> bool:
        return not self._watch.is_alive()

    def end(self) -> None:
        """End a worker that did not leave when it was asked to, and all it started."""
        if self._process is not None and not self.has_left:
            _signal_group(self._process, signal.SIGKILL)
            self._watch.join(_LAST_WAIT)

    def _keep_running(self) -> None:
        pause = self._pause
        while not self._stopping.is_set():
            born = time.monotonic()
            code = self._run_once()
            if self._stopping.is_set():
                break
            self._state = replace(self._state, pid=None, last_exit=code, died_at=time.time())
            logger.warning("the worker died (%s)", self._state.last_words)
            if time.monotonic() - born > _HEALTHY_SECONDS:
                pause = self._pause
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._state = replace(self._state, restarts=self._state.restarts + 1)
        self._state = replace(self._state, pid=None)

    def _run_once(self) -> int | None:
        """One life of the worker; returns its exit code, None when it could not be started."""
        with self._lock:
            if self._stopping.is_set():
                return None
            try:
                # A session of its own: Ctrl-C in the terminal reaches this process only, which
                # then lets the worker leave in good order.
                self._process = process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, start_new_session=True, cwd=PROJECT
                )
            except OSError as error:
                logger.error("the worker cannot be started: %s", error)
                return None
            self._state = replace(self._state, pid=process.pid)
        with process:  # closes the pipe
            code = process.wait()
        _signal_group(process, signal.SIGKILL)  # whatever it started and left behind
        if not self._stopping.is_set():
            self._tell_of_death(process.pid)
        return code

    def _tell_of_death(self, pid: int) -> None:
        try:
            self._on_death(pid)
        except Exception:  # the watch must go on, whatever the listener's trouble is
            logger.exception("after the death of worker process %d", pid)


def stop_workers(
    workers: Sequence[WorkerProcess],
    patience: float = PATIENCE,
    hurry: Callable[[], bool] = lambda: False,
) -> None:
    """Ask all to leave; after `patience` seconds, or once `hurry` says so, end who is left."""
    for worker in workers:
        worker.ask_to_leave()
    begun, told = time.monotonic(), False
    while not all(worker.has_left for worker in workers) and not hurry():
        waited = time.monotonic() - begun
        if waited > patience:
            logger.warning("a worker did not leave within %g s: killed", patience)
            break
        if waited > _SILENCE and not told:
            told = True
            logger.warning("waiting for workers to save their jobs; Ctrl-C again ends them at once")
        time.sleep(0.05)
    for worker in workers:
        worker.end()


def _signal_group(process: "subprocess.Popen[bytes]", signum: int) -> None:
    """The child leads a session, so its id is also that of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)
