"""Which device and precision are chosen, and what is said when one is not there."""

from pathlib import Path

import pytest
import torch

from medvae.device import Compute, choose_compute, cores
from medvae.errors import DeviceError

HERE = (
    "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else "cpu"
)


def test_auto_takes_the_best_device_that_is_there() -> None:
    assert choose_compute().device.type == HERE


def test_auto_precision_is_one_that_the_device_can_do() -> None:
    compute = choose_compute()
    assert compute.precision in ("fp32", "bf16")
    with compute.autocast():
        product = torch.ones(4, 4, device=compute.device) @ torch.ones(4, 4, device=compute.device)
    assert float(product.sum()) == 64


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_computes_in_the_precision_that_was_asked_for(
    precision: str, dtype: torch.dtype
) -> None:
    with choose_compute("cpu", precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu:", "meta", "xpu", "cuda:99"])
def test_a_device_that_is_not_there_or_makes_no_sense_is_one_line(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_compute(name)
    assert "\n" not in str(caught.value)


def test_half_precision_on_the_cpu_is_refused_with_what_to_use() -> None:
    with pytest.raises(DeviceError, match="bf16 or fp32"):
        choose_compute("cpu", "fp16")


def test_an_apple_gpu_is_never_given_channels_last() -> None:
    assert not Compute(torch.device("mps"), "fp32").channels_last
    assert Compute(torch.device("cpu"), "fp32").channels_last
    assert Compute(torch.device("cuda"), "bf16").channels_last


def test_a_device_has_a_name_for_people() -> None:
    assert choose_compute("cpu").name.endswith("(cpu)")
    assert Compute(torch.device("mps"), "fp32").name == "Apple GPU (mps)"


def test_on_the_cpu_nothing_is_copied_into_memory_for_good() -> None:
    assert choose_compute("cpu").resident_budget() == 0


@pytest.mark.parametrize(
    ("told", "most"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", 10**6)]
)
def test_a_containers_quota_limits_the_cores(tmp_path: Path, told: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(told)
    assert 1 <= cores(tmp_path) <= most
    assert cores(tmp_path / "none") >= cores(tmp_path)
