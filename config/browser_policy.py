"""What a browser may do with a page: the content policy of every answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

_STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
_STYLES_INLINE = {**_STRICT, "style-src": "'self' 'unsafe-inline'"}
# Django's admin and Swagger UI write styles into their pages. Scripts come from files everywhere.
_EXCEPTIONS = {"/admin/": _STYLES_INLINE, "/api/docs": _STYLES_INLINE}


def _policy(rules: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def policy_of(path: str) -> str:
    """The content policy of the page at a path."""
    return next((_policy(rules) for start, rules in _EXCEPTIONS.items() if path.startswith(start)), _policy(_STRICT))


@sync_and_async_middleware
def browser_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Set the header, unless the view has set its own. (Of both kinds, so that it costs no change of thread.)"""

    def with_policy(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.setdefault("Content-Security-Policy", policy_of(request.path))
        return response

    if iscoroutinefunction(get_response):

        async def later(request: HttpRequest) -> HttpResponseBase:
            return with_policy(request, await get_response(request))

        return later
    return lambda request: with_policy(request, get_response(request))
