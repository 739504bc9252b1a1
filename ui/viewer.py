"""The viewer: one image large, compared with its healthy counterpart, and all that was found.

Pure functions from results to HTML. Sliders and switches work in the browser (assets/detect.js).
"""

from bisect import bisect_left
from collections.abc import Sequence
from html import escape

from medvae.engine.overlay import DIFFERENCE_SCALE, difference_layer, heat_layer
from ui.contours import contours
from ui.detect_views import TRUTH_WORDS, rarity
from ui.looking import Look
from ui.meanings import ABOVE_HEALTHY, DISTANCE, SCORES
from ui.neighbours import Alike
from ui.pictures import layer_uri, to_uri
from ui.plots import Title, histogram
from ui.results import Results, judged
from ui.results_head import legend
from ui.views import NOTICE, decimal, panel, signed

MOST_REGIONS = 5
MAPS = {
    "z": "z-score: brighter or darker than healthy",
    "difference": "absolute difference",
    "none": "no map",
}


def viewer(results: Results, index: int, target_fpr: float) -> str:
    """A dialog for one image, which the browser opens. Raises `DataError` for one not there.

    target_fpr: the accepted share of false alarms, which decides the verdict.
    """
    look = results.look(index)
    name = escape(look.detection.name)
    shown = [n for n, each in enumerate(results.looks) if isinstance(each, Look)]
    at = shown.index(index)
    before = _step(shown[at - 1] if at > 0 else None, "Previous")
    after = _step(shown[at + 1] if at + 1 < len(shown) else None, "Next")
    return (
        f'<dialog class="viewer" aria-label="{name}" data-index="{index}"><header>'
        f'<h2>{name}</h2><span class="steps">{before}{after}'
        '<button class="button" data-close>Close</button></span></header>'
        f'<div class="viewer-body"><div class="picture">{_stage(look)}{_controls()}'
        '<div class="alike"><p class="meta">Looking for healthy images like it …</p></div></div>'
        f'<div class="side">{_verdict(results, look, target_fpr)}{_regions(look)}{_keys(look)}'
        f"{_chart(results, look, target_fpr)}{_scores(results, look)}</div></div>"
        f'<p class="meta">Model {escape(results.model.run)}. {NOTICE}.</p></dialog>'
    )


def neighbours(index: int, found: Sequence[Alike]) -> str:
    """The healthy training images most like image `index`, for the browser to put in its place."""
    figures = "".join(
        f'<figure><img src="{to_uri(each.pixels)}" alt="healthy training image {n}">'
        f'<figcaption title="{DISTANCE}" tabindex="0">distance {decimal(each.distance)}'
        "</figcaption></figure>"
        for n, each in enumerate(found, 1)
    )
    return (
        f'<div data-of="{index}"><h3>Healthy images most like it</h3><p class="meta">Of those that '
        f'the model learnt from.</p><div class="likes">{figures}</div></div>'
    )


def no_neighbours(index: int, why: str) -> str:
    return (
        f'<div data-of="{index}"><p class="meta">No healthy images to show: {escape(why)}</p></div>'
    )


def _step(index: int | None, words: str) -> str:
    to = 'aria-disabled="true"' if index is None else f'data-look="{index}"'  # keeps the focus
    return f'<button class="button" data-step="{words}" {to}>{words}</button>'


def _stage(look: Look) -> str:
    """All layers in one place: input, counterpart cut off at the slider, maps over both."""
    detection, shape = look.detection, look.original.shape
    layers = {
        "z": heat_layer(detection.anomaly_map, shape, detection.pixel_threshold),
        "difference": difference_layer(detection.absolute_difference, shape),
    }
    maps = "".join(
        f'<img class="layer" data-layer="{kind}" src="{layer_uri(pixels)}" alt="{MAPS[kind]}">'
        for kind, pixels in layers.items()
    )
    regions = detection.regions[:MOST_REGIONS]
    lines = contours(detection.anomaly_map, detection.pixel_threshold, regions)
    return (
        '<div class="stage" data-map="z">'
        f'<img src="{to_uri(look.original)}" alt="Input, the X-ray">'
        f'<img class="counterpart" src="{to_uri(look.counterpart)}" alt="Healthy counterpart">'
        f'{maps}{lines}<span class="edge"></span></div>'
    )


