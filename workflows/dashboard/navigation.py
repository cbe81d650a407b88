"""The navigation of all pages: one list of entries. A new page adds one line."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from workflows.this_process.configuration import configuration

GROUPS = ("Operate", "Build", "Control", "Elsewhere")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A link of the navigation.

    `url`: the name of an address; where there is none (the project has no admin), there is no link. `right`: the word
    of `access.RIGHTS` without which it is not shown. `key`: the letter that opens it after `g`.
    """

    group: str
    label: str
    url: str
    icon: str
    key: str = ""
    right: str = ""
    staff: bool = False


ENTRIES = (
    Entry(group="Operate", label="Overview", url="headrace:overview", icon="overview", key="o"),
    Entry(group="Operate", label="Runs", url="headrace:runs", icon="runs", key="r"),
    Entry(group="Operate", label="Approvals", url="headrace:approvals", icon="approvals", key="a"),
    Entry(group="Build", label="Test", url="headrace:test", icon="test", key="t", right="run_flows"),
    Entry(group="Operate", label="Events", url="headrace:events", icon="events", key="e"),
    Entry(group="Build", label="Flows", url="headrace:flows", icon="flows", key="f"),
    Entry(group="Build", label="Schedules", url="headrace:schedules", icon="schedules", key="s"),
    Entry(group="Build", label="Webhooks", url="headrace:webhooks", icon="replay", key="w"),
    Entry(group="Control", label="Limits", url="headrace:limits", icon="limits", key="l"),
    Entry(group="Control", label="Workers", url="headrace:workers", icon="workers"),
    Entry(group="Control", label="Keys", url="headrace:keys", icon="keys", key="k", right="change_keys"),
    Entry(group="Control", label="Secrets", url="headrace:secrets", icon="secrets", right="change_secrets"),
    Entry(group="Control", label="Retention", url="headrace:retention", icon="retention"),
    Entry(group="Control", label="Audit log", url="headrace:audit", icon="audit", right="change_organization"),
    Entry(group="Control", label="Organization", url="headrace:organization", icon="members"),
    Entry(group="Elsewhere", label="Admin", url="admin:index", icon="admin", staff=True),
    Entry(group="Elsewhere", label="API", url="headrace-api:openapi-view", icon="api"),
    Entry(group="Elsewhere", label="Components", url="headrace:design", icon="design", staff=True),
)
REGISTERED: dict[str, Entry] = {}
"""The entries of other apps, by their addresses' names."""


def register(*entries: Entry) -> None:
    """Add the entries of an app, after ours of the same group."""
    REGISTERED.update({entry.url: entry for entry in entries})


@dataclass(frozen=True, kw_only=True)
class Link:
    """An entry with its address; `is_current`: the page that is shown lies under it."""

    label: str
    address: str
    icon: str
    key: str
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class Group:
    """The links under one heading."""

    name: str
    links: list[Link]


def groups(request: HttpRequest) -> list[Group]:
    """What the login of a request may open, by group; groups without a link are left out."""
    entries = (*ENTRIES, *REGISTERED.values())
    shown = [(entry, address) for entry in entries if (address := _address(entry, request)) is not None]
    current = _current(request.path, [address for _, address in shown])
    made = []
    for name in GROUPS:
        links = [_link(entry, address, address == current) for entry, address in shown if entry.group == name]
        if name == "Elsewhere":
            links += _flower(request)
        if links:
            made.append(Group(name=name, links=links))
    return made


def _address(entry: Entry, request: HttpRequest) -> str | None:
    may = getattr(request, "may", None)
    if entry.staff and not getattr(request.user, "is_staff", False):
        return None
    if entry.right and (may is None or not may[entry.right]):
        return None
    try:
        return reverse(entry.url)
    except NoReverseMatch:
        return None


def _current(path: str, addresses: list[str]) -> str:
    """The longest address that the path lies under. The runs are at the top of all, and so of the pages of runs."""
    top = reverse("headrace:runs")
    if path == top or path.startswith((f"{top}runs/", f"{top}operations/")):
        return top
    return max((each for each in addresses if each != top and path.startswith(each)), key=len, default="")


def _link(entry: Entry, address: str, is_current: bool) -> Link:
    return Link(label=entry.label, address=address, icon=entry.icon, key=entry.key, is_current=is_current)


def _flower(request: HttpRequest) -> list[Link]:
    address = configuration().flower_url
    if not address or not getattr(request.user, "is_staff", False):
        return []
    return [Link(label="Flower", address=f"{address}/", icon="flower", key="", is_current=False)]
