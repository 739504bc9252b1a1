"""What a request may say besides files: little, and no address for the server to fetch.

Gradio would download any file that a message names by its address, however large.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from medvae.limits import MB, Limits

ADDRESSES = ("http:", "https:")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class MessageRefused(Exception):
    """With the status to answer, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_message(receive: Receive) -> Receive:
    """Read a request's body to its end and look at it; returns what gives it once more.

    Raises `MessageRefused`.
    """
    body = await _body(receive)
    _check(body)
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _body(receive: Receive) -> bytes:
    limit, parts, size = Limits.current().message_mb, [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit * MB:
            raise MessageRefused(413, f"a message of more than {limit} MB (limit message_mb)")
        if not message.get("more_body", False):
            return b"".join(parts)


def _check(body: bytes) -> None:
    try:
        waiting = [json.loads(body)] if body else []
    except RecursionError:
        raise MessageRefused(400, "a message nested too deeply") from None
    except ValueError:
        return  # no message of this page's; Gradio says so
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and path.strip().lower().startswith(ADDRESSES):
                raise MessageRefused(400, "a file by its address; upload the file itself")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
