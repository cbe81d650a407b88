"""The pages of the dashboard: their names as the audit log has them, their addresses, and the methods that they take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.urls import URLPattern, URLResolver

from dlq.dashboard.alerts.urls import urlpatterns as of_alerts
from dlq.dashboard.urls import urlpatterns as of_letters
from workflows.dashboard.urls import urlpatterns as of_workflows

SAFE = frozenset({"GET", "HEAD"})


class Page(NamedTuple):
    """A pattern. `name`: as `workflows.dashboard.audited` has it (`letters:assign`)."""

    name: str
    view_name: str
    pattern: URLPattern

    @property
    def is_unsafe(self) -> bool:
        """Whether it takes a form."""
        return not methods_of(self.pattern.callback) <= SAFE


def pages() -> Iterator[Page]:
    """All pages of the dashboard, those of other apps included."""
    for found, prefix, space in (
        (of_workflows, "", "headrace"),
        (of_letters, "letters:", "headrace-letters"),
        (of_alerts, "alerts:", "headrace-alerts"),
    ):
        for each in _patterns(found):
            yield Page(name=f"{prefix}{each.name}", view_name=f"{space}:{each.name}", pattern=each)


def _patterns(found: Any) -> Iterator[URLPattern]:
    for each in found:
        if isinstance(each, URLResolver):
            yield from _patterns(each.url_patterns)
        else:
            yield each


def methods_of(view: Any) -> set[str]:
    """The methods that a view takes, as `require_POST` and its like were told; of one without them, all."""
    while view is not None:
        names = getattr(getattr(view, "__code__", None), "co_freevars", ())
        if "request_method_list" in names:
            return set(view.__closure__[names.index("request_method_list")].cell_contents)
        view = getattr(view, "__wrapped__", None)
    return {"GET", "POST"}
