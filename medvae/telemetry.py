"""How busy the device is and how much memory it holds, by the device's own counters.

Read once a second in a thread, so that no training step waits for it.
"""

import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from medvae.device import Compute

PERIOD = 1.0  # seconds
T = TypeVar("T")
_IOREG = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")


@dataclass(frozen=True)
class Reading:
    """`busy`: share of the time, 0..1, that the device worked; None where nobody can tell.

    On the CPU it is this process's share of all cores. memory: bytes of tensors on a GPU; on the
    CPU the most that the process ever held.
    """

    busy: float | None = None
    memory: int | None = None


class Waited(Iterator[T]):
    """Passes an iterator on and adds up, in `seconds`, how long its items were waited for."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self.seconds = 0.0

    def __next__(self) -> T:
        begun = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - begun


class Telemetry:
    """Reads the device's counters from entry to exit; `latest` costs nothing."""

    def __init__(self, compute: Compute, period: float = PERIOD) -> None:
        self._device = compute.device
        self._period = period
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="telemetry", daemon=True)
        self._latest = Reading()

    def __enter__(self) -> "Telemetry":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def latest(self) -> Reading:
        return self._latest

    def _watch(self) -> None:
        at, used = time.monotonic(), time.process_time()
        while not self._over.wait(self._period):
            now, now_used = time.monotonic(), time.process_time()
            share = (now_used - used) / (now - at) / (os.cpu_count() or 1)
            self._latest = _read(self._device, min(1.0, share))
            at, used = now, now_used


def _read(device: torch.device, cpu_share: float) -> Reading:
    if device.type == "cuda":
        return Reading(_nvidia_busy(device), torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return Reading(_apple_busy(), torch.mps.current_allocated_memory())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Reading(cpu_share, most if sys.platform == "darwin" else most * 1024)


def _nvidia_busy(device: torch.device) -> float | None:
    """NVML's counter: share of the last sample period in which a kernel ran."""
    try:
        return float(torch.cuda.utilization(device)) / 100
    except Exception:  # a driver without NVML; torch and NVML have errors of their own
        return None


def _apple_busy() -> float | None:
    try:
        told = subprocess.run(_IOREG, capture_output=True, text=True, timeout=2).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return apple_utilisation(told)


def apple_utilisation(told: str) -> float | None:
    """The busiest accelerator's share, from what `ioreg -c IOAccelerator` prints."""
    found = re.findall(r'"Device Utilization %"\s*=\s*(\d+)', told)
    return max(map(int, found)) / 100 if found else None
