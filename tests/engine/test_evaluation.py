"""Figures that can be checked by hand, with intervals, and the same every time."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medvae.data.baselines import BASELINES
from medvae.data.cache import ImageSet
from medvae.data.splits import Split
from medvae.engine.detector import AnomalyDetector
from medvae.engine.evaluation import (
    Estimate,
    Evaluation,
    evaluate,
    score_test_images,
)
from medvae.engine.evaluation import (
    TestScores as Scores,
)
from medvae.engine.labels import LABELS
from medvae.engine.scores import DEFAULT_SCORE, NEED_PATCH_HEAD
from medvae.errors import DataError
from tests.conftest import TrainedRun


@pytest.fixture
def detector(trained: TrainedRun) -> AnomalyDetector:
    return AnomalyDetector.load(trained.best, "cpu")


@pytest.fixture
def tested(detector: AnomalyDetector, images: ImageSet, divided: Split) -> Scores:
    return score_test_images(detector, images, divided.test)


@pytest.fixture
def evaluation(detector: AnomalyDetector, tested: Scores) -> Evaluation:
    return evaluate(detector, tested, "chests", "official")


def estimates(evaluation: Evaluation) -> dict[str, Estimate]:
    return {
        "balanced accuracy": evaluation.balanced_accuracy,
        "sensitivity": evaluation.sensitivity,
        "specificity": evaluation.specificity,
        **{f"auroc {name}": value for name, value in evaluation.auroc.items()},
        **{f"ap {name}": value for name, value in evaluation.average_precision.items()},
    }


def drawn_scores(seed: int, images_a_patient: int = 1, count: int = 120) -> Scores:
    """Made-up scores of that many images, half of them sick, for figures known beforehand."""
    rng = np.random.default_rng(seed)
    sick = np.arange(count) % 2 == 1
    patients = [f"{sick[i]}{i // (2 * images_a_patient)}" for i in range(count)]
    shift = {patient: rng.normal() for patient in dict.fromkeys(patients)}
    scores = np.array([shift[p] for p in patients]) + sick * 1.0 + rng.normal(0, 0.1, count)
    names = [*LABELS, *BASELINES]
    values = {name: scores.astype(np.float32) for name in names}
    return Scores([f"{i}.png" for i in range(count)], patients, sick, values)


def test_every_test_image_has_every_score_and_baseline(tested: Scores, divided: Split) -> None:
    assert tested.names == [record.path for record in divided.test]
    assert tested.sick.tolist() == [record.label == "sick" for record in divided.test]
    assert set(tested.values) == {*LABELS, *BASELINES} - {*NEED_PATCH_HEAD}
    assert {values.shape for values in tested.values.values()} == {(len(divided.test),)}


def test_areas_and_precisions_are_those_of_scikit_learn(
    tested: Scores, evaluation: Evaluation
) -> None:
    for name, values in tested.values.items():
        assert evaluation.auroc[name].value == pytest.approx(roc_auc_score(tested.sick, values))
        assert evaluation.average_precision[name].value == pytest.approx(
            average_precision_score(tested.sick, values)
        )


def test_counts_and_rates_are_those_at_the_healthy_only_threshold(
    detector: AnomalyDetector, tested: Scores
) -> None:
    detector.config = detector.config.override({"detection.target_fpr": 0.2})
    threshold = detector.calibration.threshold(DEFAULT_SCORE, 0.2)
    values = {name: np.zeros(6, np.float32) for name in tested.values}
    values[DEFAULT_SCORE] = np.array(
        [threshold + step for step in (-1, 0, 1, -1, 1, 1)], np.float32
    )
    sick = np.array([False, False, False, True, True, True])
    names = [str(i) for i in range(6)]
    result = evaluate(detector, Scores(names, names, sick, values), "made", "outside")
    assert result.threshold == threshold
    assert result.target_fpr == 0.2
    assert result.confusion == {
        "true_positives": 2, "false_negatives": 1, "false_positives": 1, "true_negatives": 2
    }  # fmt: skip
    assert result.sensitivity.value == pytest.approx(2 / 3)
    assert result.specificity.value == pytest.approx(2 / 3)
    assert result.balanced_accuracy.value == pytest.approx(2 / 3)
    assert (result.normal_images, result.sick_images, result.patients) == (3, 3, 6)
    assert result.all_positive_precision == 0.5


def test_the_threshold_is_set_by_healthy_images_alone(
    detector: AnomalyDetector, tested: Scores
) -> None:
    swapped = replace(tested, sick=~tested.sick)
    assert (
        evaluate(detector, tested, "a", "official").threshold
        == evaluate(detector, swapped, "a", "official").threshold
    )


def test_every_interval_holds_its_value_and_lies_between_0_and_1(evaluation: Evaluation) -> None:
    for name, estimate in estimates(evaluation).items():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, name


def test_an_interval_is_as_wide_as_the_spread_of_repeated_tests(detector: AnomalyDetector) -> None:
    # What the bootstrap says from one test against what a hundred tests really do.
    results = [
        evaluate(detector, drawn_scores(seed), "x", "x").auroc[DEFAULT_SCORE] for seed in range(40)
    ]
    values = [result.value for result in results]
    real = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    told = np.median([result.high - result.low for result in results])
    assert 0.7 < told / real < 1.4
    held = np.mean([result.low <= np.mean(values) <= result.high for result in results])
    assert held > 0.85


def test_the_bootstrap_draws_patients_and_not_images(detector: AnomalyDetector) -> None:
    def width(images_a_patient: int) -> float:
        made = [drawn_scores(seed, images_a_patient) for seed in range(10)]
        areas = [evaluate(detector, scores, "x", "x").auroc[DEFAULT_SCORE] for scores in made]
        return float(np.median([area.high - area.low for area in areas]))

    assert width(4) > 1.4 * width(1)


def test_an_evaluation_repeats_exactly(
    detector: AnomalyDetector, tested: Scores, evaluation: Evaluation
) -> None:
    np.random.default_rng().random()
    assert evaluate(detector, tested, "chests", "official") == evaluation


def test_an_evaluation_survives_json(evaluation: Evaluation) -> None:
    text = json.dumps(evaluation.to_json())
    assert Evaluation.from_json(json.loads(text)) == evaluation


def test_without_a_threshold_it_says_so_and_stays_json(evaluation: Evaluation) -> None:
    without = replace(evaluation, threshold=None)
    text = json.dumps(without.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == without
    assert "no threshold: too few healthy" in without.summary()
    assert "specificity" not in without.summary()


def test_the_summary_has_the_figure_its_interval_and_the_baselines(evaluation: Evaluation) -> None:
    summary = evaluation.summary()
    assert str(evaluation.auroc[DEFAULT_SCORE]) in summary
    for name in BASELINES:
        assert f"{name} {evaluation.auroc[name].value:.3f}" in summary
    assert f"{evaluation.sensitivity.value:.3f}" in summary
    assert "12 normal, 12 sick" in summary
    assert "\n" not in summary


def test_an_estimate_reads_as_a_figure_with_its_interval() -> None:
    assert str(Estimate(0.87654, 0.8, 0.95)) == "0.877 [0.800, 0.950]"


@pytest.mark.parametrize("label", ["normal", "sick"])
def test_a_test_set_of_one_class_is_refused(
    detector: AnomalyDetector, images: ImageSet, divided: Split, label: str
) -> None:
    one_class = tuple(record for record in divided.test if record.label == label)
    with pytest.raises(DataError, match="needs both"):
        score_test_images(detector, images, one_class)


@pytest.mark.filterwarnings("error")
def test_one_image_of_each_class_is_the_least_that_can_be_evaluated(
    detector: AnomalyDetector, images: ImageSet, divided: Split
) -> None:
    few = tuple(next(r for r in divided.test if r.label == label) for label in ("normal", "sick"))
    result = evaluate(detector, score_test_images(detector, images, few), "two", "outside")
    assert result.auroc[DEFAULT_SCORE].value in (0.0, 1.0)
    assert (result.normal_images, result.sick_images) == (1, 1)


def test_the_evaluation_of_a_run_is_that_of_its_model(
    trained: TrainedRun, evaluation: Evaluation
) -> None:
    stored = Evaluation.from_json(json.loads((trained.folder / "evaluation.json").read_text()))
    assert stored == trained.outcome.evaluation
    for name, estimate in stored.auroc.items():
        assert estimate.value == pytest.approx(evaluation.auroc[name].value, abs=1e-6)
    assert Path(trained.folder / "roc.png").exists()
