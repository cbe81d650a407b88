"""The addresses of what pages point to, where this installation has them."""

from __future__ import annotations

from typing import Any

from django.urls import NoReverseMatch, reverse


def first(*names: tuple[str, list[Any]]) -> str:
    """The address of the first of these pages (name, arguments) that there is; empty for none."""
    for name, arguments in names:
        try:
            return reverse(name, args=arguments)
        except NoReverseMatch:
            continue
    return ""


def letter(letter_id: object) -> str:
    """The page of a dead letter; in the admin where the dashboard has none."""
    return first(("headrace-letters:letter", [letter_id]), ("admin:headrace_dlq_deadletter_change", [letter_id]))


def event(event_id: object) -> str:
    """The page of an event; in the admin where the dashboard has none."""
    return first(("headrace:event", [event_id]), ("admin:headrace_workflows_event_change", [event_id]))


def limits() -> str:
    """Where limits are changed."""
    return first(("headrace:limits", []), ("admin:headrace_throttling_throttleoverride_changelist", []))
