"""Which chip does the arithmetic, in which number format. Apple's GPU first."""

import contextlib
import logging
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medvae.errors import DeviceError

logger = logging.getLogger(__name__)

# Share of a GPU's free memory that decoded images may take; the rest belongs to the arithmetic.
RESIDENT_SHARE = 0.4
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Compute:
    """A device together with the precision and memory layout that suit it."""

    device: torch.device
    precision: str  # fp32, bf16 or fp16
    contiguous: bool = False  # also where channels_last would be possible
    compiled: bool = False  # the network of a training step, by torch.compile

    @property
    def channels_last(self) -> bool:
        """Never on MPS: its batch-norm gradients are silently wrong there (pytorch#175189)."""
        return self.device.type != "mps" and not self.contiguous

    @property
    def format(self) -> str:
        """For people: 'bf16, channels last, compiled'."""
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.precision}, {layout}" + ", compiled" * self.compiled

    @property
    def precisions(self) -> list[str]:
        """The number formats that the device can compute in."""
        bf16 = ["bf16"] if _has_bf16(self.device) else []
        fp16 = ["fp16"] if self.device.type != "cpu" else []
        return ["fp32", *bf16, *fp16]

    def choice(self) -> dict[str, Any]:
        """Plain values for a checkpoint, which `as_chosen` reads."""
        return {
            "device": self.device.type,
            "precision": self.precision,
            "contiguous": self.contiguous,
            "compiled": self.compiled,
        }

    def as_chosen(self, choice: dict[str, Any]) -> "Compute":
        """This device as a run used it before; on a device of another kind the choice is void."""
        if choice["device"] != self.device.type:
            logger.warning("begun on %s, now on %s: %s", choice["device"], self.name, self.format)
            return self
        return replace(self, **{k: v for k, v in choice.items() if k != "device"})

    def compiled_network(self, network: torch.nn.Module) -> Callable[..., Any]:
        """The network as one program, replayed as a CUDA graph where there is CUDA; or as it is."""
        if not self.compiled:
            return network
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        program: Callable[..., Any] = torch.compile(network, mode=mode, dynamic=False)
        return program

    def begin_step(self) -> None:
        """Tell a CUDA graph that what the last step computed is no longer needed."""
        if self.compiled and self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        """Until the device has done all that it was asked."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context for forward passes; does nothing in fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a module here, in the layout that this device likes."""
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        return module.to(self.device)

    @property
    def reads_ahead(self) -> bool:
        """Whether images that do not fit here come through pinned buffers."""
        return self.device.type == "cuda"

    def resident_budget(self) -> int:
        """Bytes of images that may stay on the device for a whole run."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return int(free * RESIDENT_SHARE)
        if self.device.type == "mps":
            return int(torch.mps.recommended_max_memory() * RESIDENT_SHARE)
        return 0  # on the CPU the memory map already is as close as it gets

    @property
    def name(self) -> str:
        """For people: 'NVIDIA H100 80GB HBM3 (cuda:0)', 'Apple GPU (mps)', 'x86_64 (cpu)'."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)} ({self.device})"
        if self.device.type == "mps":
            return "Apple GPU (mps)"
        return f"{platform.machine()} ({self.device})"


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Resolve `auto`: MPS if it is there, else CUDA, else the CPU; bf16 where it is a likely gain.

    Raises `DeviceError` when a device is asked for by name and is not there, or cannot do the
    precision.
    """
    chosen = _choose_device(device)
    if chosen.type == "cpu":
        torch.set_num_threads(min(torch.get_num_threads(), cores()))
    if precision == "auto":
        precision = "bf16" if chosen.type != "mps" and _has_bf16(chosen) else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise DeviceError("precision fp16 needs a GPU; on the CPU use bf16 or fp32")
    return Compute(chosen, precision)


def cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use. PyTorch by itself does not know a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else min(allowed, max(1, int(quota) // int(period)))


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"unknown device {name!r}; expected auto, mps, cuda, cuda:N or cpu"
        ) from None
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps was asked for, but this machine has no Apple GPU; use auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name} was asked for, but {torch.cuda.device_count()} CUDA devices were "
            "found; use auto"
        )
    if device.type not in ("mps", "cuda", "cpu"):
        raise DeviceError(f"device {name} is not supported; expected auto, mps, cuda or cpu")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _has_bf16(device: torch.device) -> bool:
    """Whether its chip multiplies bfloat16, instead of taking a detour."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
