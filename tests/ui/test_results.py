import pytest

from medvae.errors import DataError
from ui import results
from ui.looking import Unreadable
from ui.models import ABSENT
from ui.results import RecentResults, Results, judged

NOTHING = Results([Unreadable("x.png", "empty")] * 10, ABSENT)


def test_results_are_found_again_by_their_key_only() -> None:
    recent = RecentResults()
    key = recent.keep(NOTHING)
    assert recent.get(key) == NOTHING
    with pytest.raises(DataError, match="no longer held"):
        recent.get("guessed")


def test_where_too_few_healthy_images_allow_no_threshold_there_is_no_verdict() -> None:
    held = Results([], ABSENT, "combined", {"combined": [float(n) for n in range(19)]})
    words = [judged(unusual=False, threshold=held.threshold(fpr))[1] for fpr in (0.01, 0.05)]
    assert words == ["No verdict", "Within the healthy range"]
    assert judged(unusual=True, threshold=held.threshold(0.05)) == ("unusual", "Unusual")


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
