"""Queries whose SQL is made once: making it takes Django longer than asking for a row by its key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4

from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators

Row = TypeVar("Row", bound=Model)


class _Id(int):
    """The number of an id among those that are given."""


class _Form(NamedTuple):
    """What Django makes of a queryset: its SQL, and how a row becomes an object."""

    sql: str
    parameters: Sequence[Any]
    compiler: Any
    model: type[Model]
    fields: slice
    names: Sequence[str]
    converters: dict[int, Any]
    related: Sequence[Any]


class Prepared(Generic[Row]):
    """A queryset of some ids. Its SQL and the form of its rows are those that Django makes of it the first time."""

    def __init__(self, make: Callable[..., QuerySet[Row]], parameters: int) -> None:
        """`make`: the queryset of so many ids. They must stand in it as they are given."""
        self._make, self._count = make, parameters
        self._lock = threading.Lock()
        self._form: _Form | None = None

    def all(self, *ids: UUID) -> list[Row]:
        """The rows."""
        form = self._form or self._formed()
        with connection.cursor() as cursor:
            cursor.execute(form.sql, [ids[each] if isinstance(each, _Id) else each for each in form.parameters])
            rows: Any = cursor.fetchall()
        if form.converters:
            rows = form.compiler.apply_converters(rows, form.converters)
        return [self._object(form, row) for row in rows]

    def _formed(self) -> _Form:
        with self._lock:
            if self._form is None:
                ids = [uuid4() for _ in range(self._count)]
                compiler: Any = self._make(*ids).query.get_compiler(connection=connection)
                sql, given = compiler.as_sql()
                info, select = compiler.klass_info, compiler.select
                fields = slice(info["select_fields"][0], info["select_fields"][-1] + 1)
                self._form = _Form(
                    sql=sql,
                    parameters=[_Id(ids.index(value)) if value in ids else value for value in given],
                    compiler=compiler,
                    model=info["model"],
                    fields=fields,
                    names=[column.target.attname for column, _, _ in select[fields]],
                    converters=compiler.get_converters([column for column, _, _ in select]),
                    related=get_related_populators(info, select, connection.alias),
                )
        return self._form

    def _object(self, form: _Form, row: Sequence[Any]) -> Any:
        made = form.model.from_db(connection.alias, form.names, row[form.fields])
        for each in form.related:
            each.populate(row, made)
        return made
