"""How many rows match: all of them where they are counted in no time, else as many as a bounded look has found."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from psycopg.errors import QueryCanceled

MAX_S = 0.150
MOST = 100_000
"""So many are counted, where an index knows them all."""
MOST_READ = 10_000
AT_ONCE = 2_000


@dataclass(frozen=True, kw_only=True)
class Counted:
    """`is_least`: there may be more."""

    number: int
    is_least: bool


def count(rows: QuerySet[Any], among: QuerySet[Any]) -> Counted:
    """How many rows there are. `among`: the rows that were looked through to find them, an index away in the order of
    their ids (uuid7)."""
    return _whole(rows) or _newest(rows, among)


def _whole(rows: QuerySet[Any]) -> Counted | None:
    """None where it takes longer than MAX_S."""
    try:
        with transaction.atomic():
            before = _set_timeout(f"{MAX_S * 1000:.0f}ms")
            number = rows.order_by()[: MOST + 1].count()
            _set_timeout(before)
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            return None
        raise
    return Counted(number=min(number, MOST), is_least=number > MOST)


def _set_timeout(value: str) -> str:
    """Bound the statements of this transaction. Returns the bound that they had before."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        before = str(cursor.fetchone()[0])
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [value])
    return before


def _newest(rows: QuerySet[Any], among: QuerySet[Any]) -> Counted:
    """Those among the newest: so many rows, or so long; the first AT_ONCE in any case."""
    until_s = time.monotonic() + MAX_S
    number, read, last = 0, 0, None
    while read < MOST_READ and (last is None or time.monotonic() < until_s):
        left = among if last is None else among.filter(id__lt=last)
        ids = list(left.order_by("-id").values_list("id", flat=True)[:AT_ONCE])
        number += rows.order_by().filter(id__in=ids).count()
        if len(ids) < AT_ONCE:
            return Counted(number=number, is_least=False)
        read, last = read + len(ids), ids[-1]
    return Counted(number=number, is_least=True)
