"""What decides about a request: accounts, sessions and throttles of one page, its names and its
audit log."""

import ipaddress
import json
import logging
import os
import re
import secrets
import socket
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from medvae.workspace import Workspace
from ui.accounts import LOCAL, Accounts, Sessions, Throttle, Visitor

OPERATOR = "operator"  # the name that goes with an invented password
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHARED = ".gradio.live"
AUDIT_FILE, AUDIT_BYTES, AUDIT_FILES = "audit.log", 5_000_000, 4
VISITOR = "medvae.visitor"  # in the scope of a request


class Access:
    """Everything that decides about a request."""

    def __init__(self, accounts: Accounts | None = None, names: frozenset[str] = frozenset(),
                 audit: "Audit | None" = None) -> None:  # fmt: skip
        self.accounts = accounts or Accounts()
        self.sessions = Sessions()
        self.by_address = Throttle(5, 30.0)
        self.by_name = Throttle(10, 30.0)
        self.by_all = Throttle(100, 1.0)
        self.audit = audit or Audit(None)
        self._names = names or frozenset(LOOPBACK)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this page. An address cannot be rebound, so any will do."""
        name = _without_port(host.lower())
        if name in LOOPBACK or self.publishes(host):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def publishes(self, host: str) -> bool:
        """Whether this is a name under which others reach the page."""
        name = _without_port(host.lower())
        named = any(n.startswith(".") and name.endswith(n) for n in self._names)
        return (named or name in self._names) and name not in LOOPBACK

    def visitor(self, token: str) -> Visitor | None:
        """Who sends this token; everybody is local where there are no accounts."""
        return self.sessions.visitor(token) if self.accounts else LOCAL

    def sign_in(self, name: str, password: str, address: str) -> tuple[str, float]:
        """A token, or none and the seconds to wait before the next guess."""
        # A name that nobody has may be a password in the wrong field: it is not written down.
        told = name if self.accounts.knows(name) else "somebody unknown"
        for throttle, key in self._throttles(name, address):
            wait = throttle.wait(key)
            if wait:
                self.audit.note(told, "sign-in throttled", address=address)
                return "", wait
        visitor = self.accounts.check(name, password)
        if visitor is None:
            self.audit.note(told, "sign-in failed", address=address)
            return "", 0.0
        for throttle, key in self._throttles(name, address):
            throttle.forgive(key)
        self.audit.note(visitor.name, "signed in", role=visitor.role, address=address)
        return self.sessions.begin(visitor), 0.0

    def _throttles(self, name: str, address: str) -> list[tuple[Throttle, str]]:
        return [(self.by_address, address), (self.by_name, name[:64]), (self.by_all, "")]


class Audit:
    """Who did what and when, a JSON line each; names of accounts and runs, never of files."""

    def __init__(self, file: Path | None) -> None:
        self._logger = logging.Logger("audit")  # not of the tree: nothing else writes to it
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = _PrivateFiles(
                file, maxBytes=AUDIT_BYTES, backupCount=AUDIT_FILES, encoding="utf-8"
            )
            self._logger.addHandler(handler)
        else:
            self._logger.addHandler(logging.NullHandler())

    def note(self, who: str, what: str, **facts: object) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": when, "who": who, "what": what, **facts}, default=str)
        self._logger.info("%s", line)

    def close(self) -> None:
        for handler in self._logger.handlers:
            handler.close()


class _PrivateFiles(RotatingFileHandler):
    """Nobody else on the machine reads them, those that begin after a full one neither."""

    def _open(self) -> Any:  # what the library's own gives
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, self.mode, encoding=self.encoding)


def open_access(
    workspace: Workspace,
    host: str,
    share: bool,
    operators: list[str] | None = None,
    viewers: list[str] | None = None,
) -> tuple[Access, str | None]:
    """Access for a page on that address, and a password if one had to be invented.

    Accounts come from the arguments or from `MEDVAE_AUTH` and `MEDVAE_VIEWER` (NAME:PASSWORD,
    separated by commas). Raises `ConfigError`.
    """
    accounts = Accounts.parse(
        operators or _from_environment("MEDVAE_AUTH"), viewers or _from_environment("MEDVAE_VIEWER")
    )
    invented = None
    if (share or host not in LOOPBACK or accounts) and not accounts.has_operator:
        invented = secrets.token_urlsafe(12)
        accounts.add(OPERATOR, invented, "operator")
    audit = Audit(workspace.state / AUDIT_FILE)
    return Access(accounts, _names_of(host, share), audit), invented


def _from_environment(name: str) -> list[str]:
    return [pair for pair in os.environ.get(name, "").split(",") if pair.strip()]


def _names_of(host: str, share: bool) -> frozenset[str]:
    """What this page may be called: its own names, and those in `MEDVAE_HOSTS`."""
    names = {*LOOPBACK, host.lower(), *_from_environment("MEDVAE_HOSTS")}
    if host not in LOOPBACK:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    if share:
        names.add(SHARED)
    return frozenset(names)


def _without_port(host: str) -> str:
    """The name in a Host header; empty when it is none."""
    found = _HOST.fullmatch(host)
    return (found["address"] or found["name"]) if found else ""
