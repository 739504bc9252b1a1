"""The Detect tab in HTML: cards, legend, table of scores, and what an empty page says.

Pure functions from data to text.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from html import escape

from medvae.engine.overlay import SCALE, colour_bar
from ui.looking import Look, Unreadable
from ui.models import ModelView
from ui.pictures import to_uri
from ui.places import Place
from ui.plots import short
from ui.views import NOTICE, count, link, notice, percent

TRUTH_WORDS = {"normal": "labelled healthy", "sick": "labelled sick"}


def draw_results(looks: Sequence[Look | Unreadable], model: ModelView) -> str:
    """All cards, with what is needed to read them above and all figures below."""
    cards = "".join(
        card(look, model.validation_images) if isinstance(look, Look) else error_card(look)
        for look in looks
    )
    seen = [look for look in looks if isinstance(look, Look)]
    head = f'<header class="summary"><p>{summary(seen, len(looks))}</p>{_context(model)}</header>'
    figures = score_table(seen) if seen else ""
    bar = legend(seen[0].detection.pixel_threshold) if seen else ""
    return f'<div class="results">{head}{bar}<div class="cards">{cards}</div>{figures}</div>'


def summary(seen: Sequence[Look], total: int) -> str:
    """ "3 images: 1 unusual, 2 within the healthy range"."""
    unusual = sum(look.detection.unusual for look in seen)
    parts = [f"<b>{unusual}</b> unusual", f"<b>{len(seen) - unusual}</b> within the healthy range"]
    if len(seen) < total:
        parts.append(f"<b>{total - len(seen)}</b> could not be read")
    return f"{count(total, 'image')}: " + ", ".join(parts)


def card(look: Look, validation_images: int) -> str:
    """Input, healthy counterpart and heatmap of one image, and the verdict in words."""
    detection = look.detection
    name = escape(detection.name)
    verdict = "Unusual" if detection.unusual else "Within the healthy range"
    words = rarity(detection.p_value, validation_images)
    if detection.warning:
        verdict, words = "Not a chest X-ray?", f"It {escape(detection.warning)}."
    truth = f'<span class="truth">{TRUTH_WORDS[look.truth]}</span>' if look.truth else ""
    pictures = (
        ("Input", "the X-ray", look.original),
        ("Healthy counterpart", "what a healthy version would look like", look.counterpart),
        ("Where it differs", f"heatmap: {verdict.lower()}", look.heat),
    )
    figures = "".join(
        f'<figure><img src="{to_uri(pixels)}" alt="{escape(meaning)}, {name}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for caption, meaning, pixels in pictures
    )
    style = "unusual" if detection.unusual else "usual"
    return (
        f'<article class="card {style}" aria-label="{name}: {verdict}">'
        f'<div class="triptych">{figures}</div><div class="finding">'
        f'<p class="verdict"><i class="dot"></i>{verdict}</p>'
        f'<p class="score" title="Score: how far from healthy. Above the threshold the '
        f'image is called unusual."><b>{short(detection.score)}</b> score, threshold '
        f"{short(detection.threshold)}</p>"
        f'<p class="words">{words}</p><p class="name"><span>{name}</span>{truth}</p>'
        "</div></article>"
    )


def error_card(unreadable: Unreadable) -> str:
    return (
        f'<article class="card failed" aria-label="{escape(unreadable.name)}: not read">'
        '<div class="finding"><p class="verdict"><i class="dot"></i>Could not be read</p>'
        f'<p class="words">{escape(unreadable.reason)}</p>'
        f'<p class="name"><span>{escape(unreadable.name)}</span></p></div></article>'
    )


def rarity(p_value: float, validation_images: int) -> str:
    """A p-value in words. p = (1 + images scoring as high) / (N + 1), see calibration.py."""
    as_high = round(p_value * (validation_images + 1)) - 1
    below = validation_images - as_high
    if as_high <= 0:
        return f"More unusual than all {validation_images:,} healthy validation images"
    if below <= 0:
        return f"Less unusual than all {validation_images:,} healthy validation images"
    share = 100 * below / validation_images
    return f"More unusual than {share:.1f} % of healthy validation images"


@lru_cache(maxsize=4)
def legend(pixel_threshold: float) -> str:
    """The colours of the heatmap, with their unit."""
    marks = "".join(f"<span>{mark:+.0f}</span>" if mark else "<span>0</span>" for mark in (
        -SCALE, -SCALE / 2, 0, SCALE / 2, SCALE
    ))  # fmt: skip
    bar = to_uri(colour_bar(256, 10, pixel_threshold))
    meaning = (
        "z-score: the difference from the healthy counterpart, in units of how much healthy "
        "images differ at that place. Differences that healthy images show too stay unpainted. The "
        "scale is the same for every image."
    )
    return (
        f'<div class="legend" title="{meaning}"><span>Darker than healthy</span>'
        f'<div><img src="{bar}" alt="colour bar, blue to yellow">'
        f'<div class="marks">{marks}</div></div><span>Brighter than healthy</span>'
        '<span class="unit">z-score of the difference</span></div>'
    )


def score_table(seen: Sequence[Look]) -> str:
    """Every part of the score of every image, for whoever wants the figures."""
    from medvae.engine.scores import DEFAULT_SCORE, LABELS

    meanings = {
        "mse": "Squared error of the reconstruction, summed over the pixels",
        "kld": "How far the image's code lies from the typical healthy code, in nats",
    }
    heads = "".join(
        f'<th class="number" title="{escape(meanings.get(name, "The score behind the verdict"))}">'
        f"{escape(LABELS[name])}{'*' if name == DEFAULT_SCORE else ''}</th>"
        for name in seen[0].detection.scores
    )
    rows = "".join(_row(look) for look in seen)
    p_meaning = "Share of healthy images that would score at least this high"
    return (
        f'<details class="panel"><summary>All scores</summary><div class="scroll">'
        f'<table id="score-table"><thead><tr><th>Image</th><th>Verdict</th>{heads}'
        f'<th class="number" title="{p_meaning}">p-value</th><th>Label</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        "<p>* decides the verdict. All scores rise with abnormality.</p></details>"
    )


def report_card(uri: str, file_name: str) -> str:
    """The drawn card, to look at and to keep."""
    return (
        '<section class="panel" id="report-card"><h2>Report card</h2>'
        f'<img class="wide" src="{uri}" alt="Report card: originals, healthy reconstructions and '
        'difference heatmaps">'
        f'<p><a class="button" href="{uri}" download="{escape(file_name)}">Download PNG</a></p>'
        "</section>"
    )


def intro(model: ModelView, training: str = "", example: str | None = None) -> str:
    """What the tab says before there are results.

    training: what the run that will bring a model is doing, as HTML. example: a report card's URI.
    """
    if model.status == "loading":
        return notice("One moment", "The model is being loaded.")
    if model.status == "damaged":
        choose = link(Place("runs"), "Choose another run")
        return notice("The model cannot be read", escape(model.message), f"{choose} to repair it.")
    if model.status == "ready":
        return notice(
            "Drop a chest X-ray to begin",
            "You will see three pictures: the X-ray, its healthy counterpart (what the model, "
            "which has only ever learnt healthy chests, makes of it), and where the two differ.",
            "No X-ray at hand? <b>Show test images</b> takes some that this model never learnt "
            "from, and whose label is known.",
            "Uploads are read, shown and deleted: nothing of them stays on the disk.",
        ) + (_example(example) if example else "")
    if training:
        see = link(Place("train"), "Watch it learn")
        return notice(
            "The first model is being trained",
            training,
            f"{see}, or wait here: as soon as it is finished, you can drop an X-ray.",
        )
    go = link(Place("train"), "Train tab")
    return notice("No model yet", f"Train one on the {go}: a minute is enough for a first try.")


def _example(uri: str) -> str:
    return (
        '<figure class="panel example"><figcaption>What to expect: sick test images that this '
        'model never learnt from</figcaption><img class="wide" src="' + uri + '" '
        'alt="Five sick test images, their healthy counterparts and heatmaps"></figure>'
    )


def _row(look: Look) -> str:
    detection = look.detection
    scores = "".join(f'<td class="number">{value:,.2f}</td>' for value in detection.scores.values())
    verdict = "unusual" if detection.unusual else "within range"
    return (
        f"<tr><td>{escape(detection.name)}</td><td>{verdict}</td>{scores}"
        f'<td class="number">{detection.p_value:.4f}</td>'
        f"<td>{TRUTH_WORDS[look.truth] if look.truth else '–'}</td></tr>"
    )


def _context(model: ModelView) -> str:
    """The model that said so: no verdict without it."""
    if math.isfinite(model.threshold):
        rule = (
            f"threshold {short(model.threshold)}, which {percent(model.target_fpr)} of healthy "
            "images exceed by mistake"
        )
    else:
        rule = "too few healthy validation images for a threshold: nothing is called unusual"
    run = link(Place("runs", model.run), model.run)
    return f'<p class="context">Model {run}, {rule}. {NOTICE}.</p>'
