"""Stands before the whole page: names, origins, sign-in, quotas of uploads, security headers.

Plain ASGI, so that streams pass through untouched. What a visitor may do is decided in `access`.
"""

import contextlib
import html
import os
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from medvae.limits import MB, Limits
from ui.access import VISITOR, Access
from ui.accounts import SESSION_SECONDS, Visitor

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "medvae_session"
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/healthz", "/readyz", "/gradio_api/startup-events")  # tell nothing, start nothing
NEVER = ("/proxy=", "/component_server", "/stream/", "/dev/")  # Gradio's; not used here
FILES = ("/file=", "/file/")  # of runs, and what was uploaded and not looked at yet
LONGEST_FORM = 4096  # bytes of a sign-in
HOUR = 3600.0
EMPTY_SECONDS = 60.0  # in which an upload that began has written something
# Gradio starts with an inline script and makes functions of strings; nothing may come from or go
# to anywhere else.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # without any, browsers send the form with origin null
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title>
<meta name="viewport" content="width=device-width">
<style>:root{{color-scheme:light dark}}body{{font:16px system-ui;max-width:20rem;margin:15vh auto;
padding:0 1rem}}label,input,button{{display:block;width:100%;box-sizing:border-box;margin:.4rem 0;
font:inherit;padding:.4rem}}label{{padding:0}}</style>
<main><h1>MED-ANOMALY-VAE</h1><form method="post" action="/login">
<label for="name">Name</label><input id="name" name="name" autocomplete="username"
required autofocus>
<label for="password">Password</label><input id="password" name="password" type="password"
autocomplete="current-password" required><button>Sign in</button></form>
<p role="alert">{message}</p><p>Research use only.</p></main></html>"""


class Gate:
    """ASGI middleware."""

    def __init__(self, app: App, access: Access, uploads: Path) -> None:
        self._app = app
        self._access = access
        self._quota = UploadQuota(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            protected = partial(_send_protected, send)
            answer = await self._answer(Request(scope, receive))
            await (answer or self._app)(scope, receive, protected)
        # the page uses no websockets: they end here

    async def _answer(self, request: Request) -> Response | None:
        """What to say instead of letting the request through; None lets it through."""
        path, access = request.url.path, self._access
        if not access.knows(request.headers.get("host", "")):
            return PlainTextResponse("this page has another name", 400)
        if request.method not in SAFE and not _same_origin(request.headers):
            return PlainTextResponse("this request comes from another page", 403)
        if any(part in path for part in NEVER):
            return PlainTextResponse("not found", 404)
        if path in OPEN:
            return None
        visitor = access.visitor(request.cookies.get(COOKIE, ""))
        if path in ("/login", "/logout") and access.accounts:
            return await self._sign(request, path)
        if visitor is None:
            return _go_to_login(request)
        if visitor.role != "operator" and any(part in path for part in FILES):
            return PlainTextResponse("not found", 404)
        request.scope[VISITOR] = visitor
        if path.rstrip("/").endswith("/upload") and request.method == "POST":
            return self._check_upload(request, visitor)
        return None

    async def _sign(self, request: Request, path: str) -> Response:
        access = self._access
        if path == "/logout":
            token = request.cookies.get(COOKIE, "")
            visitor = access.visitor(token)
            access.sessions.end(token)
            if visitor:
                access.audit.note(visitor.name, "signed out")
            gone = RedirectResponse("/login", 303)
            gone.delete_cookie(COOKIE)
            return gone
        if request.method != "POST":
            return HTMLResponse(FORM.format(message=""))
        form = await _form(request)
        name, password = form.get("name", ""), form.get("password", "")
        address = _address(request)
        token, wait = await anyio.to_thread.run_sync(access.sign_in, name, password, address)
        if wait:
            message = f"Too many attempts. Try again in {wait:.0f} seconds."
            again = {"retry-after": f"{wait:.0f}"}
            return HTMLResponse(FORM.format(message=message), 429, headers=again)
        if not token:
            return HTMLResponse(FORM.format(message=html.escape("Name or password is wrong.")), 401)
        home = RedirectResponse("/", 303)
        home.set_cookie(
            COOKIE, token, max_age=int(SESSION_SECONDS), httponly=True, samesite="lax",
            secure=_is_https(request),
        )  # fmt: skip
        return home

    def _check_upload(self, request: Request, visitor: Visitor) -> Response | None:
        key = f"{visitor.name} {_address(request)}"
        reason = self._quota.refusal(key, request.headers.get("content-length"))
        if reason is None:
            return None
        self._access.audit.note(visitor.name, "upload refused", reason=reason)
        return PlainTextResponse(reason, 413)


class UploadQuota:
    """How much one visitor may upload in an hour, and all of them at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads: dict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def refusal(self, visitor: str, length: str | None) -> str | None:
        """Why this upload must not be received; None counts it."""
        limits = Limits.current()
        if length is None or not length.isdigit():
            return "an upload must say how long it is"
        size, now = int(length), time.monotonic()
        recent = self._uploads[visitor]
        while recent and now - recent[0][0] > HOUR:
            recent.popleft()
        if size > limits.upload_mb * MB:
            return f"upload of {size / MB:.0f} MB; at most {limits.upload_mb} (limit upload_mb)"
        if len(recent) >= limits.session_files:
            return f"more than {limits.session_files} uploads an hour (limit session_files)"
        if sum(count for _, count in recent) + size > limits.session_mb * MB:
            return f"more than {limits.session_mb} MB an hour (limit session_mb)"
        if _tidy(self._folder) + size > limits.uploads_disk_mb * MB:
            return "the disk for uploads is full; try again in a few minutes (uploads_disk_mb)"
        recent.append((now, size))
        return None


def _tidy(folder: Path) -> int:
    """Remove uploads that nobody looked at in time; returns the bytes that are left.

    Gradio also forgets empty files there, one for each upload of something it has already.
    """
    total, now = 0, time.time()
    for directory, _, names in os.walk(folder):  # passes over folders that are gone meanwhile
        for name in names:
            file = Path(directory, name)
            with contextlib.suppress(OSError):
                found = file.stat()
                longest = Limits.current().upload_seconds if found.st_size else EMPTY_SECONDS
                if now - found.st_mtime > longest:
                    file.unlink()
                else:
                    total += found.st_size
    return total


def _same_origin(headers: Headers) -> bool:
    """Browsers say where a request comes from; other programs carry nobody's cookie by accident."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc in (headers.get("host"), headers.get("x-forwarded-host"))


def _go_to_login(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/login", 303)
    return PlainTextResponse("sign in first", 401)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; a large body is not a sign-in."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"))
    return {name: values[0] for name, values in fields.items()}


def _address(request: Request) -> str:
    """The visitor's; behind the share tunnel or a proxy on this machine, what that says."""
    address = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return forwarded[:64] if forwarded and address in ("127.0.0.1", "::1") else address


def _is_https(request: Request) -> bool:
    return request.headers.get("x-forwarded-proto", request.url.scheme) == "https"


async def _send_protected(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers[name] = value
    await send(message)
