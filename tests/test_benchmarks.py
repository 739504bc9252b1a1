"""The benchmark's own arithmetic: ratios of neighbours, and what is said to have moved."""

from functools import partial
from pathlib import Path

import pytest

from benchmarks import guard
from benchmarks.quality import trained as trained_for_quality
from benchmarks.turns import in_turns, medians, ratios
from medvae.config import Config
from medvae.errors import ConfigError
from medvae.workspace import Workspace

MACHINE = "a machine"


def test_each_way_is_run_once_a_turn_in_a_process_of_its_own() -> None:
    rates = in_turns({"eight": partial(float, "8"), "two": partial(float, "2")}, 3)
    assert rates == {"eight": [8.0] * 3, "two": [2.0] * 3}


def test_a_ratio_is_the_median_over_neighbours_not_of_medians() -> None:
    rates = {"ours": [10.0, 2.0, 30.0], "plain": [5.0, 1.0, 30.0]}
    assert ratios(rates, "ours") == {"ours / plain": 2.0}
    assert medians(rates, "images/s") == {"ours, images/s": 10.0, "plain, images/s": 5.0}


def test_only_ratios_are_recorded_and_what_was_not_run_stays(tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    file.write_text("{}")
    guard.record(MACHINE, {"training": {"ours / plain": 2.5, "ours, images/s": 300}}, file)
    guard.record(MACHINE, {"import": {"import / Pillow": 1.5}}, file)
    assert guard.read(file) == {
        MACHINE: {"training: ours / plain": 2.5, "import: import / Pillow": 1.5}
    }


@pytest.mark.parametrize(
    ("now", "told"), [(2.4, []), (2.0, ["FELL: training: ours / plain from 2.50 to 2.00"])]
)
def test_a_ratio_that_fell_is_told(tmp_path: Path, now: float, told: list[str]) -> None:
    file = tmp_path / "recorded.json"
    file.write_text("{}")
    guard.record(MACHINE, {"training": {"ours / plain": 2.5}}, file)
    assert guard.moved(MACHINE, {"training": {"ours / plain": now}}, file) == told


def test_an_unknown_machine_is_told_how_to_record(tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    file.write_text("{}")
    [line] = guard.moved(MACHINE, {}, file)
    assert "--record" in line


def test_the_record_of_the_repository_is_readable() -> None:
    assert all(ratio > 0 for ratios in guard.read().values() for ratio in ratios.values())


def test_the_quality_of_another_configuration_is_not_reported(
    tiny_config: Config, workspace: Workspace
) -> None:
    config = tiny_config.override({"training.epochs": 1})
    first, _ = trained_for_quality(config, "run", workspace)
    assert trained_for_quality(config, "run", workspace)[0].config == first.config
    with pytest.raises(ConfigError, match=r"loss\.beta was 1\.0 and is 2\.0"):
        trained_for_quality(config.override({"loss.beta": 2.0}), "run", workspace)
