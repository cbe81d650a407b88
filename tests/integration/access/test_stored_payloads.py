"""Going over stored payloads: of one organization only its own are read; what belongs to none is sealed and rotated too."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.integration.access.marked import have, have_all, places_of, start, stored
from tests.integration.retention.history import ended, failed
from workflows.engine.sql.record import run_sizes
from workflows.models import Organization, PrunedRun, Run, StepRun, SweepFailure
from workflows.sealing import envelope
from workflows.services.access import payloads, stored_payloads
from workflows.this_process import configuration as told

pytestmark = pytest.mark.usefixtures("published")
NOOP = {"id": "a", "type": "noop", "config": {"output": "${ input }"}}


class Stopped(Exception):
    """Whoever goes over the payloads is stopped."""


@pytest.fixture
def trouble(mark: str) -> Iterator[str]:
    """A sweep that fails as a whole, and quotes a payload. Gives its name."""
    name = f"sweep-{uuid.uuid4().hex[:8]}"
    now = timezone.now()
    SweepFailure.objects.create(
        sweep=name, kind="fails", item="", error=f"ValueError: {mark}", since=now, last_at=now, try_again_at=now
    )
    yield name
    SweepFailure.objects.filter(sweep=name).delete()


def _error(sweep: str) -> str:
    return stored("headrace_workflows_sweepfailure", "error", sweep=sweep)[0]


def test_what_belongs_to_no_organization_is_encrypted_and_rotated_and_decrypted(
    org: Organization, other: Organization, mark: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (org, other):
        payloads.switch_to(each, on=True)
        payloads.rewrite(each)
    assert places_of(mark) == set()
    now, older = told.encryption_keys(), envelope.key_names(_error(trouble))
    have(monkeypatch, "newer", *now)
    newest = envelope.keys().current()[0].name
    payloads.rotate()
    assert envelope.key_names(_error(trouble)) == {newest}
    assert not payloads.count().by_key.keys() & older
    have(monkeypatch, *now, "newer")
    payloads.rotate()
    have_all(monkeypatch)
    payloads.switch_to(org, on=False)
    payloads.rewrite(org)
    assert mark not in _error(trouble), "another organization still wants it"
    payloads.switch_to(other, on=False)
    payloads.rewrite(other)
    assert _error(trouble) == f"ValueError: {mark}"


@contextlib.contextmanager
def _statements() -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def see(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        seen.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(see):
        yield seen


@pytest.mark.parametrize("verb", ["count", "rewrite"])
def test_the_payloads_of_one_organization_are_read_without_those_of_another(
    verb: str, org: Organization, other: Organization, mark: str
) -> None:
    for each in (org, other):
        ended(each)
        failed(each)
    with _statements() as seen:
        done = getattr(payloads, verb)(org)
    assert done.rows >= Run.objects.filter(org_id=org.id).count() + StepRun.objects.filter(org_id=org.id).count()
    owners: set[Any] = set()
    for sql, parameters in seen:
        if "::text" in sql and sql.startswith("WITH k"):
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                owners |= {row[0] for row in cursor.fetchall()}
    assert owners - {None} == {org.id}


def test_the_rest_of_a_deleted_run_is_encrypted_until_it_is_deleted(org: Organization, mark: str) -> None:
    run_id = start(org, [NOOP], {"word": mark})
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE headrace_workflows_steprun SET progress = to_jsonb(%s::text) WHERE run_id = %s", [mark, run_id]
        )
    PrunedRun.objects.create(run_id=run_id, org_id=org.id, pruned_at=timezone.now())
    Run.objects.filter(id=run_id).delete()
    payloads.switch_to(org, on=True)
    payloads.rewrite(org)
    assert places_of(mark) == set()
    payloads.switch_to(org, on=False)


def test_who_is_stopped_goes_on_when_called_again(
    org: Organization, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_payloads, "BATCH", 2)
    monkeypatch.setattr(stored_payloads, "RUNS_AT_ONCE", 2)
    for _ in range(5):
        start(org, [NOOP], {"word": mark})
    payloads.switch_to(org, on=True)

    def stop(done: payloads.Rewritten) -> None:
        if done.changed:
            raise Stopped

    with pytest.raises(Stopped):
        payloads.rewrite(org, stop)
    assert 0 < len([text for text in stored("headrace_workflows_run", "input", org_id=org.id) if mark in text]) < 5
    payloads.rewrite(org)
    assert places_of(mark) == set()
    payloads.switch_to(org, on=False)
    assert payloads.rewrite(org).changed > 0
    assert len([text for text in stored("headrace_workflows_run", "input", org_id=org.id) if mark in text]) == 5


def test_outputs_have_about_the_same_size_encrypted_and_in_clear(org: Organization) -> None:
    run_id = start(org, [NOOP, {**NOOP, "id": "b"}], {"word": "x" * 3_000})

    def size() -> int:
        (row,) = run_sizes(run_ids=[run_id])
        return envelope.payload_bytes(row.clear, row.number, row.sealed)

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE headrace_workflows_steprun SET output = to_jsonb(%s::text) WHERE run_id = %s", ["x" * 3_000, run_id]
        )
    in_clear = size()
    assert in_clear == 6_004
    payloads.switch_to(org, on=True)
    payloads.rewrite(org)
    assert abs(size() - in_clear) < 30
    payloads.switch_to(org, on=False)
