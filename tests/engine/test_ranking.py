"""The bootstrap's AUROC and average precision are scikit-learn's, weight by weight."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medvae.engine.ranking import auroc, average_precision


def draw(seed: int, levels: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores and 20 weightings of 60 images; few levels make many ties."""
    rng = np.random.default_rng(seed)
    sick = rng.random(60) < 0.4
    scores = rng.normal(sick * 1.0, 1.0)
    if levels is not None:
        scores = np.round(scores * levels) / levels
    weights = rng.integers(0, 4, (20, 60)).astype(float)
    weights[0] = 1
    return sick, scores, weights


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("seed", range(5))
def test_both_agree_with_scikit_learn(seed: int, levels: int | None) -> None:
    sick, scores, weights = draw(seed, levels)
    for ours, theirs in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
        expected = [theirs(sick, scores, sample_weight=row) for row in weights]
        assert ours(sick, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_scores_that_are_all_the_same_tell_nothing() -> None:
    sick, _, weights = draw(0, None)
    scores = np.ones(60)
    assert auroc(sick, scores, weights) == pytest.approx(np.full(20, 0.5))
    prevalence = (weights @ sick) / weights.sum(1)
    assert average_precision(sick, scores, weights) == pytest.approx(prevalence)


def test_a_perfect_and_a_reversed_order() -> None:
    sick = np.array([False, False, True, True])
    ones = np.ones((1, 4))
    assert auroc(sick, np.arange(4.0), ones) == [1]
    assert auroc(sick, -np.arange(4.0), ones) == [0]
    assert average_precision(sick, np.arange(4.0), ones) == [1]


def test_a_weight_is_a_repeated_image_and_no_weight_is_no_image() -> None:
    sick, scores, weights = draw(3, 2)
    times = weights[5].astype(int)
    repeated = np.repeat(sick, times), np.repeat(scores, times)
    ones = np.ones((1, times.sum()))
    assert auroc(sick, scores, weights[5:6]) == pytest.approx(auroc(*repeated, ones))
    assert average_precision(sick, scores, weights[5:6]) == pytest.approx(
        average_precision(*repeated, ones)
    )


def test_the_order_of_the_images_does_not_matter() -> None:
    sick, scores, weights = draw(4, 3)
    turn = np.random.default_rng(0).permutation(60)
    assert auroc(sick[turn], scores[turn], weights[:, turn]) == pytest.approx(
        auroc(sick, scores, weights)
    )


def test_a_resample_without_one_of_the_classes_has_no_figure() -> None:
    sick = np.array([False, True])
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    with np.errstate(all="raise", invalid="ignore"):
        figures = auroc(sick, np.array([0.0, 1.0]), weights)
    assert np.isnan(figures[:2]).all()
    assert figures[2] == 1
