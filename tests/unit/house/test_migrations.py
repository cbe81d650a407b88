"""Migrations of a running installation: an index of a table that may be large is built beside the traffic."""

from __future__ import annotations

import pytest
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddIndex, CreateModel, RemoveIndex

OURS = ("headrace_workflows", "headrace_dlq", "headrace_throttling")
RELEASED = {"headrace_workflows": "0014", "headrace_dlq": "0002", "headrace_throttling": "0003"}
"""The last migration of each app in 0.1.0: an installation of it has them."""
CONCURRENT = (AddIndexConcurrently, RemoveIndexConcurrently)


def _later() -> list[Migration]:
    migrations = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return [
        migration for (app, name), migration in sorted(migrations.items()) if app in OURS and name[:4] > RELEASED[app]
    ]


@pytest.mark.parametrize("migration", _later(), ids=str)
def test_an_index_is_built_and_dropped_beside_the_traffic(migration: Migration) -> None:
    created = {operation.name_lower for operation in migration.operations if isinstance(operation, CreateModel)}
    locking = [
        operation.describe()
        for operation in migration.operations
        if isinstance(operation, AddIndex | RemoveIndex)
        and not isinstance(operation, CONCURRENT)
        and operation.model_name_lower not in created
    ]
    assert not locking, "use AddIndexConcurrently and RemoveIndexConcurrently, in a migration with `atomic = False`"


def test_the_index_of_unmatched_events_is_there_before_the_one_that_it_replaces_goes() -> None:
    migration = next(each for each in _later() if each.name.endswith("_unmatched_by_org"))
    kinds = [type(operation) for operation in migration.operations if isinstance(operation, CONCURRENT)]
    assert (migration.atomic, kinds) == (False, [AddIndexConcurrently, RemoveIndexConcurrently])
