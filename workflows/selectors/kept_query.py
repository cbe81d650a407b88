"""Queries whose SQL is made once: making it takes Django longer than asking for a row by its key."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4

import psycopg
from django.db import connection
from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


class _Id(int):
    """The number of an id among those that are given."""


class _Part(NamedTuple):
    """A model's part of a row: the places of its columns and the names of its fields."""

    model: type[Model]
    places: Sequence[int]
    names: Sequence[str]
    field: Any
    """The foreign key that leads to it; None of the rows' own part."""

    @classmethod
    def of(cls, info: Any, select: Any) -> _Part:
        places = info["select_fields"]
        names = [select[place][0].target.attname for place in places]
        return cls(info["model"], places, names, info.get("field"))

    def made_of(self, row: Sequence[Any]) -> Model:
        return self.model.from_db(connection.alias, self.names, [row[place] for place in self.places])


class _Form(NamedTuple):
    """What Django makes of a queryset: its SQL, and how a row becomes an object."""

    sql: bytes
    """With numbered parameters, as Postgres takes it: the driver does not read it again at each call."""
    parameters: Sequence[Any]
    compiler: Any
    converters: dict[int, Any]
    own: _Part
    related: Sequence[_Part]


def _numbered(sql: str) -> bytes:
    places = itertools.count(1)
    return re.sub("%[s%]", lambda found: f"${next(places)}" if found[0] == "%s" else "%", sql).encode()


class KeptQuery(Generic[Row]):
    """A queryset of some ids. Its SQL and the form of its rows are those that Django makes of it the first time.

    What it selects beside its own rows (`select_related`) must be there: foreign keys that are never null.
    """

    def __init__(self, make: Callable[..., QuerySet[Row]], parameters: int) -> None:
        """`make`: the queryset of so many ids. They must stand in it as they are given."""
        self._make, self._count = make, parameters
        self._lock = threading.Lock()
        self._form: _Form | None = None

    def all(self, *ids: UUID) -> list[Row]:
        """The rows."""
        return self.together((self, ids))[0]

    @staticmethod
    def together(*asked: tuple[KeptQuery[Any], Sequence[UUID]]) -> list[list[Any]]:
        """The rows of several queries, by one round trip. Postgres plans them once for each connection."""
        forms = [query._form or query._formed() for query, _ in asked]
        connection.ensure_connection()
        raw: Any = connection.connection
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection.wrap_database_errors)
            if len(asked) > 1:
                stack.enter_context(raw.pipeline())
            cursors = [stack.enter_context(psycopg.RawCursor(raw)) for _ in asked]
            for cursor, form, (_, ids) in zip(cursors, forms, asked, strict=True):
                cursor.execute(form.sql, [ids[each] if isinstance(each, _Id) else each for each in form.parameters])
            rows = [cursor.fetchall() for cursor in cursors]
        return [query._objects(form, each) for (query, _), form, each in zip(asked, forms, rows, strict=True)]

    def _formed(self) -> _Form:
        with self._lock:
            if self._form is None:
                ids = [uuid4() for _ in range(self._count)]
                compiler: Any = self._make(*ids).query.get_compiler(connection=connection)
                sql, given = compiler.as_sql()
                info, select = compiler.klass_info, compiler.select
                self._form = _Form(
                    sql=_numbered(sql),
                    parameters=[_Id(ids.index(value)) if value in ids else value for value in given],
                    compiler=compiler,
                    converters=compiler.get_converters([column for column, _, _ in select]),
                    own=_Part.of(info, select),
                    related=[_Part.of(each, select) for each in info.get("related_klass_infos", ())],
                )
        return self._form

    def _objects(self, form: _Form, rows: Any) -> list[Row]:
        if form.converters:
            rows = form.compiler.apply_converters(rows, form.converters)
        found: list[Any] = []
        for row in rows:
            made = form.own.made_of(row)
            for part in form.related:
                part.field.set_cached_value(made, part.made_of(row))
            found.append(made)
        return found
