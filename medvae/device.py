"""Which chip does the arithmetic, in which number format. Apple's GPU first."""

import contextlib
import platform
from dataclasses import dataclass
from typing import Any

import torch

from medvae.errors import DeviceError

# Share of a GPU's free memory that decoded images may take; the rest belongs to the arithmetic.
RESIDENT_SHARE = 0.4


@dataclass(frozen=True)
class Compute:
    """A device together with the precision and memory layout that suit it."""

    device: torch.device
    precision: str  # fp32, bf16 or fp16

    @property
    def channels_last(self) -> bool:
        """Never on MPS: its batch-norm gradients are silently wrong there (pytorch#175189)."""
        return self.device.type != "mps"

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
    """Resolve `auto`: MPS if it is there, else CUDA, else the CPU; bf16 where it is a gain.

    Raises `DeviceError` when a device is asked for by name and is not there, or cannot do the
    precision.
    """
    chosen = _choose_device(device)
    if precision == "auto":
        precision = "bf16" if _gains_from_bf16(chosen) else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise DeviceError("precision fp16 needs a GPU; on the CPU use bf16 or fp32")
    return Compute(chosen, precision)


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


def _gains_from_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
