"""A history in the height of a line: bars of one series, drawn by the server, with its numbers in words."""

from __future__ import annotations

from collections.abc import Sequence

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()
BAR = 4
"""The width of a bar with its gap, in units of the drawing."""
HEIGHT = 24
LEAST = 2
"""A bar of one is as high as this, whatever the highest is."""


@register.simple_tag
def history_bars(values: Sequence[int], what: str = "in each of the last 24 hours") -> SafeString:
    """The numbers as bars, the oldest first; what each stands for is said to those who do not see it."""
    most, total = max(values, default=0), sum(values)
    words = f"{total} {what}, at most {most}" if total else f"None {what}"
    bars = (
        (BAR * at, HEIGHT - height, BAR - 1, height)
        for at, value in enumerate(values)
        if value and (height := max(LEAST, round(HEIGHT * value / most)))
    )
    return format_html(
        '<svg class="history" role="img" aria-label="{0}" viewBox="0 0 {1} {2}" width="{1}" height="{2}"'
        ' preserveAspectRatio="none"><title>{0}</title><path d="M0 {3}H{1}"/>{4}</svg>',
        words, BAR * len(values), HEIGHT, HEIGHT - 0.5,
        format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"/>', bars),
    )  # fmt: skip
