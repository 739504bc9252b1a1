"""Which operators the program asks of its device, and whether PyTorch has them for Apple GPUs.

Trains, calibrates and detects on the CPU in the way of an Apple GPU (contiguous, images on the
device), notes every aten operator, and looks it up in the list that comes with PyTorch
(`native_functions.yaml`, from which its dispatcher is generated): a kernel for MPS, or one made of
other operators. Prints the table of docs/mps_operators.md.

    python -m benchmarks.mps_operators > docs/mps_operators.md
"""

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torchgen
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

from medvae.config import Config
from medvae.data.phantom import draw_phantom
from medvae.device import Compute
from medvae.engine.detector import AnomalyDetector
from medvae.engine.events import ignore, never
from medvae.engine.experiment import run_training
from medvae.workspace import Workspace

LIST = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
RESIDENT = 10**9  # bytes: all images stay on the device
TINY = {
    "data.phantoms": 60,
    "model.image_size": 32,
    "model.width": 4,
    "model.latent_size": 8,
    "training.epochs": 1,
    "training.batch_size": 8,
    "training.augment": True,
    "training.device": "cpu",
    "training.precision": "fp32",
}


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the aten operators that are run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten":
            self.seen.add(str(func).removeprefix("aten.").removesuffix(".default"))
        return func(*args, **(kwargs or {}))


def operators_used(config: Config) -> set[str]:
    """Of a whole run and a detection, in the memory layout of an Apple GPU."""
    like_apple = patch.multiple(
        Compute, channels_last=False, resident_budget=lambda compute: RESIDENT
    )
    with tempfile.TemporaryDirectory() as home, like_apple, Operators() as operators:
        workspace = Workspace(Path(home))
        folder = workspace.run_folder("run")
        run_training(config, folder, workspace, ignore, never)
        detector = AnomalyDetector.load(folder / "best.pth", "cpu")
        detector.detect([np.asarray(draw_phantom(1).image)])
    return operators.seen


def how_mps_has() -> dict[str, str]:
    """Operator → "kernel" or "composite", for every one that runs on MPS."""
    entries = yaml.load(LIST.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
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


def main() -> None:
    on_mps = how_mps_has()
    used = sorted(operators_used(Config().override(TINY)))
    print("# Operators on Apple GPUs\n")
    print(
        "Every aten operator of a training, a calibration and a detection with the default\n"
        f"configuration, in PyTorch {torch.__version__.split('+')[0]}, and how its MPS backend has "
        "it: as a kernel, or composed of\nother operators. Source: `native_functions.yaml` of that "
        "version. Made by `python -m\nbenchmarks.mps_operators`; a test looks every operator up in "
        "the installed version.\n"
    )
    print("| operator | on MPS |\n| --- | --- |")
    for name in used:
        print(f"| `{name}` | {on_mps.get(name, '**missing**')} |")


if __name__ == "__main__":
    main()
