"""The Detect tab in HTML: cards, legend, table of scores, and what an empty page says.

Pure functions from data to text.
"""

from collections.abc import Sequence
from html import escape

from ui.downloads import Download
from ui.looking import Look, Unreadable
from ui.meanings import P_VALUE, SCORE, SCORES
from ui.models import ModelView
from ui.pictures import to_uri
from ui.places import Place
from ui.results import Results, judged
from ui.results_head import results_head
from ui.views import decimal, link, notice

TRUTH_WORDS = {"normal": "labelled healthy", "sick": "labelled sick"}


def draw_results(results: Results) -> str:
    """All cards, with what is needed to read them above and all figures below."""
    looks = results.looks
    cards = "".join(
        card(look, index, results.model.validation_images)
        if isinstance(look, Look)
        else error_card(look)
        for index, look in enumerate(looks)
    )
    table = score_table(looks) if any(isinstance(look, Look) for look in looks) else ""
    head = results_head(results)
    return f'<div class="results">{head}<div class="cards">{cards}</div>{table}</div>'


def card(look: Look, index: int, validation_images: int) -> str:
    """Input, healthy counterpart and heatmap of one image, and the verdict in words."""
    detection = look.detection
    name = escape(detection.name)
    style, verdict = judged(detection.unusual, detection.threshold)
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
    facts = f'data-p="{detection.p_value:.6f}" data-truth="{look.truth or ""}" '
    if detection.warning:
        style, facts = "failed", ""  # no verdict, whatever the accepted share of false alarms
    return (
        f'<article class="card {style}" aria-label="{name}: {verdict}" data-index="{index}" '
        f'{facts}data-score="{detection.score:.6g}" data-name="{name}">'
        f'<button class="triptych" data-look="{index}" aria-label="Look closely at {name}">'
        f'{figures}</button><div class="finding">'
        f'<p class="verdict"><i class="dot"></i><span>{verdict}</span></p>'
        f'<p class="score" title="{SCORE}" tabindex="0">score <b>{decimal(detection.score)}</b>, '
        f'threshold <span class="threshold">{decimal(detection.threshold)}</span></p>'
        f'<p class="words">{words}</p><p class="name"><label class="pick" title="Choose for the '
        f'downloads; with none chosen they hold all"><input type="checkbox" data-pick="{index}">'
        f"<span>{name}</span></label>{truth}</p>{_facts(look.facts)}</div></article>"
    )


def _facts(facts: dict[str, str]) -> str:
    """What a DICOM file says of itself, without anything that names a person."""
    told = " · ".join(f"{escape(name)} {escape(value)}" for name, value in facts.items())
    return f'<p class="meta">{told}</p>' if told else ""


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


def score_table(looks: Sequence[Look | Unreadable]) -> str:
    """Every part of the score of every image, for whoever wants the figures."""
    from medvae.engine.labels import LABELS
    from medvae.engine.scores import DEFAULT_SCORE

    heads = "".join(
        f'<th class="number" title="{escape(SCORES.get(name, ""))}">'
        f"{escape(LABELS[name])}{'*' if name == DEFAULT_SCORE else ''}</th>"
        for name in next(look for look in looks if isinstance(look, Look)).detection.scores
    )
    rows = "".join(_row(look, n) for n, look in enumerate(looks) if isinstance(look, Look))
    return (
        f'<details class="panel"><summary>All scores</summary><div class="scroll">'
        f'<table id="score-table"><thead><tr><th>Image</th><th>Verdict</th>{heads}'
        f'<th class="number" title="{P_VALUE}">p-value</th><th>Label</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        "<p>* decides the verdict. All scores rise with abnormality.</p></details>"
    )


def report_card(png: Download, pdf: Download) -> str:
    """The drawn card, to look at and to keep."""
    return (
        '<section class="panel" id="report-card"><h2>Report card</h2>'
        f'<img class="wide" src="{png.uri}" alt="Report card: originals, healthy reconstructions '
        'and difference heatmaps">'
        f'<p class="buttons">{download(png, "Download PNG")}{download(pdf, "Download PDF")}</p>'
        "</section>"
    )


def download(file: Download, words: str) -> str:
    """A link that saves what it holds; nothing of it lies on the server's disk."""
    return f'<a class="button" href="{file.uri}" download="{escape(file.name)}">{words}</a>'


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
            "Uploads are read, shown, and deleted after a few minutes: none of them is kept.",
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


def _row(look: Look, index: int) -> str:
    detection = look.detection
    scores = "".join(
        f'<td class="number">{decimal(value)}</td>' for value in detection.scores.values()
    )
    _, verdict = judged(detection.unusual, detection.threshold)
    if detection.warning:
        verdict = "Not a chest?"
    return (
        f'<tr data-of="{index}"><td>{escape(detection.name)}</td>'
        f'<td class="row-verdict">{verdict}</td>{scores}'
        f'<td class="number">{detection.p_value:.4f}</td>'
        f"<td>{TRUTH_WORDS[look.truth] if look.truth else '–'}</td></tr>"
    )
