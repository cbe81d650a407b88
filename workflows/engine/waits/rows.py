"""Steps that wait for a row of the application (`step.wait_for_model`): they look now and then, and after changes.

A step keeps which tables its query reads, then looks, then sleeps. Django's signals tell of instances that are saved or
deleted, and of relations that change; after the commit one statement wakes the steps that wait for such tables. A step
that has looked, and does not sleep yet, is found by the leader. What sends no signal (`update()`, bulk writes, raw SQL,
processes without Headrace) is found by the next look.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Model, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save
from psycopg.errors import UndefinedTable

from workflows import this_process
from workflows.engine.pipeline import hints
from workflows.engine.sql import rows as sql

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 1.0
"""However often rows change, a step looks at them so often."""
KNOWN_FOR_S = 5.0
"""So long a process may not know of a table that is waited for since just now."""
AWAY_S = 30.0
BATCH = 500
"""Steps that one change wakes; the others look by themselves."""


class AwaitedTables:
    """The tables that somebody waits for, as this process knows them. Safe for threads."""

    def __init__(self) -> None:
        self._tables: frozenset[str] = frozenset()
        self._known_until = 0.0

    def among(self, tables: Iterable[str]) -> list[str]:
        """Those of these tables that somebody waits for."""
        if time.monotonic() > self._known_until:
            self._known_until = time.monotonic() + KNOWN_FOR_S
            self._tables = frozenset(row.table_name for row in sql.awaited_tables())
        return sorted(self._tables.intersection(tables))

    def pause(self) -> None:
        """Ask the database nothing for a while."""
        self._tables, self._known_until = frozenset(), time.monotonic() + AWAY_S


class Changes:
    """Tells of the tables that one transaction has changed, once, after its commit."""

    def __init__(self, tables: set[str]) -> None:
        self.tables = set(tables)

    def __call__(self) -> None:
        transaction.on_commit(self._tell, using=DEFAULT_DB_ALIAS, robust=True)  # a transaction there may be open still

    def _tell(self) -> None:
        known = this_process.own(AwaitedTables)
        try:
            tables = known.among(self.tables)
            woken = sql.rows_changed(tables=tables, every_s=LOOK_EVERY_S, batch=BATCH) if tables else []
        except UndefinedTable:  # the database is being migrated
            known.pause()
            return
        except Exception as error:  # whatever it is: the steps look by themselves
            log.info("steps that wait for rows can't be woken", error=f"{type(error).__name__}: {error}")
            known.pause()
            return
        if any(hints.is_soon(row.soon_s) for row in woken):
            hints.send()


class Open(threading.local):
    """The changes of the transactions that this thread has open, by database.

    Each comes with the list of callbacks that it is in: Django makes another one when the transaction, or a savepoint
    of it, has ended.
    """

    def __init__(self) -> None:
        self.by_alias: dict[str, tuple[list[Any], Changes]] = {}


def connect() -> None:
    """From now on changes in this process wake the steps that wait for them."""
    for signal in (post_save, post_delete):
        signal.connect(_on_instance, weak=False, dispatch_uid=f"headrace.rows.{id(signal)}")
    m2m_changed.connect(_on_relation, weak=False, dispatch_uid="headrace.rows.m2m")


def _on_instance(sender: type[Model], using: str, raw: bool = False, **_: Any) -> None:
    if not raw:  # a fixture is loaded: its rows may be incomplete
        _remember_change(tables_of(sender), using)


def _on_relation(sender: type[Model], using: str, action: str, **_: Any) -> None:
    if action.startswith("post_"):
        _remember_change(tables_of(sender), using)


def tables_of(model: type[Model]) -> set[str]:
    """The tables in which an instance of the model has its columns."""
    return {each._meta.db_table for each in (model, *model._meta.get_parent_list())}


def tables_read(queryset: QuerySet[Any]) -> list[str]:
    """The tables that a query joins. (Not those of subqueries within its conditions.)"""
    query = queryset.query.clone()
    query.get_initial_alias()
    return sorted({part.table_name for part in query.alias_map.values() if part.table_name})


def _remember_change(tables: set[str], using: str) -> None:
    """Never raises: the application's own write goes on."""
    with contextlib.suppress(Exception):
        connection, open_ = transaction.get_connection(using), this_process.own(Open).by_alias
        callbacks, changes = open_.get(using, (None, None))
        if changes is not None and callbacks is connection.run_on_commit:
            changes.tables |= tables
            return
        changes = Changes(tables)
        transaction.on_commit(changes, using=using, robust=True)
        if connection.in_atomic_block:
            open_[using] = connection.run_on_commit, changes


def look_after() -> bool:
    """A job of the leader: wake steps that began to wait while rows changed. True where there may be more."""
    return len(sql.look_after_changes(batch=BATCH)) == BATCH


def forget_ended() -> bool:
    """A job of the leader, which reads all waits for rows: forget those of steps that have ended. True where there may
    be more."""
    return len(sql.forget_model_waits(batch=BATCH)) == BATCH
