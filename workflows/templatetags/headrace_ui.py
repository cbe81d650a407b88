"""The components of pages: status, times, ids, JSON, tables, code, differences. `/design/` shows all of them.

Each gives plain HTML that can be read without scripts; what moves is added by custom elements (static/headrace/js).
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
from typing import Any
from uuid import UUID

from django import template
from django.template import RequestContext
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from workflows.dashboard import navigation
from workflows.dashboard.icons import ICONS
from workflows.templatetags.headrace import duration

register = template.Library()
MAX_DIFF_LINES = 2_000
CUT_NOTE = "The first {} characters. "


@register.simple_tag
def icon(name: str) -> SafeString:
    """A drawing beside a word; it says nothing by itself."""
    return mark_safe(  # noqa: S308  (of this file's own texts)
        '<svg viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round"'
        f' stroke-linejoin="round" aria-hidden="true"><path d="{ICONS.get(name, "")}"/></svg>'
    )


@register.simple_tag
def status(word: str) -> SafeString:
    """The pill of a status."""
    return format_html('<span class="status {0}">{0}</span>', word)


@register.simple_tag
def moment(at: dt.datetime | str | None, form: str = "") -> SafeString:
    """A time in the viewer's zone, exact on hover. `form`: relative ("3 min ago") or long (with the date of today)."""
    found = parse_datetime(at) if isinstance(at, str) else at
    if found is None:
        return mark_safe('<span class="muted">–</span>')
    utc = found.astimezone(dt.UTC)
    return format_html(
        '<hr-time{}><time datetime="{}">{} UTC</time></hr-time>',
        format_html(" data-{}", form) if form else "",
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
    )


@register.simple_tag
def spent(milliseconds: int | None, since: dt.datetime | None = None) -> SafeString:
    """A duration; of what still lasts (None), the time `since`, which goes on."""
    if milliseconds is None and since is not None:
        return format_html('<hr-ticks data-since="{}">–</hr-ticks>', since.isoformat())
    return format_html('<span class="duration">{}</span>', duration(milliseconds))


@register.simple_tag
def ident(value: UUID | str, url: str = "", form: str = "short") -> SafeString:
    """An id with a button that copies it; `url`: where it leads. `form`: short, or full."""
    text = str(value)
    shown = text if form == "full" or len(text) < 20 else f"{text[:8]}…{text[-6:]}"
    code = format_html('<code title="{}">{}</code>', text, shown)
    linked = format_html('<a href="{}">{}</a>', url, code) if url else code
    return format_html('<span class="id">{}{}</span>', linked, copy_button(text, f"Copy {text}"))


@register.simple_tag
def copy_button(text: str, label: str = "Copy") -> SafeString:
    """A button that copies a text."""
    return format_html(
        '<button type="button" class="copy" data-copy="{0}" aria-label="{1}" title="Copy">{2}</button>',
        text, label, icon("copy"),
    )  # fmt: skip


@register.simple_tag
def json_view(value: Any, download: str = "", cut: bool = False, label: str = "JSON") -> SafeString:
    """JSON that folds, with search and copying. `value`: a text that is JSON already, or a value; `cut`: not whole."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    link = format_html('<a class="button plain always" href="{}" download>Download</a>', download) if download else ""
    return format_html(
        '<hr-json{}><div class="tools" hidden><input type="search" placeholder="Find in {}" aria-label="Find in {}">{}'
        '<button type="button" class="copy" data-copy-json aria-label="Copy {}" title="Copy" data-copy="">{}</button>'
        '</div><pre tabindex="0" aria-label="{}">{}</pre></hr-json>{}',
        mark_safe(" data-cut") if cut else "", label.lower(), label, link, label, icon("copy"), label, text,
        format_html('<p class="note">{}</p>', CUT_NOTE.format(len(text))) if cut else "",
    )  # fmt: skip


@register.simple_tag
def code_line(text: str, label: str = "command") -> SafeString:
    """A command with a button that copies it."""
    return format_html(
        '<div class="code-line"><pre tabindex="0" aria-label="{}">{}</pre>{}</div>',
        label, text, copy_button(text, f"Copy the {label}"),
    )  # fmt: skip


@register.simple_tag
def diff_view(before: Any, after: Any) -> SafeString:
    """What differs between two values (as JSON) or texts, line by line."""
    found = list(difflib.unified_diff(_lines(before), _lines(after), lineterm="", n=3))[2 : MAX_DIFF_LINES + 2]
    if not found:
        return mark_safe('<p class="muted">No difference.</p>')
    kinds = {"+": "added", "-": "removed", "@": "place"}
    rows = format_html_join("", '<div class="{}">{}</div>', ((kinds.get(line[:1], ""), line or " ") for line in found))
    return format_html('<div class="diff" tabindex="0" role="region" aria-label="Differences">{}</div>', rows)


def _lines(value: Any) -> list[str]:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text.splitlines()[:MAX_DIFF_LINES]


@register.simple_tag
def progress(percent: float | None, label: str = "") -> SafeString:
    """How far something is, in percent, and in words."""
    return format_html(
        '<span class="progress"><progress max="100" value="{0}" aria-label="{1}">{0} %</progress> {1}</span>',
        round(percent or 0, 1), label or f"{round(percent or 0, 1)} %",
    )  # fmt: skip


@register.simple_tag
def chart(points: dict[str, Any], label: str, kind: str = "bars", stacked: bool = True, height: int = 110) -> str:
    """A chart of {x: seconds, series: [{label, color, values}]}. `label` says what it shows to those who see it not."""
    return format_html(
        '<hr-chart role="img" aria-label="{}" data-kind="{}"{} data-height="{}" data-points="{}"></hr-chart>',
        label, kind, mark_safe(" data-stacked") if stacked else "", height, json.dumps(points),
    )  # fmt: skip


@register.simple_tag(takes_context=True)
def sort_head(context: RequestContext, label: str, name: str, css: str = "") -> SafeString:
    """The head of a column by which the list can be sorted (`?sort=name`, largest or newest first)."""
    chosen = context.get("sort") == name
    query = context["request"].GET.copy()
    query["sort"] = name
    query.pop("cursor", None)
    return format_html(
        '<th{}{}><a href="?{}">{}</a></th>',
        format_html(' class="{}"', css) if css else "",
        mark_safe(' aria-sort="descending"') if chosen else "",
        query.urlencode(), label,
    )  # fmt: skip


@register.inclusion_tag("headrace/parts/_empty.html")
def empty_state(title: str, text: str = "", url: str = "", action: str = "", command: str = "") -> dict[str, str]:
    """What an empty list says: what it is, and what to do next (a link, or a command)."""
    return {"title": title, "text": text, "url": url, "action": action, "command": command}


@register.inclusion_tag("headrace/parts/_navigation.html", takes_context=True)
def navigation_menu(context: RequestContext) -> dict[str, Any]:
    """The groups of the navigation."""
    return {"groups": navigation.groups(context["request"])}
