"""The plots of an evaluation: ROC curves, scores of healthy and sick images, calibration."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medvae.atomic import replacing
from medvae.data.baselines import BASELINES
from medvae.engine.evaluation import Evaluation, TestScores
from medvae.engine.labels import LABELS, WORDS

HEALTHY, SICK, INK, MUTED = "#0e7490", "#c2410c", "#1f2933", "#8795a1"
FAINT = "#c3ccd4"
NAMED = {"elbo": (HEALTHY, 1.5)} | dict.fromkeys(BASELINES, (MUTED, 1.3))  # colour, width
BASELINE_DASHES = dict(zip(BASELINES, ("--", ":"), strict=True))
SIZE = (6.0, 4.6)  # inches at 150 dots: 900 × 690 pixels


def draw_roc(evaluation: Evaluation, tested: TestScores, path: Path) -> Path:
    """ROC curves, as PNG: the deciding score, the training loss and the baselines by name.

    All other scores are thin lines without a name; the page's table has their figures.
    """
    from sklearn.metrics import roc_curve  # 130 MB that a worker which only scores does without

    figure, axes = _figure("False-positive rate", "Sensitivity")
    for name, values in tested.values.items():
        fpr, sensitivity, _ = roc_curve(tested.sick, values)
        colour, width = NAMED.get(name, (FAINT, 0.7))
        if name == evaluation.score:
            colour, width = INK, 2.4
        told = name == evaluation.score or name in NAMED
        axes.plot(
            fpr,
            sensitivity,
            linestyle=BASELINE_DASHES.get(name, "-"),
            linewidth=width,
            color=colour,
            zorder=2 if told else 1,
            label=f"{WORDS[name]}   {evaluation.auroc[name]}" if told else None,
        )
    axes.plot([], [], color=FAINT, linewidth=0.7, label="all other scores")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.6)
    chosen = evaluation
    axes.plot(
        1 - chosen.specificity.value,
        chosen.sensitivity.value,
        "o",
        color=INK,
        label="healthy-only threshold",
    )
    axes.set_title(f"{evaluation.data}: {_counts(evaluation)}", fontsize=10, color=INK)
    axes.legend(loc="lower right", fontsize=7.5, frameon=False, title="AUROC, 95 % interval")
    return _save(figure, path)


def draw_histograms(evaluation: Evaluation, tested: TestScores, path: Path) -> Path:
    """Distribution of the deciding score among healthy and sick test images, as PNG."""
    label = LABELS[evaluation.score]
    figure, axes = _figure(label, "Share of images (%)")
    values = tested.values[evaluation.score]
    edges = np.histogram_bin_edges(np.clip(values, *np.quantile(values, [0.0, 0.995])), bins=36)
    bins = [float(edge) for edge in edges]
    for truth, colour, name in ((False, HEALTHY, "healthy"), (True, SICK, "sick")):
        group = np.minimum(values[tested.sick == truth], edges[-1])
        share = np.full(len(group), 100 / len(group))
        axes.hist(group, bins, weights=share, color=colour, alpha=0.55, label=name)
    if evaluation.threshold is not None:
        axes.axvline(evaluation.threshold, color=INK, linewidth=1.2)
        axes.annotate(
            f"threshold at {evaluation.target_fpr:.0%} false positives",
            (evaluation.threshold, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(5, 0),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=INK,
        )
    axes.set_title(f"{evaluation.data}: {_counts(evaluation)}", fontsize=10, color=INK)
    axes.legend(loc="center right", fontsize=9, frameon=False)
    return _save(figure, path)


def draw_calibration(evaluation: Evaluation, p_values: np.ndarray, path: Path) -> Path:
    """Promised against seen share of false positives on healthy test images (N,), as PNG.

    The band holds 95 % of what chance does to that many images.
    """
    count = len(p_values)
    promised = np.linspace(0, 1, 101)
    seen = np.searchsorted(np.sort(p_values), promised, side="right") / count
    band = 1.96 * np.sqrt(promised * (1 - promised) / count)
    figure, axes = _figure("Promised false-positive rate", "Seen on healthy test images")
    axes.fill_between(promised, promised - band, promised + band, color=MUTED, alpha=0.25)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.6)
    axes.plot(promised, seen, color=HEALTHY, linewidth=2)
    axes.set_title(f"{evaluation.data}: calibration on {count} healthy images", fontsize=10)
    return _save(figure, path)


def _counts(evaluation: Evaluation) -> str:
    return f"{evaluation.normal_images} healthy, {evaluation.sick_images} sick test images"


def _figure(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
    return path
