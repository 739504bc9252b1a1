"""What an Apple GPU is asked for, it must have; what it gets wrong, it is never asked for."""

import pytest
import torch

from benchmarks.mps_operators import TINY, VERSION, Operators, how_mps_has, listed, operators_used
from medvae.config import Config
from medvae.device import Compute
from medvae.engine.events import Stop, ignore
from tests.engine.conftest import MakeTrainer, stop_after


@pytest.fixture(scope="module", params=["reference", "default"])
def operators(request: pytest.FixtureRequest) -> Operators:
    """Of training, resuming, calibration and detection."""
    return operators_used(Config.load(request.param).override(TINY))


def test_every_operator_exists_for_apple_gpus(operators: Operators) -> None:
    assert {"convolution", "native_batch_norm", "_fused_adam_"} <= operators.seen
    _, on_mps = listed()
    assert operators.seen - on_mps.keys() == set()
    assert operators.seen - how_mps_has().keys() == set()


def test_no_double_comes_near(operators: Operators) -> None:
    assert operators.doubles == set()


def test_no_tensor_is_in_channels_last_order(operators: Operators) -> None:
    assert operators.channels_last == set()


def test_the_list_in_the_repository_is_that_of_its_version() -> None:
    version, on_mps = listed()
    if version != VERSION:
        pytest.skip(f"made from PyTorch {version}, installed is {VERSION}")
    assert on_mps == how_mps_has()


def test_the_list_tells_what_is_missing() -> None:
    _, on_mps = listed()
    assert on_mps["convolution_backward"] == "composite"
    assert on_mps["native_batch_norm"] == "kernel"
    assert "_cudnn_rnn" not in on_mps


def test_the_watch_sees_what_it_watches_for(make_trainer: MakeTrainer) -> None:
    with Operators() as operators:
        make_trainer().fit(ignore, stop_after(1, Stop.CANCEL))
        torch.ones(2) * torch.ones(2, dtype=torch.float64)
    assert Compute(torch.device("cpu"), "fp32").channels_last
    assert "convolution" in operators.channels_last
    assert "mul.Tensor" in operators.doubles
