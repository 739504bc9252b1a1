"""All speed figures of this machine: one table, one JSON, and what moved since they were recorded.

    python -m benchmarks --data PATH [--full-size PATH] [--only training] [--record]

Less than ten minutes on two cores. Sections may be run one at a time.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import detection, growth, guard, intake, peers, startup, training
from medvae.device import choose_compute
from medvae.engine.events import ignore, never
from medvae.engine.experiment import load_images
from medvae.errors import ConfigError
from medvae.workspace import PROJECT, Workspace

SHARED = PROJECT.parent / "shared" / "data"


def default_data(name: str) -> str | None:
    """Radiographs that lie beside the project, where there are any."""
    return str(SHARED / name) if (SHARED / name).is_dir() else None


def sections(
    data: str | None, full_size: str | None, turns: int
) -> dict[str, Callable[[], dict[str, float]]]:
    return {
        "training": partial(training.measure, data, full_size, turns),
        "overhead": partial(training.overhead, data, 2 * turns),
        "peers": partial(peers.measure, data, turns),
        "import": partial(intake.measure, Path(full_size) if full_size else None),
        "detection": detection.measure,
        "growth": growth.measure,
        "startup": startup.measure,
    }


def table(figures: guard.Figures) -> str:
    rows = ["| | |", "| --- | --- |"]
    for section, values in figures.items():
        rows.append(f"| **{section}** | |")
        rows += [f"| {name} | {_digits(value)} |" for name, value in values.items()]
    return "\n".join(rows)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main(
    data: Annotated[str | None, typer.Option(help="Images; default: phantoms.")] = None,
    full_size: Annotated[str | None, typer.Option(help="Images of their original size.")] = None,
    turns: Annotated[int, typer.Option(help="How often each way is run.", min=1)] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Sections; default: all.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the ratios as the new ones.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    data = data or default_data("chest_xray")
    full_size = full_size or default_data("chest_xray_fullsize")
    known = sections(data, full_size, turns)
    strange = set(only or []) - known.keys()
    if strange:
        raise ConfigError(f"no section {', '.join(strange)}: expected {', '.join(known)}")
    compute = choose_compute()
    machine = f"{compute.name}, {torch.get_num_threads()} threads"
    print(f"{machine}, {compute.format}")
    for job in (training.Job(data), training.Job(full_size)):  # imported before anything is timed
        load_images(job.config(), Workspace.current(), ignore, never)
    figures: guard.Figures = {}
    for name in only or known:
        print(f"{name} ...", flush=True)
        begun = time.perf_counter()
        figures[name] = known[name]()
        print(f"  took {time.perf_counter() - begun:.0f} s", flush=True)
    print(table(figures))
    report = {"machine": machine, "format": compute.format, "figures": figures}
    target = out or Workspace.current().home / "data" / "benchmarks.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"wrote {target}")
    for line in guard.moved(machine, figures) or ["no ratio moved"]:
        print(line)
    if record:
        guard.record(machine, figures)


if __name__ == "__main__":
    typer.run(main)
