"""What a good figure may be made of: other machines, shortcuts, and the mistakes it hides.

Only reads: nothing found here flows back into a model, a threshold or a choice.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medvae.data.baselines import BASELINES
from medvae.data.shifts import SHIFTS, shifted
from medvae.engine.detector import AnomalyDetector
from medvae.engine.evaluation import TestScores
from medvae.engine.ranking import auroc
from medvae.engine.scores import DEFAULT_SCORE

INSIDE = 0.3  # value of the chest field from which on a place counts as chest


@dataclass(frozen=True)
class Shifted:
    """The deciding score under one change of acquisition."""

    auroc: float  # changed healthy images against the sick ones as they are
    auroc_both: float  # both changed
    false_positives: float  # share of the changed healthy images that are called unusual


@dataclass(frozen=True)
class Audit:
    """Shifts by name, and how far the trivial explanations go."""

    shifts: dict[str, Shifted]
    outside_share: float  # of the squared z-scores of healthy and sick images, outside the chest
    outside_share_raw: float  # the same before the chest field weakens them
    matched_auroc: dict[str, float]  # score and baselines on pairs of like brightness and sharpness
    matched_pairs: int

    @property
    def worst(self) -> tuple[str, float]:
        """The change of acquisition with the lowest AUROC."""
        name = min(self.shifts, key=lambda n: self.shifts[n].auroc)
        return name, self.shifts[name].auroc

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def audit(detector: AnomalyDetector, pixels: np.ndarray, tested: TestScores) -> Audit:
    """pixels: (N, S, S) uint8, in the order of `tested`."""
    matched, pairs = _matched(tested)
    return Audit(
        shift_suite(detector, pixels[~tested.sick], pixels[tested.sick]),
        _outside(detector, pixels, weakened=True),
        _outside(detector, pixels, weakened=False),
        matched,
        pairs,
    )


def shift_suite(
    detector: AnomalyDetector, healthy: np.ndarray, sick: np.ndarray
) -> dict[str, Shifted]:
    """Every change of acquisition, on (N, S, S) uint8 healthy and sick test images."""
    threshold = detector.calibration.threshold(DEFAULT_SCORE, detector.config.detection.target_fpr)
    as_they_are = detector.score_inputs(sick)[DEFAULT_SCORE]
    found = {}
    for name, shift in SHIFTS.items():
        moved = detector.score_inputs(shifted(healthy, shift))[DEFAULT_SCORE]
        moved_sick = detector.score_inputs(shifted(sick, shift))[DEFAULT_SCORE]
        found[name] = Shifted(
            auroc_of(as_they_are, moved),
            auroc_of(moved_sick, moved),
            float((moved > threshold).mean()),
        )
    return found


def auroc_of(sick: np.ndarray, healthy: np.ndarray) -> float:
    """AUROC of two groups of scores, (N,) and (M,)."""
    truth = np.arange(len(sick) + len(healthy)) < len(sick)
    values = np.concatenate([sick, healthy])
    return float(auroc(truth, values, np.ones((1, len(values))))[0])


def _matched(tested: TestScores) -> tuple[dict[str, float], int]:
    """AUROC within pairs: each sick image and the healthy one most like it by the baselines.

    A baseline that still stands far from 0.5 here could not be matched.
    """
    columns = [tested.values[name] for name in BASELINES]
    place = np.stack([(c - c.mean()) / (c.std() + 1e-9) for c in columns], axis=1)
    sick, healthy = place[tested.sick], place[~tested.sick]
    distance = np.linalg.norm(sick[:, None] - healthy[None], axis=2)  # (sick, healthy)
    partner = distance.argmin(1)
    found = {}
    for name in (DEFAULT_SCORE, *BASELINES):
        mine = tested.values[name][tested.sick]
        theirs = tested.values[name][~tested.sick][partner]
        found[name] = float((mine > theirs).mean() + (mine == theirs).mean() / 2)
    return found, len(sick)


def _outside(detector: AnomalyDetector, pixels: np.ndarray, weakened: bool) -> float:
    """Share of the squared z-scores that lies outside the chest field."""
    healthy = detector.calibration.healthy
    outside, weight = (healthy.field <= INSIDE).numpy(), healthy.weight.numpy()
    there = everywhere = 0.0
    for found in detector.detect_inputs(list(pixels), [""] * len(pixels)):
        z = found.anomaly_map if weakened else found.anomaly_map / weight
        there += float(np.square(z[outside]).sum())
        everywhere += float(np.square(z).sum())
    return there / everywhere
