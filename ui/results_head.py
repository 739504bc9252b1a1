"""What stands above the cards of the Detect tab: counts, model, switches, legend, a guide.

Pure functions from data to text. assets/detect.js keeps counts and threshold up to date.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from medvae.engine.overlay import SCALE, colour_bar
from ui.looking import Look
from ui.meanings import FALSE_ALARMS, Z_SCORE
from ui.models import ModelView
from ui.pictures import to_uri
from ui.places import Place
from ui.results import Results, judged
from ui.views import NOTICE, count, decimal, link, percent, signed

NO_VERDICT = "Too few healthy validation images to judge so strictly."
HIGHEST_FPR = 0.2  # of the slider, unless the model's own is higher
READING = (
    "<b>Healthy counterpart</b>: what the model makes of the X-ray. It has only ever learnt "
    "healthy chests, so that what is sick gets lost on the way.",
    "<b>Where it differs</b>: warm where the X-ray is brighter than its counterpart, blue where "
    "it is darker. The stronger the colour, the rarer such a difference is among healthy images; "
    "what they show too stays unpainted.",
    "<b>Unusual</b> means that few healthy images score this high: at most the share of false "
    "alarms that you accept. It names no disease. Letters, tubes and posture differ, too, and a "
    "sick image may well look healthy to the model.",
)


def results_head(results: Results) -> str:
    """Everything above the cards; only counts and model where no image could be read."""
    seen = [look for look in results.looks if isinstance(look, Look)]
    counts = f"<p>{summary(seen, len(results.looks))}</p>{called_sick(seen)}"
    head = f'<header class="summary">{counts}{_context(results.model)}</header>'
    if not seen:
        return head
    healthy = results.healthy.get(results.score, ())
    first = seen[0].detection
    return head + tray(first.target_fpr, healthy) + legend(first.pixel_threshold) + guide()


def guide() -> str:
    """How to read a card, folded away."""
    text = "".join(f"<p>{sentence}</p>" for sentence in READING)
    return f'<details class="guide"><summary>How to read this</summary>{text}</details>'


def called_sick(seen: Sequence[Look]) -> str:
    """Of test images, whose labels are known: how many of each label are called unusual."""
    parts = []
    for truth, words in (("sick", "labelled sick"), ("normal", "labelled healthy")):
        group = [look.detection for look in seen if look.truth == truth and look.detection.is_chest]
        if group:
            called = sum(detection.unusual for detection in group)
            parts.append(f'<b data-called="{truth}">{called}</b> of {len(group)} {words}')
    return f'<p class="meta">Called unusual: {", ".join(parts)}.</p>' if parts else ""


def tray(target_fpr: float, healthy: Sequence[float]) -> str:
    """What acts on all cards at once, in the browser: accepted false alarms, order, choice.

    healthy: the scores of healthy validation images, ascending; the highest of them are the
    thresholds of each target (see `Calibration.threshold`). The model's own target need not be a
    step of the slider: it holds, to the last digit, until somebody moves that.
    """
    highest = max(HIGHEST_FPR, target_fpr)
    reachable = math.floor(highest * (len(healthy) + 1) + 1e-9)
    thresholds = ",".join(f"{score:.6g}" for score in list(healthy)[::-1][:reachable])
    orders = {"given": "As given", "unusual": "Most unusual first", "name": "Name"}
    shown = {"all": "All", "unusual": "Unusual", "usual": "Healthy range", "failed": "Not read"}
    percents = 100 * target_fpr
    return (
        f'<div class="tray" data-healthy="{len(healthy)}" data-thresholds="{thresholds}">'
        f'<label class="fpr" title="{FALSE_ALARMS}">Accepted false alarms '
        f'<input type="range" id="target-fpr" min="1" max="{100 * highest:g}" step="0.5" '
        f'value="{percents:g}" data-target="{target_fpr}"><output>{percents:g} %</output></label>'
        f'<label>Order <select id="card-order">{_options(orders)}</select></label>'
        f'<label>Show <select id="card-filter">{_options(shown)}</select></label></div>'
    )


def summary(seen: Sequence[Look], total: int) -> str:
    """ "3 images: 1 unusual, 2 within the healthy range"."""
    chests = [look.detection for look in seen if look.detection.is_chest]
    styles = [judged(detection.unusual, detection.threshold)[0] for detection in chests]
    undecided = styles.count("undecided")
    parts = [
        f'<b class="count-unusual">{styles.count("unusual")}</b> unusual',
        f'<b class="count-usual">{styles.count("usual")}</b> within the healthy range'
        f'<span title="{NO_VERDICT}"{"" if undecided else " hidden"}>, '
        f'<b class="count-undecided">{undecided}</b> without a verdict</span>',
    ]
    if len(chests) < len(seen):
        parts.append(f"<b>{len(seen) - len(chests)}</b> that look like no chest X-ray")
    if len(seen) < total:
        parts.append(f"<b>{total - len(seen)}</b> could not be read")
    return f"{count(total, 'image')}: " + ", ".join(parts)


def _options(words: dict[str, str]) -> str:
    return "".join(f'<option value="{value}">{word}</option>' for value, word in words.items())


@lru_cache(maxsize=4)
def legend(pixel_threshold: float) -> str:
    """The colours of the heatmap, with their unit."""
    marks = "".join(
        f"<span>{signed(mark, 0)}</span>" for mark in (-SCALE, -SCALE / 2, 0, SCALE / 2, SCALE)
    )
    bar = to_uri(colour_bar(512, 10, pixel_threshold))
    return (
        f'<div class="legend" title="{Z_SCORE}" tabindex="0"><p><span>Darker than healthy</span>'
        "<span>z-score against healthy images</span><span>Brighter than healthy</span></p>"
        f'<img src="{bar}" alt="colour bar from blue over gray to yellow">'
        f'<p class="marks">{marks}</p></div>'
    )


def _context(model: ModelView) -> str:
    """The model that said so: no verdict without it."""
    if math.isfinite(model.threshold):
        rule = (
            f'threshold <span class="threshold">{decimal(model.threshold)}</span>, which '
            f'<span class="target">{percent(model.target_fpr)}</span> of healthy images exceed '
            "by mistake"
        )
    else:
        rule = "too few healthy validation images for a threshold: nothing is called unusual"
    run = link(Place("runs", model.run), model.run)
    return f'<p class="context">Model {run}, {rule}. {NOTICE}.</p>'
