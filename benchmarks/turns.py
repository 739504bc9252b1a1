"""Ways of doing the same thing, run in turns, so that a busy machine is busy for all of them.

Each way keeps a process of its own: one's memory settings and caches do not help or harm another.
"""

import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

Rates = dict[str, list[float]]  # way → its figure in each turn; more is better
Way = Callable[[], float]  # must pickle: a function of a module, or a partial of one


def in_turns(ways: Mapping[str, Way], turns: int) -> Rates:
    """Every way once a turn; tells each figure as it comes."""
    rates: Rates = {name: [] for name in ways}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for name in ways
        }
        for turn in range(turns):
            for name, way in ways.items():
                rates[name].append(processes[name].submit(way).result())
                print(f"  turn {turn + 1}: {name}: {rates[name][-1]:.1f}", flush=True)
    return rates


def medians(rates: Rates, unit: str) -> dict[str, float]:
    return {f"{name}, {unit}": statistics.median(values) for name, values in rates.items()}


def ratios(rates: Rates, mine: str) -> dict[str, float]:
    """`mine / other` for each other way: the median over neighbouring runs."""
    return {
        f"{mine} / {name}": statistics.median(
            a / b for a, b in zip(rates[mine], others, strict=True)
        )
        for name, others in rates.items()
        if name != mine
    }
