"""The model card says what a checkpoint knows, and nothing that a stranger slips into it."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from medvae.engine import checkpoint
from medvae.engine.bundle import card_of
from medvae.engine.model_card import model_card
from tests.conftest import TrainedRun


@pytest.fixture(scope="module")
def content(trained: TrainedRun) -> dict[str, Any]:
    return checkpoint.load(trained.best, "model")


def test_the_card_tells_data_figures_threshold_use_and_limits(
    trained: TrainedRun, content: dict[str, Any]
) -> None:
    card = model_card(content)
    evaluation = trained.outcome.evaluation
    assert evaluation is not None
    for name in (evaluation.score, "brightness", "smoothness"):
        assert str(evaluation.auroc[name]) in card
    split = content["split"]
    for said in (
        f"Training: {len(split['train'])} healthy images, no sick one",
        "official, split by patient",
        "Calling every image sick",
        f"{len(split['validation'])} healthy validation images",
        f"{evaluation.threshold:.4g}",
        "not a medical device",
        "## Limits",
        "torch 2",
    ):
        assert said in card, said


def test_a_model_without_figures_says_so(content: dict[str, Any]) -> None:
    assert "Not evaluated" in model_card({**content, "metrics": {}})


def test_a_threshold_that_too_few_images_cannot_set_is_said_to_be_none(
    content: dict[str, Any],
) -> None:
    config = copy.deepcopy(content["config"])
    config["detection"]["target_fpr"] = 0.001
    assert "too few for at most 0.1 % false positives" in model_card({**content, "config": config})


def test_a_strangers_words_stay_words(content: dict[str, Any]) -> None:
    evil = copy.copy(content)
    evil["run"] = "`![x](http://evil/pixel.png)`\n# <img src=x>"
    evil["created"] = "![x](http://evil/pixel.png)"
    evil["data"] = {"root": "x", "summary": "<script>alert(1)</script> [a](b)"}
    card = model_card(evil)
    assert "# Model card: `![x](http://evil/pixel.png) # <img src=x>`" in card
    for active in ("<script", "[a](b)", ", ![x]"):
        assert active not in card


def test_an_older_run_gets_its_card_when_somebody_asks(trained: TrainedRun, tmp_path: Path) -> None:
    assert (trained.folder / "MODEL_CARD.md").read_text() == card_of(trained.folder)
    shutil.copy(trained.best, tmp_path / "best.pth")
    assert card_of(tmp_path) == card_of(trained.folder)
    assert (tmp_path / "MODEL_CARD.md").is_file()
