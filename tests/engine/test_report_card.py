"""The pictures of an evaluation: their sizes, and that they show what they are given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvae.engine.detector import AnomalyDetector, Detection
from medvae.engine.report_card import IMAGES, draw_report_card
from medvae.engine.scores import DEFAULT_SCORE
from tests.conftest import TrainedRun
from tests.data.drawn import sick_chest


@pytest.fixture
def detections(trained: TrainedRun) -> list[Detection]:
    detector = AnomalyDetector.load(trained.best, "cpu")
    return detector.detect([sick_chest(i) for i in range(IMAGES + 1)])


def card(path: Path, detections: list[Detection], title: str = "first") -> np.ndarray:
    assert draw_report_card(detections, path, title, "chests", "0.876 [0.80, 0.95]") == path
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1800, 1260)
        return np.asarray(picture.convert("L"))


def test_a_card_shows_five_images_and_their_scores(
    detections: list[Detection], tmp_path: Path
) -> None:
    five = card(tmp_path / "five.png", detections[:5])
    six = card(tmp_path / "six.png", detections)
    assert np.array_equal(five, six)
    other_score = replace(detections[0], scores={**detections[0].scores, DEFAULT_SCORE: 123456.0})
    changed = card(tmp_path / "score.png", [other_score, *detections[1:5]])
    [rows, columns] = np.nonzero(changed != five)
    assert rows.max() < 200  # only the caption above the first image
    assert columns.max() < 600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["five.png", "score.png", "six.png"]


def test_fewer_images_leave_their_places_empty(detections: list[Detection], tmp_path: Path) -> None:
    two = card(tmp_path / "two.png", detections[:2])
    assert np.ptp(two[250:1000, 1000:1700]) == 0
    assert np.ptp(two[250:1000, 200:700]) > 100


def test_the_plots_of_a_run_are_pictures_of_the_stated_size(trained: TrainedRun) -> None:
    for name, size in (
        ("roc.png", (900, 690)),
        ("scores.png", (900, 690)),
        ("report_card.png", (1800, 1260)),
    ):
        with Image.open(trained.folder / name) as picture:
            assert picture.size == size
            assert np.ptp(np.asarray(picture.convert("L"))) > 100
