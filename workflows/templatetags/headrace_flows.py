"""Components of the pages of flows: the sparkline of the last runs."""

from __future__ import annotations

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workflows.selectors.pages.flows import RUNS_SHOWN, Health

register = template.Library()
BAR, GAP, TALL, LEAST = 2, 1, 20, 4


@register.simple_tag
def sparkline(health: Health) -> SafeString:
    """The last runs of a flow, a bar each: its colour is the status, its height the duration beside the longest."""
    runs = health.runs[-RUNS_SHOWN:]
    if not runs:
        return format_html('<span class="muted">{}</span>', "no run yet")
    longest = max((run.duration_ms or 0 for run in runs), default=0) or 1
    bars = []
    for number, run in enumerate(runs):
        share = (run.duration_ms / longest) if run.duration_ms is not None else 1
        height = LEAST + round((TALL - LEAST) * share)
        bars.append((run.status, number * (BAR + GAP), TALL - height, BAR, height))
    return format_html(
        '<svg class="spark" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>',
        RUNS_SHOWN * (BAR + GAP), TALL, f"The last {len(runs)} runs: {health.failed} failed",
        format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>', bars),
    )  # fmt: skip
