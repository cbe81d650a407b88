"""`step.wait_for_model`: a commit wakes the steps that wait for such a row; here they look by themselves once an hour."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.utils import timezone

from tests.integration.functions.test_code_flows import start
from tests.support.python_flows import more
from tests.support.workers import await_end, await_that
from workflows import this_process
from workflows.engine.sql import rows as sql
from workflows.engine.waits import rows
from workflows.models import ModelWait, Organization, Run, StepRun

pytestmark = pytest.mark.usefixtures("workers")
User = get_user_model()


@pytest.fixture
def name(live_db: None) -> Iterator[str]:
    made = f"awaited-{uuid.uuid4().hex[:12]}"
    with this_process.replaced(rows.AwaitedTables, rows.AwaitedTables()):
        yield made
    User.objects.filter(username=made).delete()
    Group.objects.filter(name=made).delete()


def asleep(org: Organization, **data: Any) -> tuple[uuid.UUID, StepRun]:
    """A run that has looked, and would not look again by itself in this test."""
    run_id = start(org, more.rows, data)
    sleeping = StepRun.objects.filter(run_id=run_id, key="row", status="waiting", waiting_for="sleep")
    far = timezone.now() + dt.timedelta(hours=1)
    await_that(lambda: sleeping.update(wake_at=far), 30, "a step that sleeps")
    vars(this_process.own(rows.AwaitedTables)).update(vars(rows.AwaitedTables()))  # as after five seconds
    return run_id, StepRun.objects.get(run_id=run_id, key="row")


def is_told(step: StepRun) -> bool:
    return ModelWait.objects.filter(step_run_id=step.id).exclude(changed_at=None).exists()


def test_a_commit_wakes_the_step_and_a_rollback_does_not(org: Organization, name: str) -> None:
    run_id, step = asleep(org, name=name)
    with suppress(ZeroDivisionError), transaction.atomic():
        User.objects.create(username=name)
        raise ZeroDivisionError
    User.objects.bulk_create([User(username=f"{name}-2")])  # tells nobody
    User.objects.filter(username=f"{name}-2").delete()  # and this does: the step looks, in vain
    await_that(lambda: StepRun.objects.get(id=step.id).wake_seq > step.wake_seq, 30, "another look")
    assert Run.objects.get(id=run_id).is_live
    with transaction.atomic():
        user = User.objects.create(username=name)
        assert Run.objects.get(id=run_id).is_live
    assert await_end(org, run_id).run.output == user.pk
    rows.forget_ended()
    assert not ModelWait.objects.filter(step_run_id=step.id).exists()


def test_a_relation_wakes_the_step(org: Organization, name: str) -> None:
    user = User.objects.create(username=name)
    group = Group.objects.create(name=name)
    run_id, step = asleep(org, name=name, group=name)
    tables = set(ModelWait.objects.filter(step_run_id=step.id).values_list("table_name", flat=True))
    assert tables == {"auth_user", "auth_user_groups", "auth_group"}
    user.groups.add(group)
    assert await_end(org, run_id).run.output == user.pk


def test_a_change_before_the_sleep_is_recorded_is_found(org: Organization, name: str) -> None:
    """The step has looked, and another process has changed a row before it slept: it was noted only."""
    run_id, step = asleep(org, name=name)
    (user,) = User.objects.bulk_create([User(username=name)])
    assert not is_told(step)
    ModelWait.objects.filter(step_run_id=step.id).update(changed_at=timezone.now())
    assert await_end(org, run_id).run.output == User.objects.get(username=user.username).pk


def test_a_wait_for_rows_ends_with_its_timeout(org: Organization, name: str) -> None:
    run_id = start(org, more.rows, {"name": name, "timeout": "1500ms"})
    detail = await_end(org, run_id)
    assert (detail.run.status, detail.run.output) == ("completed", None)


def test_a_transaction_tells_once_and_only_what_somebody_waits_for(org: Organization, name: str) -> None:
    _, step = asleep(org, name=name)
    with suppress(ZeroDivisionError), transaction.atomic():
        for number in range(5):
            Group(id=-number - 1, name=f"{name}-{number}").save()
        with suppress(ZeroDivisionError), transaction.atomic():
            User.objects.create(username=f"{name}-x")
            raise ZeroDivisionError
        Group.objects.create(name=name)
        told = [each[1] for each in connection.run_on_commit if isinstance(each[1], rows.Changes)]
        assert len(told) <= 2, "one more at most after a savepoint was rolled back"
        assert {table for one in told for table in one.tables} >= {"auth_group"}
        raise ZeroDivisionError
    known = rows.AwaitedTables()
    assert known.among({"auth_user", "django_session"}) == ["auth_user"]
    assert not is_told(step)


def test_what_fails_there_does_not_fail_the_write(
    org: Organization, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep(org, name=name)

    def away(**_: Any) -> Any:
        raise RuntimeError("no database")

    monkeypatch.setattr(sql, "rows_changed", away)
    user = User.objects.create(username=name)
    assert this_process.own(rows.AwaitedTables).among({"auth_user"}) == []  # it asks nothing for a while
    monkeypatch.undo()
    assert User.objects.filter(pk=user.pk).exists()


def test_tables_are_those_that_a_query_joins() -> None:
    assert rows.tables_read(User.objects.all()) == ["auth_user"]
    assert rows.tables_read(Permission.objects.filter(content_type__model="user")) == [
        "auth_permission", "django_content_type",
    ]  # fmt: skip


def test_steps_that_do_not_sleep_yet_take_no_place_of_those_that_do(
    org: Organization, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH", 3)
    _, step = asleep(org, name=name)
    now = timezone.now()
    with transaction.atomic():  # so that no leader sees it
        for number in range(10):  # of steps that have ended, or are about to sleep
            ModelWait.objects.create(
                step_run_id=uuid.UUID(int=number), org_id=org.id, table_name=name, looked_at=now, changed_at=now,
                expires_at=now,
            )  # fmt: skip
        ModelWait.objects.filter(step_run_id=step.id).update(changed_at=now + dt.timedelta(seconds=1))
        rows.look_after()
        wake_at = StepRun.objects.get(id=step.id).wake_at
        transaction.set_rollback(True)
    assert wake_at is not None
    assert wake_at <= timezone.now()
