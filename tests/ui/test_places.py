import pytest

from ui.places import Place


@pytest.mark.parametrize(
    "place",
    [
        Place(),
        Place("train"),
        Place("runs", "calm-heron-3f2a"),
        Place("train", "a&b=<c>"),
        Place("runs", "a", ("b", "c")),
        Place("train", origin="a"),
        Place("data", images="chest-128px-0a1b"),
    ],
)
def test_a_place_is_found_again_by_its_url(place: Place) -> None:
    assert Place.parse(place.url) == place


@pytest.mark.parametrize("query", ["", "?", "?tab=nowhere", "?__theme=dark", "tab=%00"])
def test_what_the_url_does_not_say_is_the_first_tab(query: str) -> None:
    assert Place.parse(query) == Place("detect", "")


def test_runs_to_compare_with_are_named_once_each() -> None:
    place = Place.parse("?tab=runs&run=a&with=b,c,,b")
    assert place.others == ("b", "c")
    assert place.url == "?tab=runs&run=a&with=b,c"
