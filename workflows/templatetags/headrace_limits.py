"""The banner of all pages where a limit of the installation, as it is shipped, holds everybody back."""

from __future__ import annotations

import threading
import time
from typing import Any

from django import template
from django.template import RequestContext

from workflows import this_process
from workflows.edge import access
from workflows.selectors import limit_subjects
from workflows.selectors.limit_subjects import HeldBack

register = template.Library()
KNOWN_FOR_S = 5.0


class Known:
    """What the process knows of the shipped limits: the store is asked once in a while, whoever opens pages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._found: HeldBack | None = None

    def found(self) -> HeldBack | None:
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = limit_subjects.held_back()
                self._until = time.monotonic() + KNOWN_FOR_S
            return self._found


@register.filter
def thousands(value: object) -> str:
    """A whole number with separators; anything else as it is."""
    return f"{value:,}" if isinstance(value, int) else str(value)


@register.inclusion_tag("headrace/limits/_banner.html", takes_context=True)
def limits_banner(context: RequestContext) -> dict[str, Any]:
    """Which shipped limit holds back, how many, and the way to raise it."""
    request = context.get("request")
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated or getattr(request, "organization", None) is None:
        return {"held": None}
    return {"held": this_process.own(Known).found(), "is_operator": access.is_operator(user)}
