"""Passwords, guesses and sessions, without a server."""

import time

import pytest

from medvae.errors import ConfigError
from ui.accounts import Accounts, Sessions, Throttle, Visitor

ANN = Visitor("ann", "operator")


def test_only_the_right_password_opens_and_none_is_kept() -> None:
    accounts = Accounts.parse(["ann:s3:cret"], ["bob:pw"])
    assert accounts.check("ann", "s3:cret") == ANN
    assert accounts.check("bob", "pw") == Visitor("bob", "viewer")
    for name, password in [("ann", "s3"), ("ann", ""), ("eve", "pw"), ("bob", "s3:cret")]:
        assert accounts.check(name, password) is None
    assert "cret" not in repr(vars(accounts))


@pytest.mark.parametrize("pair", ["ann", "ann:", ":secret", ""])
def test_a_malformed_account_is_refused_without_repeating_it(pair: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Accounts.parse([pair])
    assert "secret" not in str(caught.value)


def test_a_name_that_nobody_has_takes_as_long() -> None:
    accounts = Accounts.parse(["ann:secret"])

    def seconds(name: str) -> float:
        times = []
        for _ in range(2):
            began = time.process_time()
            accounts.check(name, "wrong")
            times.append(time.process_time() - began)
        return min(times)

    assert 0.4 < seconds("ann") / seconds("nobody") < 2.5


def test_after_a_burst_guesses_come_one_at_a_time() -> None:
    throttle = Throttle(3, 0.2)
    assert [throttle.wait("a") for _ in range(3)] == [0, 0, 0]
    assert 0 < throttle.wait("a") <= 0.2
    assert throttle.wait("b") == 0
    time.sleep(0.25)
    assert throttle.wait("a") == 0
    assert throttle.wait("a") > 0
    throttle.forgive("a")
    assert throttle.wait("a") == 0


def test_a_flood_of_names_stays_bounded_and_frees_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.accounts.MOST_KEYS", 100)
    throttle = Throttle(2, 60)
    throttle.wait("guesser"), throttle.wait("guesser")
    for number in range(1000):
        throttle.wait(str(number))
    assert len(throttle._levels) <= 101
    assert throttle.wait("guesser") > 0


def test_sessions_end_by_themselves_and_by_signing_out() -> None:
    sessions = Sessions(lasts=0.4, idle=0.2)
    token = sessions.begin(ANN)
    assert token not in repr(vars(sessions))
    for _ in range(3):
        time.sleep(0.1)
        assert sessions.visitor(token) == ANN  # in use, so not idle
    time.sleep(0.15)
    assert sessions.visitor(token) is None  # too old all the same
    idle, left = sessions.begin(ANN), sessions.begin(ANN)
    sessions.end(left)
    assert sessions.visitor(left) is None
    time.sleep(0.25)
    assert sessions.visitor(idle) is None
    assert sessions.visitor("") is None
