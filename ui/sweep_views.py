"""A sweep in HTML: its runs ranked by healthy validation images, and what each setting does.

Pure functions from the runs of a sweep to text.
"""

from collections.abc import Sequence
from html import escape

from jobs.sweeps import Trial, told
from ui.places import Place
from ui.plots import Title, dot_chart, short
from ui.views import NO_VALUE, badge, link, panel

RANKED_BY = (
    "Mean MSE + KLD (at beta 1) on healthy validation images, in the epoch that the run kept; "
    "lower is better. No sick image and no test image has a say."
)


def sweep_ranking(trials: Sequence[Trial]) -> str:
    """The best run first, with what it changed, then a plot for each setting that was tried."""
    rows = "".join(_row(place, trial) for place, trial in enumerate(trials, 1))
    table = (
        '<div class="scroll"><table class="runs"><thead><tr><th class="number">Rank</th>'
        f'<th>Settings</th><th class="number" title="{RANKED_BY}">Validation MSE + KLD</th>'
        f"<th>Status</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="meta">{RANKED_BY}</p>'
    )
    charts = "".join(_chart(key, trials) for key in _tried(trials))
    plots = f'<div class="charts">{charts}</div>' if charts else ""
    return f'<div class="details">{panel("Runs of this sweep", table)}{plots}</div>'


def _row(place: int, trial: Trial) -> str:
    target = Place("runs", trial.job.id)
    figure = NO_VALUE if trial.elbo is None else short(trial.elbo)
    rank = NO_VALUE if trial.elbo is None else str(place)
    return (
        f'<tr data-href="{escape(target.url)}"><td class="number" data-label="Rank">{rank}</td>'
        f'<td class="lead">{link(target, told(trial.changes))}</td>'
        f'<td class="number" data-label="MSE + KLD">{figure}</td>'
        f'<td data-label="Status">{badge(trial.job)}</td></tr>'
    )


def _tried(trials: Sequence[Trial]) -> list[str]:
    """The settings with more than one value."""
    keys = dict.fromkeys(key for trial in trials for key in trial.changes)
    return [key for key in keys if len({str(trial.changes.get(key)) for trial in trials}) > 1]


def _chart(key: str, trials: Sequence[Trial]) -> str:
    points = [
        (float(trial.changes[key]), trial.elbo)
        for trial in trials
        if trial.elbo is not None and isinstance(trial.changes.get(key), int | float)
    ]
    name = key.partition(".")[2].replace("_", " ")
    return dot_chart(Title(name[:1].upper() + name[1:], "validation MSE + KLD", RANKED_BY), points)
