import pytest

from ui.places import Place
from ui.views import (
    count,
    data_name,
    duration,
    fault_list,
    interval,
    link,
    moment,
    notice,
    percent,
    progress_bar,
    tile,
)

NASTY = "<script>alert('x')</script>\"&"


@pytest.mark.parametrize(
    "html",
    [
        link(Place("runs", NASTY), NASTY),
        tile(NASTY, NASTY, NASTY),
        fault_list(NASTY, [(NASTY, NASTY)]),
        notice(NASTY),
        progress_bar(NASTY, 1, 2),
    ],
)
def test_whatever_came_from_outside_is_escaped(html: str) -> None:
    assert "<script" not in html
    assert "'x'" not in html


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.4, "0 s"), (59.4, "59 s"), (100, "1 min 40 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_figures_in_words() -> None:
    assert count(1, "image") == "1 image"
    assert count(2000, "image") == "2,000 images"
    assert percent(0.05) == "5 %"
    assert percent(0.025) == "2.5 %"
    assert interval({"value": 0.9312, "low": 0.9, "high": 0.96}) == "0.931 [0.900, 0.960]"
    assert moment(None) == "–"


def test_a_bar_tells_its_value_to_a_screen_reader_and_never_overflows() -> None:
    assert 'aria-valuenow="3"' in progress_bar("Epoch", 3, 4)
    assert "width:75.0%" in progress_bar("Epoch", 3, 4)
    assert "width:100.0%" in progress_bar("Epoch", 9, 4)
    assert "width:0.0%" in progress_bar("Epoch", 0, 0)


def test_data_sets_by_name() -> None:
    assert data_name(None) == "–"
    assert data_name({"data": {"root": None, "phantoms": 600}}) == "600 phantoms"
    assert data_name({"data": {"root": "/somewhere/chest_xray"}}) == "chest_xray"
