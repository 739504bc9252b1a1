"""How well a model tells sick from healthy, with intervals and with the trivial baselines.

Only reads: nothing found here flows back into a model, a threshold or a choice.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medvae.data.baselines import BASELINES
from medvae.data.cache import ImageSet
from medvae.data.catalog import Record
from medvae.engine.detector import AnomalyDetector
from medvae.engine.ranking import auroc, average_precision
from medvae.engine.scores import DEFAULT_SCORE
from medvae.errors import DataError

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval from a bootstrap over patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one test set. Scores and baselines map a name to its estimate."""

    data: str
    protocol: str
    normal_images: int
    sick_images: int
    patients: int
    score: str  # the one behind the verdict
    target_fpr: float
    threshold: float | None  # set by healthy validation images alone; None: these are too few
    auroc: dict[str, Estimate]
    average_precision: dict[str, Estimate]
    balanced_accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    confusion: dict[str, int]  # true/false positives/negatives at the threshold
    all_positive_precision: float  # what calling every image sick already scores
    left_out: dict[str, int] = field(default_factory=dict)  # images of the folder: why, how many

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Evaluation":
        curves = ("auroc", "average_precision")
        single = ("balanced_accuracy", "sensitivity", "specificity")
        changed: dict[str, Any] = {
            key: {name: Estimate(**entry) for name, entry in values[key].items()} for key in curves
        }
        changed |= {key: Estimate(**values[key]) for key in single}
        return cls(**{**values, **changed})

    def summary(self) -> str:
        """One line for the terminal."""
        baselines = ", ".join(f"{name} {self.auroc[name].value:.3f}" for name in BASELINES)
        if self.threshold is None:
            rule = "no threshold: too few healthy validation images for its target"
        else:
            rule = (
                f"at the healthy-only threshold sensitivity {self.sensitivity.value:.3f}, "
                f"specificity {self.specificity.value:.3f}"
            )
        return (
            f"AUROC {self.auroc[self.score]}, baselines {baselines}; {rule} "
            f"({self.normal_images} normal, {self.sick_images} sick)"
            + "".join(f"; {count} left out: {why}" for why, count in self.left_out.items())
        )


@dataclass(frozen=True)
class TestScores:
    """Every score and baseline of every test image, and its truth."""

    names: list[str]
    patients: list[str]
    sick: np.ndarray  # (N,) bool
    values: dict[str, np.ndarray]  # name → (N,)


def score_test_images(
    detector: AnomalyDetector, images: ImageSet, test: tuple[Record, ...]
) -> TestScores:
    """Score the test set by model and baselines. Raises `DataError` without both classes."""
    sick = np.array([record.label == "sick" for record in test])
    if sick.all() or not sick.any():
        raise DataError(
            f"{images.catalog.root}: the test set holds {int(sick.sum())} sick and "
            f"{int((~sick).sum())} normal images; an evaluation needs both"
        )
    pixels = images.pixels[[record.row for record in test]]
    values = detector.score_inputs(pixels)
    values |= {name: baseline(pixels) for name, baseline in BASELINES.items()}
    return TestScores([r.path for r in test], [r.patient for r in test], sick, values)


def evaluate(detector: AnomalyDetector, tested: TestScores, data: str, protocol: str) -> Evaluation:
    """All figures of a test set. The bootstrap draws patients and is seeded: repeats exactly."""
    target_fpr = detector.config.detection.target_fpr
    threshold = detector.calibration.threshold(DEFAULT_SCORE, target_fpr)
    called = tested.values[DEFAULT_SCORE] > threshold
    sick = tested.sick
    weights = _patient_weights(tested.patients)
    confusion = {
        "true_positives": int((called & sick).sum()),
        "false_negatives": int((~called & sick).sum()),
        "false_positives": int((called & ~sick).sum()),
        "true_negatives": int((~called & ~sick).sum()),
    }

    def curve(metric: Metric) -> dict[str, Estimate]:
        return {
            name: _estimate(metric(sick, values, weights)) for name, values in tested.values.items()
        }

    with np.errstate(invalid="ignore"):  # a resample of one class only does not count
        sensitivity = weights @ (called & sick) / (weights @ sick)
        specificity = weights @ (~called & ~sick) / (weights @ ~sick)
    return Evaluation(
        data=data,
        protocol=protocol,
        normal_images=int((~sick).sum()),
        sick_images=int(sick.sum()),
        patients=len(set(tested.patients)),
        score=DEFAULT_SCORE,
        target_fpr=target_fpr,
        threshold=None if math.isinf(threshold) else threshold,
        auroc=curve(auroc),
        average_precision=curve(average_precision),
        balanced_accuracy=_estimate((sensitivity + specificity) / 2),
        sensitivity=_estimate(sensitivity),
        specificity=_estimate(specificity),
        confusion=confusion,
        all_positive_precision=float(sick.mean()),
    )


def _patient_weights(patients: list[str]) -> np.ndarray:
    """How often each image counts: (1 + RESAMPLES, N), once each in row 0, then resampled."""
    names, owner = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return np.concatenate([np.ones((1, len(owner))), counts[:, owner]])


def _estimate(values: np.ndarray) -> Estimate:
    """From a statistic's value on the data (first) and on the resamples (the rest)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values[1:], [tail, 1 - tail])
    return Estimate(float(values[0]), float(low), float(high))
