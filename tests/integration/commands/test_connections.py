"""`doctor` warns where the live processes may need more connections than Postgres gives."""

from __future__ import annotations

import contextlib
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.support.poison import doctor
from workflows.models import Worker
from workflows.selectors import connections

pytestmark = pytest.mark.django_db


def live(queue: str, count: int) -> None:
    now = timezone.now()
    Worker.objects.bulk_create(
        Worker(id=uuid4(), name="w", queues=[queue], slots=1, active=0, unclaimed=0, started_at=now, seen_at=now)
        for _ in range(count)
    )


def said() -> str:
    out = StringIO()
    with contextlib.suppress(SystemExit):  # of other tests' faults
        call_command("doctor", stdout=out)
    return out.getvalue()


def test_a_server_that_gives_enough_is_not_mentioned() -> None:
    Worker.objects.all().delete()
    live("headrace.io", 1)
    live("headrace.compute", 2)
    found = connections.connections_now()
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        (most,) = cursor.fetchone()
    assert found.server < int(most)  # some are kept for superusers
    assert found.open >= 1
    assert found.may_need == connections.of_io_worker() + 2 * connections.OF_COMPUTE_CHILD + connections.of_web()
    assert doctor()["connections"]["isShort"] is False
    assert "max_connections" not in said()


def test_workers_that_may_need_more_are_counted_and_told_of() -> None:
    Worker.objects.all().delete()
    server = connections.connections_now().server
    live("headrace.io", server // connections.of_io_worker() + 1)
    told = doctor()["connections"]
    assert told["isShort"] is True
    assert told["mayNeed"] > told["server"] == server
    assert f"Postgres gives {server} connections (max_connections)" in said()


def test_a_worker_that_is_gone_needs_none() -> None:
    Worker.objects.all().delete()
    live("headrace.io", 1)
    before = connections.connections_now().may_need
    Worker.objects.update(seen_at=timezone.now() - timezone.timedelta(seconds=60))
    assert connections.connections_now().may_need == before - connections.of_io_worker()
