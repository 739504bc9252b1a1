"""The small pieces of HTML that all tabs share, and how figures are written for people.

Pure functions from data to text. Whatever came from a user or a file goes through `escape`.
"""

import math
from datetime import datetime
from html import escape
from pathlib import PurePath
from typing import Any

from jobs.views import JobView, Status
from medvae.engine.events import Stop
from ui.places import Place

STATUS_WORDS = {
    Status.QUEUED: "waiting",
    Status.RUNNING: "running",
    Status.SUCCEEDED: "finished",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}
STOP_WORDS = {Stop.CANCEL: "cancelling", Stop.KEEP: "stopping", Stop.PAUSE: "pausing"}
NO_VALUE = '<span class="none">–</span>'
NOTICE = "Research use only, not a medical device"


def badge(job: JobView) -> str:
    """The status of a job as a coloured word."""
    word = STATUS_WORDS[job.status]
    if job.status is Status.RUNNING and job.stop is not None:
        word = STOP_WORDS[job.stop]
    return f'<span class="badge {job.status.value}">{word}</span>'


def link(place: Place, text: str, style: str = "") -> str:
    """A link within the page: a real address, followed without loading the page anew."""
    styled = f' class="{style}"' if style else ""
    return f'<a href="{escape(place.url)}" data-place{styled}>{escape(text)}</a>'


def tile(name: str, value: str, meaning: str) -> str:
    """One figure with its name; `meaning` explains it to whoever points at it."""
    return (
        f'<div class="tile" title="{escape(meaning)}" tabindex="0"><dt>{escape(name)}</dt>'
        f"<dd>{escape(value)}</dd></div>"
    )


def tiles(*entries: str) -> str:
    return f'<dl class="tiles">{"".join(entries)}</dl>'


def panel(title: str, body: str, style: str = "") -> str:
    """A titled card. `body` is HTML."""
    return f'<section class="panel {style}"><h2>{escape(title)}</h2>{body}</section>'


def notice(title: str, *sentences: str, style: str = "") -> str:
    """What an empty place says: a heading and what to do next. The sentences are HTML."""
    text = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    return f'<section class="panel notice {style}"><h2>{escape(title)}</h2>{text}</section>'


def fault_list(title: str, faults: list[tuple[str, str]]) -> str:
    """All faults of a form at once: (where, what)."""
    entries = "".join(
        f"<li><strong>{escape(where)}</strong> {escape(what)}</li>" for where, what in faults
    )
    return f'<div class="faults" role="alert"><p>{escape(title)}</p><ul>{entries}</ul></div>'


def log_panel(text: str) -> str:
    """The end of a log, as it was written."""
    if not text:
        return '<p class="meta">There is no log yet: the run has not begun.</p>'
    return f'<pre class="log" tabindex="0">{escape(text)}</pre>'


def progress_bar(label: str, done: int, total: int, style: str = "") -> str:
    share = 0.0 if total <= 0 else min(1.0, done / total)
    return (
        f'<div class="bar {style}" role="progressbar" aria-label="{escape(label)}" '
        f'aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{done}">'
        f'<span style="width:{100 * share:.1f}%"></span></div>'
    )


def duration(seconds: float | None) -> str:
    """ "8 s", "1 min 40 s", "2 h 05 min"; a dash for None."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(seconds: float | None) -> str:
    """ "24 Nov 2026, 14:03" on the clock of this machine; a dash for None."""
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(seconds).strftime("%d %b %Y, %H:%M")


def clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M")


def count(number: int, noun: str) -> str:
    """ "1 image", "2,000 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def decimal(value: float, places: int = 2) -> str:
    """ "1,204.50", "−0.57" with a true minus; a dash for what is not finite."""
    return f"{value:,.{places}f}".replace("-", "−") if math.isfinite(value) else "–"


def signed(value: float, places: int = 1) -> str:
    """ "+2.5", "−2.5", "0"."""
    return decimal(value, places) if value <= 0 else f"+{decimal(value, places)}"


def percent(share: float) -> str:
    """ "5 %", "2.5 %"."""
    return f"{100 * share:.3g} %"


def interval(estimate: dict[str, float]) -> str:
    """A figure and its 95 % interval: "0.931 [0.902, 0.957]"."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def data_name(config: dict[str, Any] | None) -> str:
    """The data set of a job in words."""
    data = (config or {}).get("data", {})
    if not data:
        return "–"
    root = data.get("root")
    return f"{data.get('phantoms', 0):,} phantoms" if root is None else PurePath(root).name
