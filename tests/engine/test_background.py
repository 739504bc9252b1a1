"""One thread, in order; what is out of date is not written; what fails is told."""

import threading

import pytest

from medvae.engine.background import Background


def test_work_is_done_in_order_and_its_results_are_told_once() -> None:
    with Background[int]() as background:
        for number in range(5):
            background.put(str(number), lambda number=number: number)
        assert background.wait() == [0, 1, 2, 3, 4]
        assert background.finished() == []


def test_nobody_waits_for_it() -> None:
    going = threading.Event()
    with Background[bool]() as background:
        background.put("slow", going.wait)
        assert background.finished() == []
        going.set()
        assert background.wait() == [True]


def test_the_newest_of_a_name_takes_the_place_of_what_still_waits() -> None:
    going = threading.Event()
    with Background[object]() as background:
        background.put("point", going.wait)  # being written: goes on
        background.put("picture", lambda: "picture")
        background.put("point", lambda: "old")
        background.put("point", lambda: "new")
        going.set()
        assert background.wait() == [True, "picture", "new"]


def test_leaving_waits_until_all_is_done() -> None:
    done = []
    with Background[None]() as background:
        for number in range(3):
            background.put(str(number), lambda number=number: done.append(number))
    assert done == [0, 1, 2]


def test_what_fails_is_raised_to_the_one_who_asks() -> None:
    with Background[float]() as background:
        background.put("broken", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            background.wait()
