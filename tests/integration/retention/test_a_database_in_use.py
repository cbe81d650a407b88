"""Whether a database was in use before there was retention: its first week is dry then, whoever's rows they are."""

from __future__ import annotations

import datetime as dt
import importlib
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.utils import timezone

from workflows.engine.retention import ages
from workflows.models import BulkOperation, CronFire, Event, OperationChange, RetentionState, Run

pytestmark = pytest.mark.usefixtures("live_db")
migration = importlib.import_module("workflows.migrations.0037_retention")


def begins_dry() -> bool:
    RetentionState.objects.all().delete()
    migration.begin(apps, SimpleNamespace(connection=connection))
    return RetentionState.objects.get().dry_until is not None


def test_rows_of_the_project_that_headrace_is_added_to_begin_a_week_of_dry_runs() -> None:
    """Its admin log, sessions and task results would be deleted on the first day otherwise."""
    assert {table.name for table in ages._others()} == set(migration.OF_THE_PROJECT)
    with transaction.atomic():
        for model in (Run, Event, CronFire, OperationChange, BulkOperation):
            ages.delete_raw(model._default_manager.all())
        with connection.cursor() as cursor:
            for table in migration.OF_THE_PROJECT:
                cursor.execute(f"DELETE FROM {table}")
        assert not begins_dry()
        Session.objects.create(session_key="of the host", session_data="", expire_date=timezone.now() - dt.timedelta(9))
        assert begins_dry()
        transaction.set_rollback(True)
