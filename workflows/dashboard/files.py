"""A list as a file: CSV or JSON, row by row, while it is read page by page."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from django.http import Http404, StreamingHttpResponse
from django.utils import timezone

KINDS = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to a spreadsheet."""
MOST = 10_000
MAX_S = 10.0
"""A search that finds little reads on for so long; the file ends there."""
Rows = list[dict[str, Any]]
Row = TypeVar("Row")


def check_kind(kind: str) -> None:
    """Raises Http404 for a kind of file that there is not."""
    if kind not in KINDS:
        raise Http404


def download(name: str, kind: str, fields: Sequence[str], pages: Iterable[Rows]) -> StreamingHttpResponse:
    """The rows of all pages as a file of this kind; its name says when it was made."""
    body = _csv(fields, pages) if kind == "csv" else _json(pages)
    headers = {"Content-Disposition": f'attachment; filename="{name}-{timezone.now():%Y%m%d-%H%M%S}.{kind}"'}
    return StreamingHttpResponse(body, content_type=KINDS[kind], headers=headers)


def bounded(
    first: tuple[Sequence[Row], str], following: Callable[[str], tuple[Sequence[Row], str]]
) -> Iterator[Sequence[Row]]:
    """Page after page, from the first one and its cursor on: at most MOST rows, and no new page after MAX_S.

    Each page is read by itself, and nothing is held between them.
    """
    (rows, cursor), count, until_s = first, 0, time.monotonic() + MAX_S
    while True:
        yield rows[: MOST - count]
        count += len(rows)
        if not cursor or count >= MOST or time.monotonic() > until_s:
            return
        rows, cursor = following(cursor)


def _csv(fields: Sequence[str], pages: Iterable[Rows]) -> Iterator[str]:
    yield ",".join(fields) + "\r\n"
    for rows in pages:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([cell(row[name]) for name in fields] for row in rows)
        yield text.getvalue()


def cell(value: Any) -> str:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    text = "" if value is None else _flat(value) if isinstance(value, Mapping) else str(value)
    return f"'{text}" if text.startswith(FORMULA) and not isinstance(value, int) else text


def _flat(value: Mapping[str, Any]) -> str:
    """An error by its message; another object as JSON."""
    return str(value["message"]) if "message" in value else json.dumps(value, ensure_ascii=False, default=_text)


def _json(pages: Iterable[Rows]) -> Iterator[str]:
    yield "["
    separator = "\n"
    for rows in pages:
        for row in rows:
            yield separator + json.dumps(row, default=_text)
            separator = ",\n"
    yield "\n]\n"


def _text(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
