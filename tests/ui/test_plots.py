import math
import re

import pytest

from ui.plots import MAX_POINTS, Line, Title, line_chart, short

LOSS = Title("Loss", "nats")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (282.4, "282"),
        (1234.5, "1,234"),
        (-0.5, "-0.500"),
        (3.2e-7, "3.2e-07"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_are_short_and_readable(value: float, text: str) -> None:
    assert short(value) == text


def test_a_chart_without_a_number_is_nothing_at_all() -> None:
    assert line_chart(LOSS, [Line("training", "train", [])]) == ""
    assert line_chart(LOSS, [Line("training", "train", [(1, math.nan)])]) == ""


@pytest.mark.parametrize("points", [[(1, 5.0)], [(1, 5.0), (2, 5.0)], [(1, 0.0), (2, -3.0)]])
def test_flat_and_single_values_are_drawn_inside_the_chart(
    points: list[tuple[float, float]],
) -> None:
    chart = line_chart(LOSS, [Line("training", "train", points)])
    assert "nan" not in chart
    for y in re.findall(r'cy="([\d.]+)"', chart):
        assert 0 <= float(y) <= 190


def test_a_long_run_is_thinned_but_ends_with_its_newest_value() -> None:
    points = [(float(x), 1 / x) for x in range(1, 20_001)]
    chart = line_chart(LOSS, [Line("training", "train", points)])
    assert chart.count("<rect") <= MAX_POINTS
    assert "epoch 20000:" in chart
    assert len(chart) < 200_000


def test_the_best_epoch_and_the_newest_values_are_written_on_it() -> None:
    lines = [
        Line("training", "train", [(1, 3.0), (2, 2.0)]),
        Line("validation", "validation", [(1, 2.0), (2, 4.0)]),
    ]
    chart = line_chart(LOSS, lines, marked=1)
    assert ">best<" in chart
    assert 'aria-label="Loss by epoch, newest: training 2.00, validation 4.00"' in chart
    assert "<title>epoch 1: training 3.00, validation 2.00</title>" in chart


def test_names_are_escaped() -> None:
    chart = line_chart(Title("<i>", "<i>", "<i>"), [Line("<i>", "train", [(1, 1.0), (2, 2.0)])])
    assert "<i>" not in chart
