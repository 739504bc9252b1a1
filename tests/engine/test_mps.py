"""What an Apple GPU is asked for, it must have."""

from benchmarks.mps_operators import TINY, how_mps_has, operators_used
from medvae.config import Config


def test_every_operator_of_a_run_and_a_detection_exists_for_apple_gpus() -> None:
    used = operators_used(Config().override(TINY))
    assert {"convolution", "native_batch_norm", "_fused_adam_"} <= used
    assert used - how_mps_has().keys() == set()


def test_the_list_tells_what_is_missing() -> None:
    on_mps = how_mps_has()
    assert on_mps["convolution_backward"] == "composite"
    assert on_mps["native_batch_norm"] == "kernel"
    assert "_cudnn_rnn" not in on_mps
