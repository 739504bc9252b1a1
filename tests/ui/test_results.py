import pytest

from medvae.errors import DataError
from ui import results
from ui.looking import Unreadable
from ui.models import ABSENT
from ui.results import RecentResults, Results

NOTHING = Results([Unreadable("x.png", "empty")] * 10, ABSENT)


def test_results_are_found_again_by_their_key_only() -> None:
    recent = RecentResults()
    key = recent.keep(NOTHING)
    assert recent.get(key) == NOTHING
    with pytest.raises(DataError, match="no longer held"):
        recent.get("guessed")


def test_only_the_newest_results_are_held() -> None:
    recent = RecentResults()
    keys = [recent.keep(NOTHING) for _ in range(results.KEPT_IMAGES // 10 + 1)]
    with pytest.raises(DataError):
        recent.get(keys[0])
    assert recent.get(keys[1]) == NOTHING


def test_results_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentResults()
    key = recent.keep(NOTHING)
    monkeypatch.setattr(results, "KEPT_SECONDS", -1.0)
    with pytest.raises(DataError):
        recent.get(key)


def test_an_image_that_could_not_be_read_cannot_be_looked_at() -> None:
    for index in (0, 10, -1):
        with pytest.raises(DataError, match="no such image"):
            NOTHING.look(index)
    assert NOTHING.picked([]) == []
