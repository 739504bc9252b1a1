"""Decodes untrusted files in small processes of their own, where a crash or a loop hurts nobody.

A file's bytes go in, arrays come out; nothing that a worker says is unpickled or trusted to be as
long as it claims. Workers are fresh programs, never forks, and know neither secrets nor devices.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image

from medvae.data.decode import Gray, loads_at_a_fraction, open_image
from medvae.data.transform import read_model_input, to_model_input
from medvae.errors import ImageError
from medvae.limits import MB, Limits
from medvae.workspace import PROJECT

WORKERS = 2
LONGEST_START = 60.0  # seconds, on a machine that is busy
PIPE, MOST_FILES = 3, 4096  # numbers of open files: the pipe's, and the highest that is looked for
HEADER = 64 * 2**10  # bytes of an answer's header
_TYPES = ("uint8", "uint16", "float32")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "HOME", "SYSTEMROOT")
_PROGRAM = "from medvae.data.sandbox import serve; serve()"


@dataclass(frozen=True)
class Seen:
    """One file: what the model sees (S, S) uint8, its gray values (H, W), what its tags say."""

    pixels: np.ndarray
    gray: Gray
    facts: dict[str, str]


def see(data: bytes, name: str, size: int, smallest: int, limits: Limits | None = None) -> Seen:
    """Decode in this process. Raises `ImageError`, with the file's name in front."""
    opened = open_image(data, name, smallest, limits)
    if loads_at_a_fraction(data):
        pixels = read_model_input(data, name, size, limits)
    else:
        try:
            pixels = to_model_input(opened.gray, size)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
    return Seen(pixels, opened.gray, opened.facts)


class Sandbox:
    """A warm pool of decoding processes; `see` may be called from any thread."""

    def __init__(self, limits: Limits | None = None, workers: int = WORKERS) -> None:
        self._limits = limits or Limits.current()
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)  # a place; its process starts with the first file

    def warm_up(self) -> None:
        """Start all processes, without waiting for them."""
        places = [self._idle.get() for _ in range(self._idle.qsize())]
        for place in places:
            self._idle.put(place or _Worker(self._limits))

    def see(self, data: bytes, name: str, size: int, smallest: int) -> Seen:
        """The same as the function `see`, within the limits of time and memory."""
        try:
            self._limits.check_bytes(len(data))
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
        with self._worker() as worker:
            return worker.see(data, name, size, smallest)

    def close(self) -> None:
        """End the processes; those at work end with their file."""
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._idle.get_nowait()
                if worker is not None:
                    worker.end()

    @contextlib.contextmanager
    def _worker(self) -> "Iterator[_Worker]":
        worker = self._idle.get()
        try:
            if worker is None or worker.is_dead:
                worker = _Worker(self._limits)
            yield worker
        finally:
            if worker is not None and worker.spent:
                worker.end()
                worker = _Worker(self._limits)
            self._idle.put(worker)


