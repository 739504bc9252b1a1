"""Which operators the program asks of its device, and whether PyTorch has them for Apple GPUs.

Trains, resumes, calibrates and detects on the CPU in the way of an Apple GPU (contiguous, images on
the device), and notes every aten operator, every double and every tensor in channels-last order.
What MPS has is listed in mps_operators.txt, made from `native_functions.yaml`, from which
PyTorch's dispatcher is generated: a kernel for MPS, or one made of other operators.

    python -m benchmarks.mps_operators          # the table of docs/mps_operators.md
    python -m benchmarks.mps_operators --list   # mps_operators.txt, of the installed PyTorch
"""

import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medvae.config import Config
from medvae.data.phantom import draw_phantom
from medvae.device import Compute
from medvae.engine.detector import AnomalyDetector
from medvae.engine.events import Event, RunStarted, Stop, ignore, never
from medvae.engine.experiment import run_training
from medvae.workspace import Workspace

SOURCE = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
LIST = Path(__file__).with_suffix(".txt")
VERSION = str(torch.__version__).partition("+")[0]
RESIDENT = 10**9  # bytes: all images stay on the device
TINY = {
    "data.phantoms": 60,
    "model.image_size": 32,
    "model.width": 4,
    "model.latent_size": 8,
    "training.epochs": 1,
    "training.least_images": 0,
    "training.batch_size": 8,
    "training.augment": True,
    "training.device": "cpu",
    "training.precision": "fp32",
}


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the aten operators that are run, and those that touch what an Apple GPU cannot take."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()
        self.doubles: set[str] = set()
        self.channels_last: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").removesuffix(".default")
        if func.namespace == "aten":
            self.seen.add(name)
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, torch.Tensor):
                if tensor.dtype is torch.float64:
                    self.doubles.add(name)
                if _is_channels_last(tensor):
                    self.channels_last.add(name)
        return result


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return (
        tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def operators_used(config: Config) -> Operators:
    """Of a run that is paused and resumed, and a detection, in the layout of an Apple GPU."""
    like_apple = patch.multiple(
        Compute, channels_last=False, resident_budget=lambda compute: RESIDENT
    )
    events: list[Event] = []

    def once_begun() -> Stop | None:
        return Stop.PAUSE if any(isinstance(event, RunStarted) for event in events) else None

    with tempfile.TemporaryDirectory() as home, like_apple, Operators() as operators:
        workspace = Workspace(Path(home))
        folder = workspace.run_folder("run")
        run_training(config, folder, workspace, events.append, once_begun)
        run_training(config, folder, workspace, ignore, never)
        detector = AnomalyDetector.load(folder / "best.pth", "cpu")
        detector.detect([np.asarray(draw_phantom(1).image)])
    return operators


def how_mps_has() -> dict[str, str]:
    """Operator → "kernel" or "composite", for every one that the installed PyTorch has for MPS."""
    entries = yaml.load(SOURCE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    functions = {entry["func"].split("(")[0]: entry for entry in entries}
    found = {}
    for name, entry in functions.items():
        delegate = functions.get(entry.get("structured_delegate", ""), {})
        keys = _dispatch_keys(entry) | _dispatch_keys(delegate)
        if "MPS" in keys:
            found[name] = "kernel"
        elif _is_composed(entry, keys) and not _needs_another_kernel(name, functions):
            found[name] = "composite"
    return found


def _is_composed(entry: dict[str, Any], keys: set[str]) -> bool:
    return not entry.get("dispatch") or any(key.startswith("Composite") for key in keys)


def _needs_another_kernel(name: str, functions: dict[str, Any]) -> bool:
    """Whether it only allocates for a variant that fills its output, and MPS has no such one."""
    variants = [functions.get(f"{name}.{ending}") for ending in ("out", "values")]
    keys = [_dispatch_keys(variant) for variant in variants if variant and "CPU" in str(variant)]
    return any("CPU" in each and "MPS" not in each for each in keys)


def _dispatch_keys(entry: dict[str, Any]) -> set[str]:
    return {key.strip() for keys in entry.get("dispatch") or {} for key in keys.split(",")}


def listed() -> tuple[str, dict[str, str]]:
    """What mps_operators.txt says: of which version of PyTorch, and operator → how MPS has it."""
    head, *lines = LIST.read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines)
    return head.removeprefix("# PyTorch ").split(":")[0], dict(pairs)


def write_list() -> None:
    head = f"# PyTorch {VERSION}: aten/src/ATen/native/native_functions.yaml\n"
    lines = (f"{name} {how}\n" for name, how in sorted(how_mps_has().items()))
    LIST.write_text(head + "".join(lines), encoding="utf-8")


def print_table() -> None:
    version, on_mps = listed()
    operators = operators_used(Config.load("default").override(TINY))
    print("# Operators on Apple GPUs\n")
    print(
        "Every aten operator of a training, a calibration and a detection with the default\n"
        f"configuration, and how the MPS backend of PyTorch {version} has it: as a kernel, or "
        "composed of\nother operators. Source: `native_functions.yaml` of that version, kept in "
        "`benchmarks/mps_operators.txt`.\nMade by `python -m benchmarks.mps_operators`; a test "
        "looks every operator up, and that no double and\nno channels-last tensor comes near.\n"
    )
    print("| operator | on MPS |\n| --- | --- |")
    for name in sorted(operators.seen):
        print(f"| `{name}` | {on_mps.get(name, '**missing**')} |")


if __name__ == "__main__":
    write_list() if "--list" in sys.argv else print_table()
