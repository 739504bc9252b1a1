"""Large tensors come from memory that the process already has, and go back afterwards."""

import resource
import sys

import pytest
import torch

from medvae.memory import freed_memory_kept

CPU = torch.device("cpu")
MB = 2**20


def page_faults(count: int = 10) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(64 * MB // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_freed_tensor_costs_no_page_faults_again() -> None:
    with freed_memory_kept(CPU):
        page_faults()  # until the heap has room for one, however it is aligned
        kept = page_faults()
    assert 100 * kept < page_faults()


def test_a_gpu_is_left_alone() -> None:
    with freed_memory_kept(torch.device("cuda")):
        assert float(torch.ones(2).sum()) == 2
