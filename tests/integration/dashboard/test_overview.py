"""The overview: what each minute counts, what charts make of it, and the runs behind a point."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import uuid6
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dlq.models import Alert, AlertRule
from tests.support.admin_site import staff
from tests.support.workers import WorkerPool
from workflows.definitions.compiled import NIL_UUID
from workflows.engine.maintenance import measuring
from workflows.engine.telemetry import usage
from workflows.models import Attempt, Flow, FlowVersion, MinuteCounts, Organization, Run, StepRun
from workflows.models.run import first_id
from workflows.selectors.pages import behind, measured

MINUTE = dt.timedelta(minutes=1)
AT = dt.datetime(2031, 5, 5, 10, 0, tzinfo=dt.UTC)
"""No other test has runs of this time."""


def flow_of(org: Organization) -> tuple[Flow, FlowVersion]:
    flow = Flow.objects.create(organization=org, slug="counted", name="counted")
    version = FlowVersion.objects.create(flow=flow, number=1, definition={"steps": []}, checksum="x")
    return flow, version


def ended(org: Organization, flow: Flow, version: FlowVersion, at: dt.datetime, status: str = "completed") -> Run:
    with connection.cursor() as cursor:
        cursor.execute("SET headrace.damage = '1'")  # it is made as it ended
    return Run.objects.create(
        org_id=org.id, flow=flow, version=version, status=status, trigger="manual", input={}, sinks_left=0,
        created_at=at - dt.timedelta(seconds=3), ended_at=at,
    )  # fmt: skip


def tried(run: Run, at: dt.datetime, number: int = 1, waited_s: float = 0.0) -> Attempt:
    id_ = uuid.UUID(int=first_id(at.timestamp()).int | (uuid6.uuid7().int & ((1 << 74) - 1)))
    return Attempt.objects.create(
        id=id_, org_id=run.org_id, run=run, step_run_id=uuid6.uuid7(), number=number, status="completed",
        ready_at=at - dt.timedelta(seconds=waited_s), started_at=at, ended_at=at,
    )  # fmt: skip


@pytest.fixture
def counted(org: Organization) -> Any:
    """Two minutes of runs and tries, counted."""
    flow, version = flow_of(org)
    for second in range(3):
        ended(org, flow, version, AT + dt.timedelta(seconds=second))
    failed = ended(org, flow, version, AT + MINUTE, "failed")
    slow = ended(org, flow, version, AT + MINUTE + dt.timedelta(seconds=59.9), "cancelled")
    tried(failed, AT + MINUTE)
    tried(failed, AT + MINUTE + dt.timedelta(seconds=1), number=2)
    tried(slow, AT + MINUTE + dt.timedelta(seconds=2), waited_s=12.5)
    MinuteCounts.objects.create(org_id=NIL_UUID, at=AT - MINUTE, **NOTHING)
    measuring.measure(AT + 3 * MINUTE + dt.timedelta(seconds=30))
    yield {"failed": failed, "slow": slow}
    with connection.cursor() as cursor:
        cursor.execute("RESET headrace.damage")
    MinuteCounts.objects.filter(at__gte=AT - MINUTE).delete()
    Attempt.objects.filter(org_id=org.id).delete()
    Run.objects.filter(org_id=org.id).delete()


NOTHING = dict.fromkeys(("completed", "failed", "cancelled", "tries", "retries", "waited_ms", "longest_wait_ms"), 0)


def reader(org: Organization) -> Client:
    client = staff(superuser=True)
    assert client.get(f"/overview/?org={org.slug}").status_code == 200
    return client


def test_each_minute_counts_what_ended_and_was_tried_within_it(org: Organization, counted: Any) -> None:
    rows = {row.at: row for row in MinuteCounts.objects.filter(org_id=org.id)}
    first, second = rows[AT], rows[AT + MINUTE]
    assert (first.completed, first.failed, first.cancelled, first.tries) == (3, 0, 0, 0)
    assert (second.completed, second.failed, second.cancelled) == (0, 1, 1)
    assert (second.tries, second.retries, second.waited_ms, second.longest_wait_ms) == (3, 1, 12_500, 12_500)
    assert AT + 2 * MINUTE not in rows, "nothing happened in it"
    whole = MinuteCounts.objects.filter(org_id=NIL_UUID, at__gte=AT).order_by("at")
    assert [row.at for row in whole] == [AT, AT + MINUTE, AT + 2 * MINUTE]
    assert [row.backlog is None for row in whole] == [True, True, False], "only of the last one it is known"


def test_a_minute_is_counted_once_whoever_leads(org: Organization, counted: Any) -> None:
    before = list(MinuteCounts.objects.filter(at__gte=AT).order_by("at", "org_id").values())
    MinuteCounts.objects.filter(org_id=NIL_UUID, at__gte=AT + MINUTE).delete()
    measuring.measure(AT + 3 * MINUTE + dt.timedelta(seconds=30))
    assert list(MinuteCounts.objects.filter(at__gte=AT).order_by("at", "org_id").values()) == before


def test_a_minute_that_is_not_over_is_left_for_later(org: Organization, counted: Any) -> None:
    count = MinuteCounts.objects.filter(at__gte=AT).count()
    measuring.measure(AT + 4 * MINUTE + dt.timedelta(seconds=1))
    assert MinuteCounts.objects.filter(at__gte=AT).count() == count


def test_what_no_chart_shows_any_more_is_deleted(live_db: None) -> None:
    old = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    MinuteCounts.objects.create(org_id=uuid.uuid4(), at=old, **NOTHING)
    measuring.measure()
    assert not MinuteCounts.objects.filter(at=old).exists()


def test_the_backlog_is_counted_with_its_age(org: Organization, own_workers: WorkerPool) -> None:
    """No worker runs, which would start the step, or count the minute."""
    flow, version = flow_of(org)
    run = ended(org, flow, version, timezone.now())
    now = timezone.now().replace(second=30)
    step = StepRun.objects.create(
        org_id=org.id, run=run, version_id=version.id, key="a", type="noop", queue="headrace.io", status="ready",
        waiting_for="limit", timeout_ms=1_000, created_at=now, ready_at=timezone.now() - dt.timedelta(hours=2),
    )  # fmt: skip
    try:
        MinuteCounts.objects.filter(at__gte=now - 5 * MINUTE).delete()
        measuring.measure(now + 2 * MINUTE)
        row = MinuteCounts.objects.get(org_id=org.id, backlog=1)
        assert 7_190_000 < (row.oldest_ms or 0) < 7_300_000
    finally:
        MinuteCounts.objects.filter(at__gte=now - 5 * MINUTE).delete()
        step.delete()
        run.delete()
        with connection.cursor() as cursor:
            cursor.execute("RESET headrace.damage")


def test_a_chart_tells_nothing_from_not_counted(org: Organization, counted: Any) -> None:
    parts = measured.buckets(org, measured.SPANS["1h"], AT + 3 * MINUTE)
    assert len(parts) == 60
    assert [part.is_counted for part in parts[-5:]] == [False, True, True, True, True]
    assert [part.ended for part in parts[-3:]] == [3, 2, 0]
    assert (parts[-2].failure_percent, parts[-2].retry_percent, parts[-2].mean_wait_ms) == (100.0, 33.3, 4167)
    whole = measured.total(parts)
    assert (whole.ended, whole.failure_percent, whole.longest_wait_ms) == (5, 25.0, 12_500)
    day = measured.buckets(org, measured.SPANS["24h"], AT + 3 * MINUTE)
    assert (len(day), day[-1].ended, day[-1].at) == (96, 5, AT)
    week = measured.buckets(org, measured.SPANS["7d"], AT + 3 * MINUTE)
    assert (len(week), week[-1].ended) == (168, 5)


def test_a_backlog_that_nobody_counted_is_not_drawn_as_none(org: Organization, counted: Any) -> None:
    parts = measured.buckets(org, measured.SPANS["1h"], AT + 3 * MINUTE)
    assert [part.backlog for part in parts[-4:]] == [None, None, None, 0], "only in the last one somebody looked"


@pytest.mark.parametrize(("kind", "names"), [("failed", ["failed"]), ("ended", ["slow", "failed"]),
                                             ("retried", ["failed"]), ("waited", ["slow", "failed"])])  # fmt: skip
def test_the_runs_behind_a_point_are_shown(org: Organization, counted: Any, kind: str, names: list[str]) -> None:
    address = f"/overview/runs/?kind={kind}&since=2031-05-05T10:01:00Z&until=2031-05-05T10:02:00Z"
    answer = reader(org).get(address)
    shown = [run["id"] for run in answer.context["runs"]]
    assert shown == [str(counted[name].id) for name in names]


def test_runs_that_ended_in_the_same_instant_are_paged_without_loss(org: Organization, counted: Any) -> None:
    flow = Flow.objects.get(organization=org, slug="counted")
    version = FlowVersion.objects.get(flow=flow)
    at = AT + dt.timedelta(minutes=30)
    made = {ended(org, flow, version, at, status).id for status in ["completed", "failed"] * 60}
    seen: list[uuid.UUID] = []
    cursor = ""
    while True:
        page = behind.runs_behind(org, "ended", at, at + MINUTE, cursor=cursor)
        seen += [run.id for run in page.runs]
        cursor = page.next_cursor
        if not cursor:
            break
    assert len(seen) == len(made)
    assert set(seen) == made


def test_tries_of_others_that_fill_what_is_looked_at_are_said(
    org: Organization, other: Organization, counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, version = flow_of(other)
    theirs = ended(other, flow, version, AT + 2 * MINUTE)
    last = tried(theirs, AT + MINUTE + dt.timedelta(seconds=50))
    monkeypatch.setattr(behind, "MOST_TRIES", 1)
    found = behind.runs_behind(org, "waited", AT + MINUTE, AT + 2 * MINUTE)
    assert (found.runs, found.read_until) == ([], last.ended_at)
    address = "/overview/runs/?kind=waited&since=2031-05-05T10:01:00Z&until=2031-05-05T10:02:00Z"
    page = reader(org).get(address).content.decode()
    assert "None of the tries that were looked at" in page
    assert "No run lies behind this point" not in page
    Attempt.objects.filter(org_id=other.id).delete()
    Run.objects.filter(org_id=other.id).delete()


@pytest.mark.parametrize("query", ["", "kind=x&since=2031-05-05T10:00:00Z&until=2031-05-05T10:01:00Z", "since=a&until=b",
                                   "since=2031-05-05T10:00:00Z&until=2031-05-05T10:00:00Z",
                                   "since=2030-05-05T10:00:00Z&until=2031-05-05T10:00:00Z",
                                   "since=2031-05-05T10:00:00Z&until=2031-05-05T10:01:00Z&cursor=💩"])  # fmt: skip
def test_a_bad_point_is_refused_with_what_to_write(org: Organization, query: str) -> None:
    answer = reader(org).get(f"/overview/runs/?{query}")
    assert answer.status_code == 422
    assert b"since" in answer.content or b"kind" in answer.content or b"cursor" in answer.content


def test_a_span_that_is_unknown_shows_the_last_hour(org: Organization) -> None:
    assert reader(org).get("/overview/?span=💩").context["span"].name == "1h"


def test_another_organization_sees_none_of_it(org: Organization, other: Organization, counted: Any) -> None:
    stranger = reader(other)
    answer = stranger.get("/overview/runs/?kind=ended&since=2031-05-05T10:00:00Z&until=2031-05-05T10:05:00Z")
    assert answer.context["runs"] == []
    assert measured.total(measured.buckets(other, measured.SPANS["1h"], AT + 3 * MINUTE)).ended == 0


def test_letters_and_alerts_are_shown(org: Organization) -> None:
    rule = AlertRule.objects.first()
    now = timezone.now()
    alert = Alert.objects.create(
        org_id=org.id, rule=rule, severity="critical", title="Too many failures", message="x", fired_at=now, seen_at=now
    )
    answer = reader(org).get("/overview/now/")
    assert b"Too many failures" in answer.content
    assert answer.context["letters"] == 0
    alert.delete()


def test_charts_are_sent_again_only_after_another_minute(org: Organization, counted: Any) -> None:
    client = reader(org)
    first = client.get("/overview/now/?counted=")
    at = first.context["now"].counted_at.isoformat().replace("+", "%2B")
    assert b"hx-swap-oob" in first.content
    assert b"hx-swap-oob" not in client.get(f"/overview/now/?counted={at}").content


def test_the_page_asks_a_handful_of_statements(org: Organization) -> None:
    client = reader(org)
    with CaptureQueriesContext(connection) as queries:
        client.get("/overview/")
    assert len(queries) <= 16, [query["sql"][:80] for query in queries]


def test_a_process_knows_what_it_takes(live_db: None) -> None:
    look = usage.Usage()
    sum(range(300_000))
    cores, memory = look.cpu_cores(), usage.memory_bytes()
    assert cores is not None
    assert cores > 0
    assert memory is not None
    assert memory > 10_000_000
