"""`doctor` warns where the live processes may need more connections than Postgres gives."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from uuid import uuid4

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.support.poison import doctor
from workflows.models import Organization, Worker
from workflows.selectors import connections


@contextmanager
def live(queue: str, count: int, *, seen_s_ago: float = 0) -> Iterator[None]:
    """So many worker processes more. (Others may work on the test database.)"""
    seen = timezone.now() - dt.timedelta(seconds=seen_s_ago)
    made = Worker.objects.bulk_create(
        Worker(id=uuid4(), name="w", queues=[queue], slots=1, active=0, unclaimed=0, started_at=seen, seen_at=seen)
        for _ in range(count)
    )
    try:
        yield
    finally:
        Worker.objects.filter(id__in=[each.id for each in made]).delete()


def said() -> str:
    out = StringIO()
    with contextlib.suppress(SystemExit):  # of other tests' faults
        call_command("doctor", stdout=out)
    return out.getvalue()


def test_each_role_adds_what_it_may_need(org: Organization) -> None:
    before = connections.connections_now()
    with live("headrace.io", 2), live("headrace.compute", 3):
        after = connections.connections_now()
    assert after.may_need - before.may_need == 2 * connections.of_io_worker() + 3 * connections.OF_COMPUTE_CHILD
    assert (after.io_workers, after.compute_workers) == (before.io_workers + 2, before.compute_workers + 3)
    assert before.may_need >= connections.of_web()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('max_connections')::int")
        (most,) = cursor.fetchone()
    assert before.open >= 1
    assert before.server < most  # some are kept for superusers


def test_more_workers_than_the_server_has_connections_for_are_told_of(org: Organization) -> None:
    server = connections.connections_now().server
    assert "max_connections" not in said()
    with live("headrace.io", server // connections.of_io_worker() + 1):
        told, text = doctor()["connections"], said()
    assert told["isShort"] is True
    assert told["mayNeed"] > told["server"] == server
    assert f"Postgres gives {server} connections (max_connections)" in text


def test_a_worker_that_is_gone_needs_none(org: Organization) -> None:
    before = connections.connections_now().may_need
    with live("headrace.io", 5, seen_s_ago=60):
        assert connections.connections_now().may_need <= before
