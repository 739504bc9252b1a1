"""Stands before the whole page: names, origins, sign-in, quotas of uploads, security headers.

Plain ASGI, so that streams pass through untouched. What a visitor may do is decided in `access`.
"""

import html
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from ui.access import VISITOR, Access
from ui.accounts import SESSION_SECONDS, Visitor
from ui.messages import Message, MessageRefused, Receive, read_message
from ui.quota import UploadQuota

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "medvae_session"
SAFE = ("GET", "HEAD", "OPTIONS")
OPEN = ("/healthz", "/readyz", "/gradio_api/startup-events")  # tell nothing, start nothing
# Gradio's, and not used here; the last would have the server fetch what a visitor names
NEVER = ("/proxy=", "/component_server", "/stream/", "/dev/", "/vibe-", "/file=http")
FILES = ("/file=", "/file/")  # of runs, and what was uploaded
LONGEST_FORM = 4096  # bytes of a sign-in
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
            request, protected = Request(scope, receive), partial(_send_protected, send)
            answer = await self._answer(request)
            await (answer or partial(self._let_in, request))(scope, receive, protected)
        # the page uses no websockets: they end here

    async def _let_in(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on to the page, with what it brings bounded."""
        if _is_upload(request):
            with self._quota.arriving(int(request.headers["content-length"])):
                await self._app(scope, receive, send)
        elif request.method in SAFE:
            await self._app(scope, receive, send)
        else:
            try:
                again = await read_message(receive)
            except MessageRefused as refused:
                answer = PlainTextResponse(str(refused), refused.status)
                await answer(scope, receive, send)
            else:
                await self._app(scope, again, send)

    async def _answer(self, request: Request) -> Response | None:
        """What to say instead of letting the request through; None lets it through."""
        path, access = _path(request), self._access
        if not access.knows(request.headers.get("host", "")):
            return PlainTextResponse("this page has another name", 400)
        if self._is_foreign(request):
            return PlainTextResponse("this request comes from another page", 403)
        if any(part in path.lower() for part in NEVER):
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
        if _is_upload(request):
            return self._check_upload(request, visitor)
        return None

    def _is_foreign(self, request: Request) -> bool:
        """Browsers say where a request comes from; other programs carry no cookie by accident.

        What a proxy says of the page's own name counts only if that name was published: any web
        page of this machine may send such a header along.
        """
        headers, site = request.headers, request.headers.get("sec-fetch-site", "same-origin")
        if "origin" not in headers:
            return request.method not in SAFE and site not in ("same-origin", "none")
        forwarded = headers.get("x-forwarded-host", "")
        own = {headers.get("host"), forwarded if self._access.publishes(forwarded) else None}
        return urlsplit(headers["origin"]).netloc not in own

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


def _path(request: Request) -> str:
    """As the page will see it: an address made with the Host header could say something else."""
    return str(request.scope["path"])


def _is_upload(request: Request) -> bool:
    return _path(request).rstrip("/").endswith("/upload") and request.method == "POST"


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
