"""Where pages point to: pages of the dashboard, and not the admin, where the dashboard has them."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.urls import resolve

from workflows.dashboard import links

LINKS: list[tuple[Callable[[], str], str]] = [
    (lambda: links.letter(uuid.uuid4()), "headrace-letters:letter"),
    (lambda: links.event(uuid.uuid4()), "headrace:event"),
    (links.limits, "headrace:limits"),
]


@pytest.mark.parametrize(("link", "page"), LINKS, ids=[page for _, page in LINKS])
def test_a_link_leads_to_its_page_of_the_dashboard(link: Callable[[], str], page: str) -> None:
    assert resolve(link()).view_name == page


def test_a_link_to_what_is_not_installed_is_empty() -> None:
    assert links.first(("headrace:nothing", []), ("admin:nothing", [])) == ""
