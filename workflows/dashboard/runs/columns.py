"""The columns of the run list: which there are, and which a login has chosen."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

KEPT = "run_columns"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; `sort`: the order that its head asks for; `css`: of its cells."""

    name: str
    label: str
    sort: str = ""
    css: str = ""


COLUMNS = (
    Column(name="status", label="Status", css="fit"),
    Column(name="flow", label="Flow", css="clip"),
    Column(name="trigger", label="Started by", css="clip"),
    Column(name="user", label="User", css="clip"),
    Column(name="tags", label="Tags", css="tags"),
    Column(name="priority", label="Priority", sort="priority", css="number"),
    Column(name="created", label="Created", sort="created", css="fit"),
    Column(name="started", label="Started", css="fit"),
    Column(name="ended", label="Ended", css="fit"),
    Column(name="duration", label="Duration", sort="duration", css="number"),
    Column(name="error", label="Error", css="clip"),
)
"""All but the id, which is always shown."""
DEFAULT = ("status", "flow", "trigger", "tags", "priority", "created", "duration")


def chosen(request: HttpRequest) -> list[Column]:
    """The columns of `?columns=a,b` (which the session then keeps), else those that it kept, else the usual ones."""
    names = [each.name for each in COLUMNS]
    if request.GET.getlist("columns"):
        asked = [name for text in request.GET.getlist("columns") for name in text.split(",")]
        wanted = [name for name in names if name in asked]
        if wanted and request.session.get(KEPT) != wanted:
            request.session[KEPT] = wanted
    kept = request.session.get(KEPT) or DEFAULT
    return [each for each in COLUMNS if each.name in kept]
