"""Several runs side by side in HTML: curves laid over each other, figures, settings.

Pure functions from rows to text. The first row is the run that the URL names, the others are
those it is compared with.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ui.meanings import AUROC, BEST_LOSS, KL, LOSS, RECONSTRUCTION
from ui.places import Place
from ui.plots import Line, Title, line_chart, short
from ui.runs_views import Row, setting_value
from ui.views import NO_VALUE, badge, data_name, duration, interval, link, panel

MOST_COMPARED = 6  # as many as there are colours that can be told apart
CURVES = (
    (Title("Reconstruction", "healthy validation images", RECONSTRUCTION), "validation_mse"),
    (Title("KL divergence", "healthy validation images", KL), "validation_kld"),
    (Title("Loss", "healthy validation images", LOSS), "validation_loss"),
)


def can_compare(row: Row) -> bool:
    return row.job.kind == "train"


def compare_link(row: Row, chosen: str, others: tuple[str, ...]) -> str:
    """What puts a run of the table beside the chosen one, or takes it away again.

    Empty where that is not possible.
    """
    run = row.job.id
    if not chosen or not can_compare(row) or run == chosen:
        return ""
    if run in others:
        rest = tuple(other for other in others if other != run)
        return link(Place("runs", chosen, rest), "remove", "compare")
    if len(others) + 1 >= MOST_COMPARED:
        return ""
    return link(Place("runs", chosen, (*others, run)), "compare", "compare")


def comparison(rows: Sequence[Row]) -> str:
    """All about two to MOST_COMPARED runs."""
    first = rows[0].job.id
    keys = "".join(_key(n, row, first, rows) for n, row in enumerate(rows, 1))
    back = link(Place("runs", first), "Stop comparing")
    head = panel(
        "Runs compared", f'<ul class="compared">{keys}</ul><p class="meta">{back}</p>', "run-keys"
    )
    charts = "".join(_chart(rows, *curve) for curve in CURVES)
    curves = f'<div class="charts">{charts}</div>' if charts else ""
    tables = panel("Figures", _figures(rows)) + _settings(rows)
    return f'<div class="details" id="comparison">{head}{curves}{tables}</div>'


def _key(number: int, row: Row, first: str, rows: Sequence[Row]) -> str:
    job = row.job
    others = tuple(each.job.id for each in rows[1:] if each is not row)
    drop = link(Place("runs", first, others), "remove", "compare") if number > 1 else ""
    return (
        f'<li><span class="key run{number}"></span>{link(Place("runs", job.id), job.name)} '
        f"{badge(job)} {drop}</li>"
    )


def _chart(rows: Sequence[Row], title: Title, figure: str) -> str:
    lines = [
        Line(
            row.job.name,
            f"run{number}",
            [(e.epoch, getattr(e, figure)) for _, e in sorted(row.history.epochs.items())],
        )
        for number, row in enumerate(rows, 1)
    ]
    return line_chart(title, lines)


def _figures(rows: Sequence[Row]) -> str:
    lines: list[tuple[str, str, Callable[[Row], str]]] = [
        ("Data", "", lambda row: escape(data_name(row.job.config))),
        ("Protocol", "How the test images were set aside", lambda row: _of(row, "protocol", str)),
        ("Epochs", "", lambda row: row.progress),
        (
            "Best validation loss",
            f"{BEST_LOSS} Comparable where beta is the same.",
            lambda row: NO_VALUE if row.best_loss is None else short(row.best_loss),
        ),
        ("AUROC [95 %]", AUROC, _auroc),
        ("Sensitivity [95 %]", "", lambda row: _of(row, "sensitivity", interval)),
        ("Specificity [95 %]", "", lambda row: _of(row, "specificity", interval)),
        ("Duration", "", lambda row: duration(row.job.seconds)),
    ]
    body = "".join(
        f'<tr><th scope="row" title="{escape(meaning)}">{name}</th>'
        + "".join(f'<td class="number">{value(row)}</td>' for row in rows)
        + "</tr>"
        for name, meaning, value in lines
    )
    return _table(rows, body)


def _of(row: Row, figure: str, write: Callable[[Any], str]) -> str:
    evaluation = (row.job.result or {}).get("evaluation")
    return escape(write(evaluation[figure])) if evaluation else NO_VALUE


def _auroc(row: Row) -> str:
    evaluation = (row.job.result or {}).get("evaluation")
    return interval(evaluation["auroc"][evaluation["score"]]) if evaluation else NO_VALUE


def _settings(rows: Sequence[Row]) -> str:
    """Settings that differ, each marked, then those that are the same, folded away."""
    configs = [_flat(row.job.config or {}) for row in rows]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    different = [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
    same = [key for key in keys if key not in different]
    title = "Settings that differ"
    if different:
        body = "".join(_setting(key, configs) for key in different)
        shown = panel(title, _table(rows, body))
    else:
        shown = panel(title, '<p class="meta">None: the same settings throughout.</p>')
    rest = "".join(_setting(key, configs) for key in same)
    return shown + (
        f'<details class="panel"><summary>{len(same)} settings that are the same</summary>'
        f"{_table(rows, rest)}</details>"
    )


def _setting(key: str, configs: Sequence[dict[str, Any]]) -> str:
    usual = configs[0].get(key)
    section, _, name = key.partition(".")
    cells = "".join(
        f'<td class="number">{_value(config, key)}</td>'
        if config.get(key) == usual
        else f'<td class="number"><mark>{_value(config, key)}</mark></td>'
        for config in configs
    )
    return f'<tr><th scope="row">{section}: {escape(name.replace("_", " "))}</th>{cells}</tr>'


def _value(config: dict[str, Any], key: str) -> str:
    return escape(setting_value(config[key])) if key in config else NO_VALUE


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, values in config.items()
        for name, value in values.items()
    }


def _table(rows: Sequence[Row], body: str) -> str:
    heads = "".join(
        f'<th class="number" scope="col"><span class="key run{n}"></span>'
        f"{escape(row.job.name)}</th>"
        for n, row in enumerate(rows, 1)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Comparison">'
        f'<table class="compare"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
