"""The viewer: one image large, compared with its healthy counterpart, and all that was found.

Pure functions from results to HTML. Sliders and switches work in the browser (assets/detect.js).
"""

from bisect import bisect_left
from html import escape

from medvae.engine.overlay import DIFFERENCE_SCALE, difference_layer, heat_layer
from ui.detect_views import TRUTH_WORDS, legend, rarity
from ui.looking import Look
from ui.pictures import layer_uri, to_uri
from ui.plots import histogram, short
from ui.results import Results
from ui.views import NOTICE, panel

MOST_REGIONS = 5
MAPS = {
    "z": "z-score: brighter or darker than healthy",
    "difference": "absolute difference",
    "none": "no map",
}


def viewer(results: Results, index: int) -> str:
    """A dialog for one image, which the browser opens. Raises `DataError` for one not there."""
    look = results.look(index)
    name = escape(look.detection.name)
    shown = [n for n, each in enumerate(results.looks) if isinstance(each, Look)]
    at = shown.index(index)
    before = _step(shown[at - 1], "Previous") if at > 0 else ""
    after = _step(shown[at + 1], "Next") if at + 1 < len(shown) else ""
    return (
        f'<dialog class="viewer" aria-label="{name}" data-index="{index}"><header>'
        f'<h2>{name}</h2><span class="steps">{before}{after}'
        '<button class="button" data-close>Close</button></span></header>'
        f'<div class="viewer-body"><div>{_stage(look)}{_controls()}</div>'
        f'<div class="side">{_verdict(results, look)}{_scores(results, look)}</div></div>'
        f'<p class="meta">Model {escape(results.model.run)}. {NOTICE}.</p></dialog>'
    )


def _step(index: int, words: str) -> str:
    return f'<button class="button" data-look="{index}">{words}</button>'


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
    return (
        '<div class="stage" data-map="z">'
        f'<img src="{to_uri(look.original)}" alt="Input, the X-ray">'
        f'<img class="counterpart" src="{to_uri(look.counterpart)}" alt="Healthy counterpart">'
        f'{maps}<span class="edge"></span></div>'
    )


def _controls() -> str:
    kinds = "".join(f'<option value="{kind}">{words}</option>' for kind, words in MAPS.items())
    return (
        '<div class="viewer-controls"><label>Input '
        '<input type="range" id="view-split" min="0" max="100" value="100"> healthy counterpart'
        '</label><label>Map <select id="view-map">' + kinds + "</select></label>"
        '<label>Opacity <input type="range" id="view-opacity" min="0" max="100" value="65">'
        "</label></div>"
    )


def _verdict(results: Results, look: Look) -> str:
    detection = look.detection
    style, verdict = (
        ("unusual", "Unusual") if detection.unusual else ("usual", "Within the healthy range")
    )
    words = rarity(detection.p_value, results.model.validation_images)
    if detection.warning:
        style, verdict, words = "failed", "Not a chest X-ray?", f"It {escape(detection.warning)}"
    truth = f" ({TRUTH_WORDS[look.truth]})" if look.truth else ""
    chart = histogram(
        "Scores of healthy validation images",
        f"{len(results.healthy.get(results.score, ()))} images",
        results.healthy.get(results.score, ()),
        {"threshold": detection.threshold, "this image": detection.score},
    )
    return (
        f'<div class="{style}"><p class="verdict">'
        f'<i class="dot"></i><span>{verdict}</span></p>'
        f"<p>{words}{truth}.</p></div>{_regions(look)}"
        f"{legend(detection.pixel_threshold)}"
        f'<p class="meta">Absolute difference: dark red to white at {DIFFERENCE_SCALE:g} of the '
        f"gray scale, the same for every image.</p>{chart}"
    )


def _regions(look: Look) -> str:
    """Where the map leaves what healthy pixels show: how large, and how far."""
    regions = look.detection.regions[:MOST_REGIONS]
    if not regions:
        return "<p>No region stands out.</p>"
    listed = "".join(
        f"<li>{'brighter' if region.mean_z > 0 else 'darker'} than healthy over "
        f"{100 * region.area:.1f} % of the image, mean z {region.mean_z:+.1f}</li>"
        for region in regions
    )
    return f'<ol class="regions">{listed}</ol>'


def _scores(results: Results, look: Look) -> str:
    """Every part, with its place among the healthy."""
    from medvae.engine.labels import LABELS

    rows = "".join(
        f"<tr{' class=deciding' if name == results.score else ''}><th>{escape(LABELS[name])}</th>"
        f'<td class="number">{short(value)}</td><td class="number">'
        f"{_place(value, results.healthy.get(name, ()))}</td></tr>"
        for name, value in look.detection.scores.items()
    )
    table = (
        '<table class="parts"><thead><tr><th>Score</th><th class="number">Value</th>'
        '<th class="number" title="Share of healthy validation images that score lower">'
        f"Above healthy</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    return panel("All parts of the score", table)


def _place(value: float, healthy: object) -> str:
    ordered = list(healthy)  # type: ignore[call-overload]
    return f"{100 * bisect_left(ordered, value) / len(ordered):.0f} %" if ordered else "–"