def _controls() -> str:
    kinds = "".join(f'<option value="{kind}">{words}</option>' for kind, words in MAPS.items())
    return (
        '<div class="viewer-controls"><label class="split"><span>Healthy counterpart</span>'
        '<input type="range" id="view-split" min="0" max="100" value="100"><span>Input</span>'
        f'</label><label>Map <select id="view-map">{kinds}</select></label>'
        '<label>Opacity <input type="range" id="view-opacity" min="0" max="100" value="65"></label>'
        '<label><input type="checkbox" id="view-contours" checked> Contours</label></div>'
    )


def _verdict(results: Results, look: Look, target_fpr: float) -> str:
    detection = look.detection
    style, verdict = judged(detection.p_value <= target_fpr, results.threshold(target_fpr))
    words = rarity(detection.p_value, results.model.validation_images)
    if detection.warning:
        style, verdict, words = "failed", "Not a chest X-ray?", f"It {escape(detection.warning)}"
    truth = f" It is {TRUTH_WORDS[look.truth]}." if look.truth else ""
    return (
        f'<div class="{style}"><p class="verdict"><i class="dot"></i><span>{verdict}</span></p>'
        f"<p>{words}.{truth}</p></div>"
    )


def _regions(look: Look) -> str:
    """Where the map leaves what healthy pixels show: how large, and how far."""
    regions = look.detection.regions
    if not regions:
        return '<p class="meta">No region stands out from what healthy images show.</p>'
    listed = "".join(
        f"<li>{'brighter' if region.mean_z > 0 else 'darker'} than healthy, "
        f"{decimal(100 * region.area, 1)} % of the image, mean z {signed(region.mean_z)}</li>"
        for region in regions[:MOST_REGIONS]
    )
    rest = len(regions) - MOST_REGIONS
    more = f'<p class="meta">and {rest} smaller</p>' if rest > 0 else ""
    return f'<div><h3>Regions that stand out</h3><ol class="regions">{listed}</ol>{more}</div>'


def _keys(look: Look) -> str:
    """What the colours of both maps mean; the browser shows the one of the map on display."""
    return (
        f'<div data-key="z">{legend(look.detection.pixel_threshold)}</div>'
        '<p class="meta" data-key="difference" hidden>Absolute difference: dark red to white at '
        f"{DIFFERENCE_SCALE:g} of the gray scale, the same for every image.</p>"
    )


def _chart(results: Results, look: Look, target_fpr: float) -> str:
    healthy = results.healthy.get(results.score, ())
    title = Title("Where it stands among healthy images", f"{len(healthy):,} scores")
    marks = {"threshold": results.threshold(target_fpr), "this image": look.detection.score}
    return histogram(title, healthy, marks)


def _scores(results: Results, look: Look) -> str:
    """Every part, with its place among the healthy."""
    from medvae.engine.labels import LABELS

    rows = "".join(
        f"<tr{' class=deciding' if name == results.score else ''}>"
        f'<th title="{escape(SCORES.get(name, ""))}" tabindex="0">{escape(LABELS[name])}</th>'
        f'<td class="number">{decimal(value)}</td><td class="number">'
        f"{_place(value, results.healthy.get(name, ()))}</td></tr>"
        for name, value in look.detection.scores.items()
    )
    table = (
        '<table class="parts"><thead><tr><th>Score</th><th class="number">Value</th>'
        f'<th class="number" title="{ABOVE_HEALTHY}">Above healthy</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        '<p class="meta">The bold one decides. All rise with abnormality.</p>'
    )
    return panel("All parts of the score", table)


def _place(value: float, ordered: Sequence[float]) -> str:
    return f"{100 * bisect_left(ordered, value) / len(ordered):.0f} %" if ordered else "–"
