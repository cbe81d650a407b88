"""The statements that a page takes: those that it takes once for each row are too many."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.test.utils import CaptureQueriesContext

_VALUES = re.compile(r"'(?:[^']|'')*'(?:::[a-z ]+(?:\[\])?)?|\b\d+\b|\((?:\?(?:, )?)+\)")


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each statement was executed in the block, whatever its values were."""
    found: Counter[str] = Counter()
    with CaptureQueriesContext(connection) as queries:
        yield found
    found.update(_form(query["sql"]) for query in queries)


def _form(sql: str) -> str:
    return _VALUES.sub("?", _VALUES.sub("?", sql))[:400]


def repeated(few: Counter[str], many: Counter[str]) -> list[str]:
    """The statements that were executed more often for many rows than for few; one that fills a cache may come once."""
    return [sql for sql, times in many.items() if times > max(few[sql], 1)]
