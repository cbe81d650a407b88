"""The statements of `celery_tasks` that set no status."""
# Made from the headers of the SQL files: `manage.py statements`.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from workflows.engine.state import database
from workflows.payload import Json


class AbandonedTasksRow(NamedTuple):
    task_id: str


def abandoned_tasks(*, batch: int, cursor: database.Cursor | None = None) -> list[AbandonedTasksRow]:
    """Celery tasks that may still be executing for steps that have ended (they were cancelled while nobody watched,
    say), or whose steps are gone."""
    return database.fetch("abandoned_tasks", {"batch": batch}, AbandonedTasksRow._make, cursor)


class BeginTasksRow(NamedTuple):
    task_id: str
    state: str
    is_new: bool
    age_s: float
    sends: int
    end: Json


def begin_tasks(*, tasks: str, cursor: database.Cursor | None = None) -> list[BeginTasksRow]:
    """Watch the Celery tasks of steps."""
    return database.fetch("begin_tasks", {"tasks": tasks}, BeginTasksRow._make, cursor)


class EndTasksRow(NamedTuple):
    task_id: str


def end_tasks(*, ends: str, cursor: database.Cursor | None = None) -> list[EndTasksRow]:
    """Store what Celery tasks came to."""
    return database.fetch("end_tasks", {"ends": ends}, EndTasksRow._make, cursor)


class EndedAmongRow(NamedTuple):
    task_id: str
    end: Json


def ended_among(*, ids: Iterable[str], cursor: database.Cursor | None = None) -> list[EndedAmongRow]:
    """Those of some Celery tasks that have ended, and what they came to."""
    return database.fetch("ended_among", {"ids": list(ids)}, EndedAmongRow._make, cursor)


class ForgetTasksRow(NamedTuple):
    task_id: str


def forget_tasks(*, batch: int, cursor: database.Cursor | None = None) -> list[ForgetTasksRow]:
    """Delete the rows of Celery tasks that have ended, and whose steps have."""
    return database.fetch("forget_tasks", {"batch": batch}, ForgetTasksRow._make, cursor)


def mark_sent(*, ids: Iterable[str], cursor: database.Cursor | None = None) -> None:
    """These Celery tasks have been given to the broker."""
    database.fetch("mark_sent", {"ids": list(ids)}, tuple, cursor)


class TaskOwnersRow(NamedTuple):
    task_id: str
    org_id: UUID


def task_owners(*, ids: Iterable[str], cursor: database.Cursor | None = None) -> list[TaskOwnersRow]:
    """The organizations of the steps that have sent these Celery tasks."""
    return database.fetch("task_owners", {"ids": list(ids)}, TaskOwnersRow._make, cursor)
