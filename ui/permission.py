"""Who may call a handler: `allowed` stands before every one that does something.

A handler without it only shows.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import gradio as gr
from gradio.context import LocalContext

from ui.access import VISITOR
from ui.accounts import LOCAL, Role, Visitor
from ui.context import Context

P = ParamSpec("P")
R = TypeVar("R")

NAMED = ("run", "job", "preset")  # parameters that the audit log repeats: never one with a path


def allowed(role: Role) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only visitors of that role through (an operator is also a viewer), and note who did it.

    For handlers whose first argument is the `Context`. Stands at the endpoint itself: a hidden
    button protects nothing.
    """

    def decorate(handler: Callable[P, R]) -> Callable[P, R]:
        name = getattr(handler, "__name__", "?")
        parameters = inspect.signature(handler)

        @wraps(handler)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            context = cast(Context, args[0])
            visitor = _visitor_of_call(context)
            if visitor is None or (role == "operator" and visitor.role != "operator"):
                who = visitor.name if visitor else "nobody"
                context.access.audit.note(who, f"{name} refused")
                raise gr.Error(f"for this, sign in as {role}", print_exception=False)
            given = parameters.bind(*args, **kwargs).arguments
            about = {key: str(given[key])[:80] for key in NAMED if given.get(key)}
            context.access.audit.note(visitor.name, name, **about)
            return handler(*args, **kwargs)

        guarded.role = role  # type: ignore[attr-defined]  # read by the test of all endpoints
        return guarded

    return decorate


def _visitor_of_call(context: Context) -> Visitor | None:
    """Who sent the event that is being handled; outside of any (a test) there is no request."""
    request = LocalContext.request.get(None)
    if request is None or request.request is None:
        return None if context.access.accounts else LOCAL
    visitor: Visitor | None = request.request.scope.get(VISITOR)
    return visitor
