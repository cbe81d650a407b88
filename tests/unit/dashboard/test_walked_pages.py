"""Every page of the dashboard is one that the browser walk looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from tests.support.pages.walked import NO_PAGES, PAGES

NAMESPACES = ("headrace", "headrace-letters", "headrace-alerts")


def names(found: Any = None, space: str = "") -> Iterator[str]:
    """The names of the addresses of the dashboard, with the name of their app."""
    for each in get_resolver().url_patterns if found is None else found:
        if isinstance(each, URLResolver):
            yield from names(each.url_patterns, str(each.namespace or space))
        elif (
            isinstance(each, URLPattern) and each.name and (space in NAMESPACES or (each.name == "login" and not space))
        ):
            yield f"{space}:{each.name}" if space else each.name


def test_every_named_address_is_walked_or_is_no_page() -> None:
    known = set(names())
    walked = {shown.page for shown in PAGES.values()}
    assert len(known) > 80
    assert known - walked - NO_PAGES.keys() == set(), "add it to tests/support/pages/walked.py"
    assert walked - known == set(), "there is no such address"
    assert NO_PAGES.keys() - known == set(), "there is no such address"
    assert walked & NO_PAGES.keys() == set()