class _Worker:
    """One process and our end of the pipe to it."""

    def __init__(self, limits: Limits) -> None:
        self.spent = False
        self._limits = limits
        self._pipe, theirs = Pipe()
        number = str(theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, number, limits.model_dump_json()],
            cwd=PROJECT,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is the page's to answer
        )
        theirs.close()
        self._started = False

    def see(self, data: bytes, name: str, size: int, smallest: int) -> Seen:
        self.spent = True  # until it has answered as it should
        try:
            self._wait_for_start()
            with self._deadline(name):
                self._pipe.send_bytes(json.dumps([name, size, smallest]).encode())
                self._pipe.send_bytes(data)
                header = json.loads(self._pipe.recv_bytes(HEADER))
                if "error" in header:
                    self.spent = bool(header["spent"])
                    raise ImageError(" ".join(str(header["error"]).split()))
                seen = self._receive(header, size)
        except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError):
            raise ImageError(f"{name}: its decoder crashed; export it again") from None
        self.spent = False
        return seen

    @property
    def is_dead(self) -> bool:
        """Whether somebody else ended it while it waited."""
        return self._process.poll() is not None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    @contextlib.contextmanager
    def _deadline(self, name: str) -> Iterator[None]:
        """Ends the process when time is up, wherever it or the exchange with it stands."""
        seconds = self._limits.decode_seconds
        clock = threading.Timer(seconds, self._process.kill)
        began = time.monotonic()
        clock.start()
        try:
            yield
        except (OSError, EOFError):
            if time.monotonic() - began < seconds:
                raise
            raise ImageError(
                f"{name}: took longer than {seconds:g} s to decode (limit decode_seconds); "
                "export it again"
            ) from None
        finally:
            clock.cancel()

    def _wait_for_start(self) -> None:
        if not self._started:
            if not self._pipe.poll(LONGEST_START):
                raise EOFError
            self._pipe.recv_bytes(HEADER)
            self._started = True

    def _receive(self, header: dict[str, Any], size: int) -> Seen:
        """What it sends is taken only if it is of the size that it should have."""
        height, width = (int(side) for side in header["shape"])
        if header["type"] not in _TYPES or not 0 < height * width <= self._limits.pixels:
            raise ValueError
        pixels = self._array("uint8", (size, size))
        gray = self._array(header["type"], (height, width))
        return Seen(pixels, gray, {str(k): str(v) for k, v in header["facts"].items()})

    def _array(self, kind: str, shape: tuple[int, int]) -> np.ndarray:
        expected = np.dtype(kind).itemsize * shape[0] * shape[1]
        return np.frombuffer(self._pipe.recv_bytes(expected), kind).reshape(shape)


def serve() -> None:
    """The worker's side: answer until the pipe closes. Arguments: the pipe's number, the limits."""
    pipe = Connection(os.dup2(int(sys.argv[1]), PIPE))
    os.closerange(PIPE + 1, MOST_FILES)
    limits = Limits.model_validate_json(sys.argv[2])
    _import_decoders()
    _confine(limits)
    pipe.send_bytes(b"ready")
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, size, smallest = json.loads(pipe.recv_bytes())
            data = pipe.recv_bytes()
            signal.alarm(int(limits.decode_seconds) + 5)  # should nobody be left to end us
            _answer(pipe, data, name, size, smallest, limits)
            signal.alarm(0)


def _answer(
    pipe: Connection, data: bytes, name: str, size: int, smallest: int, limits: Limits
) -> None:
    try:
        seen = see(data, name, size, smallest, limits)
        gray = np.ascontiguousarray(seen.gray)
    except (ImageError, MemoryError) as error:
        out_of_memory = isinstance(error, MemoryError) or "memory" in str(error)
        message = str(error)
        if out_of_memory:
            message = (
                f"{name}: needs too much memory to decode (limit decode_memory_mb: "
                f"{limits.decode_memory_mb}); export it smaller"
            )
        pipe.send_bytes(json.dumps({"error": message, "spent": out_of_memory}).encode())
        return
    header = {"type": gray.dtype.name, "shape": gray.shape, "facts": seen.facts}
    pipe.send_bytes(json.dumps(header).encode())
    pipe.send_bytes(seen.pixels.tobytes())
    pipe.send_bytes(gray.data.cast("B"))


def _import_decoders() -> None:
    """Whatever is otherwise imported with the first file of a kind: later nothing can be opened."""
    import numpy.ma  # noqa: F401  for windows of DICOM
    from PIL import ImageFile, ImageMath, ImageSequence  # noqa: F401

    import medvae.data.dicom  # noqa: F401

    Image.init()


def _confine(limits: Limits) -> None:
    """Little memory, no writing, no core dump, and nothing new may be opened: no file, no socket.

    macOS does not bound the address space.
    """
    bounds = {
        resource.RLIMIT_AS: limits.decode_memory_mb * MB,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: PIPE + 1,
    }
    for kind, bound in bounds.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (bound, bound))
