"""A short run of `make fuzz`: damaged files end as an image or one line, and kill no decoder."""

from pathlib import Path

from benchmarks.fuzz import LIMITS, fuzz_archives, fuzz_files
from medvae.data.sandbox import Sandbox


def test_damaged_files_are_images_or_one_line() -> None:
    box = Sandbox(LIMITS, workers=1)
    outcome = fuzz_files(300, seed=1, box=box)
    box.close()
    assert outcome.wrong == []
    assert sum(outcome.counts.values()) == 300
    assert outcome.counts["image"] > 20
    assert outcome.counts["refused: damaged"] > 20


def test_damaged_archives_are_read_or_one_line(tmp_path: Path) -> None:
    outcome = fuzz_archives(100, seed=1, folder=tmp_path)
    assert outcome.wrong == []
    assert outcome.counts["archive read"] > 0
    assert list(tmp_path.iterdir()) == []
