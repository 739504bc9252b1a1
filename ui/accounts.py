"""Who may come in: accounts with hashed passwords, throttled guesses, sessions that end.

Knows nothing of HTTP. A page for this machine alone has no accounts: whoever sits there is its
operator.
"""

import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from medvae.errors import ConfigError

Role = Literal["viewer", "operator"]

SESSION_SECONDS = 12 * 3600.0  # from signing in
IDLE_SECONDS = 30 * 60.0  # without a request; an open page asks every few seconds
LONGEST_NAME, LONGEST_PASSWORD = 64, 256
MOST_KEYS = 10_000  # that a throttle remembers


@dataclass(frozen=True)
class Visitor:
    """Somebody who is in, and what they may do: viewers detect, operators do everything."""

    name: str
    role: Role


LOCAL = Visitor("local", "operator")  # at a page without accounts


class Accounts:
    """Names with salted scrypt hashes; the passwords themselves are kept nowhere."""

    def __init__(self) -> None:
        self._hashes: dict[str, tuple[bytes, bytes, Role]] = {}
        self._nobody: tuple[bytes, bytes, Role] = (os.urandom(16), os.urandom(64), "viewer")

    @classmethod
    def parse(cls, operators: Iterable[str], viewers: Iterable[str] = ()) -> "Accounts":
        """From NAME:PASSWORD each. Raises `ConfigError`, which repeats no password."""
        accounts = cls()
        groups: tuple[tuple[Role, Iterable[str]], ...] = (
            ("operator", operators), ("viewer", viewers)
        )  # fmt: skip
        for role, pairs in groups:
            for pair in pairs:
                name, _, password = pair.strip().partition(":")
                if not name or not password:
                    raise ConfigError(f"an account for a {role} is not NAME:PASSWORD")
                accounts.add(name, password, role)
        return accounts

    def add(self, name: str, password: str, role: Role) -> None:
        salt = os.urandom(16)
        self._hashes[name] = (salt, _hash(password, salt), role)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def knows(self, name: str) -> bool:
        return name in self._hashes

    @property
    def has_operator(self) -> bool:
        return any(role == "operator" for *_, role in self._hashes.values())

    def check(self, name: str, password: str) -> Visitor | None:
        """The visitor, if name and password fit. Takes as long for a name that does not exist."""
        if len(name) > LONGEST_NAME or len(password) > LONGEST_PASSWORD:
            return None
        salt, expected, role = self._hashes.get(name, self._nobody)
        fits = hmac.compare_digest(_hash(password, salt), expected)
        return Visitor(name, role) if fits and name in self._hashes else None


class Throttle:
    """Lets `burst` guesses pass at once and then one every `seconds`, for each key."""

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._levels: dict[str, tuple[float, float]] = {}  # guesses counted, when
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Seconds until the next guess may be made; 0: now, and it is counted."""
        now = time.monotonic()
        with self._lock:
            level = self._level(key, now)
            if level + 1 > self._burst:
                return (level + 1 - self._burst) * self._seconds
            self._levels[key] = (level + 1, now)
            if len(self._levels) > MOST_KEYS:
                self._forget(now)
        return 0.0

    def forgive(self, key: str) -> None:
        """A guess was right: those before it do not count."""
        with self._lock:
            self._levels.pop(key, None)

    def _level(self, key: str, now: float) -> float:
        level, since = self._levels.get(key, (0.0, now))
        return max(0.0, level - (now - since) / self._seconds)

    def _forget(self, now: float) -> None:
        """Keep the half that guessed most; whoever floods the table does not free the others."""
        ordered = sorted(self._levels, key=lambda key: self._level(key, now), reverse=True)
        self._levels = {key: self._levels[key] for key in ordered[: MOST_KEYS // 2]}


@dataclass
class _Session:
    visitor: Visitor
    began: float
    last: float


class Sessions:
    """Who is signed in, by a token that only their browser has; we keep its hash."""

    def __init__(self, lasts: float = SESSION_SECONDS, idle: float = IDLE_SECONDS) -> None:
        self._lasts = lasts
        self._idle = idle
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: Visitor) -> str:
        """Returns the token."""
        token, now = secrets.token_urlsafe(32), time.monotonic()
        with self._lock:
            over = [key for key, session in self._sessions.items() if self._is_over(session, now)]
            for key in over:
                del self._sessions[key]
            self._sessions[_digest(token)] = _Session(visitor, now, now)
        return token

    def visitor(self, token: str) -> Visitor | None:
        """Who has this token; None when the session is over or never was."""
        now = time.monotonic()
        with self._lock:
            session = self._sessions.get(_digest(token))
            if session is None or self._is_over(session, now):
                return None
            session.last = now
            return session.visitor

    def end(self, token: str) -> None:
        with self._lock:
            self._sessions.pop(_digest(token), None)

    def _is_over(self, session: _Session, now: float) -> bool:
        return now - session.began > self._lasts or now - session.last > self._idle


def _hash(password: str, salt: bytes) -> bytes:
    """RFC 7914 with the parameters that OWASP recommends for 16 MB a guess."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=5, maxmem=2**26)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
