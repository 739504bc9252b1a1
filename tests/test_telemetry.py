"""What the device says of itself, and how long a loop waits."""

import time

import torch

from medvae.device import Compute
from medvae.telemetry import Telemetry, Waited, apple_utilisation


def test_a_working_cpu_is_busy_and_a_resting_one_is_not() -> None:
    with Telemetry(Compute(torch.device("cpu"), "fp32"), period=0.1) as telemetry:
        assert telemetry.latest.busy is None  # nothing read yet
        time.sleep(0.5)
        resting = telemetry.latest
        begun = time.process_time()
        while time.process_time() - begun < 0.5:
            sum(range(1000))
        working = telemetry.latest
    assert resting.busy is not None and working.busy is not None
    assert resting.busy < working.busy <= 1
    assert working.memory is not None and working.memory > 10 * 2**20


def test_what_apples_tool_prints_is_understood() -> None:
    # The form in which `ioreg` prints a dictionary of statistics on one line.
    told = '"PerformanceStatistics" = {"Alloc system memory"=91,"Device Utilization %"=37,"x"=1}'
    assert apple_utilisation(told + "\n" + told.replace("37", "62")) == 0.62
    assert apple_utilisation('"Renderer Utilization %"=5') is None


def test_waiting_is_added_up_and_working_is_not() -> None:
    def slow() -> object:
        for n in range(3):
            time.sleep(0.05)
            yield n

    waited = Waited(slow())  # type: ignore[arg-type]
    begun = time.perf_counter()
    for _ in waited:
        time.sleep(0.1)
    assert 0.15 <= waited.seconds <= time.perf_counter() - begun - 0.3
