"""The lists of an organization with 200,000 runs: each order and filter reads a few pages of the database."""

from __future__ import annotations

import datetime as dt
import functools
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.support.workers import publish
from workflows import selectors
from workflows.models import Flow, Organization, Run
from workflows.selectors import run_lists
from workflows.selectors.run_lists import RunFilter

RUNS = 200_000
LIVE = 3_000
NEIGHBOURS = 40_000
MOST_PAGES = 12_000
"""Of 8 KiB that a list may read, in the order of an index: a look at each of the 200,000 runs costs as many."""

FILL = """
INSERT INTO headrace_workflows_run (id, org_id, flow_id, version_id, event_name, trigger, user_id, status, priority, input,
                           sinks_left, cancel_reason, created_at, started_at, ended_at)
SELECT (lpad(to_hex((extract(epoch FROM made.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(made.n::text), 1, 3)
        || '8' || substr(md5((made.n * 7)::text), 1, 15))::uuid,
       %(org)s, CASE WHEN made.n %% 20000 = 77 THEN %(rare)s ELSE %(flow)s END::uuid, %(version)s,
       CASE WHEN made.n %% 10000 = 9 THEN 'rare/event' WHEN made.n %% 3 = 0 THEN 'often/event' ELSE '' END,
       CASE WHEN made.n %% 20000 = 5 THEN 'webhook' WHEN made.n %% 3 = 0 THEN 'event' ELSE 'api' END,
       CASE WHEN made.n %% 4 = 0 THEN 'user-' || made.n %% 5000 ELSE '' END,
       CASE WHEN made.n > %(runs)s - %(live)s THEN CASE WHEN made.n %% 2 = 0 THEN 'queued' ELSE 'running' END
            WHEN made.n %% 100 = 3 THEN 'failed' WHEN made.n %% 20000 = 4 THEN 'cancelled' ELSE 'completed' END,
       CASE WHEN made.n %% 10 = 0 THEN made.n %% 1200 - 600 ELSE 0 END,
       '{}', 1, '', made.at, made.at,
       CASE WHEN made.n <= %(runs)s - %(live)s THEN made.at + (made.n %% 9973) * interval '10 milliseconds' END
  FROM (SELECT n, now() - (%(runs)s - n) * interval '13 seconds' AS at FROM generate_series(1, %(runs)s) AS n) AS made
"""
FILL_STEPS = """
INSERT INTO headrace_workflows_steprun (id, org_id, run_id, version_id, step_id, key, path, position, type, queue, priority, status,
                               attempt, losses, told_waits, needs_total, needs_left, needs_met, is_sink, timeout_ms,
                               wake_at, wake_seq, waiting_for, dispatch_count, created_at)
SELECT headrace_uuid7(), r.org_id, r.id, r.version_id, s.id, s.key, '', s.position, s.type, s.queue, r.priority, 'waiting',
       1, 0, 0, 0, 0, 0, true, s.timeout_ms, now() + interval '1 day', 0, 'delay', 0, r.created_at
  FROM headrace_workflows_run r JOIN headrace_workflows_step s ON s.version_id = r.version_id
 WHERE r.org_id = %(org)s AND r.ended_at IS NULL
"""
"""Each live run sleeps: a leader that another test has started would end a run without open steps."""
FILL_NEIGHBOUR = """
INSERT INTO headrace_workflows_run (id, org_id, flow_id, version_id, event_name, trigger, user_id, status, priority, input,
                           sinks_left, cancel_reason, created_at, started_at, ended_at)
SELECT headrace_uuid7(), %(org)s, %(flow)s, %(version)s, 'rare/event', 'webhook', 'user-400',
       CASE WHEN n %% 2 = 0 THEN 'cancelled' ELSE 'failed' END, 0, '{}', 0, '', now(), now(), now()
  FROM generate_series(1, %(runs)s) AS n
"""
"""What is rare with the crowd is common here: statistics of the table say nothing of one organization."""


@pytest.fixture(scope="module")
def crowd(live_db: None) -> Iterator[Organization]:
    """An organization with 200,000 runs, 3,000 of them live."""
    org = Organization.objects.create(slug=f"crowd-{uuid.uuid4().hex[:8]}", name="Crowd")
    publish(org, [{"id": "a", "type": "noop"}], slug="often")
    publish(org, [{"id": "a", "type": "noop"}], slug="rare")
    often, rare = Flow.objects.get(organization=org, slug="often"), Flow.objects.get(organization=org, slug="rare")
    parameters = {
        "org": org.id,
        "flow": often.id,
        "rare": rare.id,
        "version": often.current_id,
        "runs": RUNS,
        "live": LIVE,
    }
    with connection.cursor() as cursor:
        cursor.execute("SET headrace.damage = '1'")  # as history: these runs went through no transition
        cursor.execute(FILL, parameters)
        cursor.execute(FILL_STEPS, parameters)
        cursor.execute(FILL_NEIGHBOUR, _neighbour(org))
        cursor.execute("RESET headrace.damage")
        # What is read is counted: no analysis with another sample comes in between.
        cursor.execute("ALTER TABLE headrace_workflows_run SET (autovacuum_enabled = false)")
        cursor.execute("SET default_statistics_target = 1000")
        cursor.execute("VACUUM (ANALYZE) headrace_workflows_run, headrace_workflows_steprun")
    yield org
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM headrace_workflows_steprun WHERE org_id = %s", [org.id])
        cursor.execute(
            "DELETE FROM headrace_workflows_run WHERE org_id IN (SELECT id FROM headrace_workflows_organization WHERE slug LIKE %s)",
            [f"{org.slug}%"],
        )
        cursor.execute("RESET default_statistics_target")
        cursor.execute("ALTER TABLE headrace_workflows_run RESET (autovacuum_enabled)")
        cursor.execute("VACUUM (ANALYZE) headrace_workflows_run")


def _neighbour(org: Organization) -> dict[str, Any]:
    neighbour = Organization.objects.create(slug=f"{org.slug}-neighbour", name="Neighbour")
    flow = Flow.objects.get(organization=neighbour, slug=publish(neighbour, [{"id": "a", "type": "noop"}]))
    return {"org": neighbour.id, "flow": flow.id, "version": flow.current_id, "runs": NEIGHBOURS}


def pages_read(act: Callable[[], Any]) -> tuple[int, str]:
    """How many pages of the database the queries of something read, and how."""
    with CaptureQueriesContext(connection) as captured:
        act()
    total, plans = 0, []
    for query in captured.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query["sql"].replace("%", "%%"))
            (plan,) = _plan(cursor)
        total += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        plans.append(
            f"{plan['Execution Time']:.1f} ms: {query['sql'][:90]} … {query['sql'][-160:]}\n  " + _nodes(plan["Plan"])
        )
    return total, "\n".join(plans)


def _plan(cursor: Any) -> Any:
    found = cursor.fetchone()[0]
    return json.loads(found) if isinstance(found, str) else found


def _nodes(plan: dict[str, Any]) -> str:
    name = " ".join([plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", ""))])
    return " < ".join([name, *(_nodes(each) for each in plan.get("Plans", []))])


def after(org: Organization, where: RunFilter, sort: str, pages: int) -> str:
    """The cursor of a page further on."""
    cursor = ""
    for _ in range(pages):
        cursor = selectors.runs_page(org, where, sort=sort, limit=200, cursor=cursor).next_cursor
    return cursor


NOW = timezone.now()
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    **{status: {"status": status} for status in (*Run.Status.values, "waiting")},
    "a flow with nearly all": {"workflow": "often"},
    "a flow with few": {"workflow": "rare"},
    "no flow": {"workflow": "nothing"},
    "a common trigger": {"trigger": "api"},
    "a rare trigger": {"trigger": "webhook"},
    "an unknown trigger": {"trigger": "nothing"},
    "a user": {"user_id": "user-400"},
    "an unknown user": {"user_id": "nobody"},
    "a common event": {"event_name": "often/event"},
    "a rare event": {"event_name": "rare/event"},
    "an unknown event": {"event_name": "nothing"},
    "the last hour": {"since": NOW - dt.timedelta(hours=1)},
    "since tomorrow": {"since": NOW + dt.timedelta(days=1)},
    "a day long ago": {"since": NOW - dt.timedelta(days=20), "until": NOW - dt.timedelta(days=19)},
    "before everything": {"until": NOW - dt.timedelta(days=400)},
    "failed ones of a flow with few": {"workflow": "rare", "status": "failed"},
    "failed ones of a user": {"user_id": "user-403", "status": "failed"},
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("sort", ["created", "priority", "duration"])
def test_a_list_of_a_crowd_reads_few_pages(crowd: Organization, sort: str, name: str) -> None:
    where = RunFilter(**FILTERS[name])
    pages, plans = pages_read(lambda: selectors.runs_page(crowd, where, sort=sort))
    assert pages < MOST_PAGES, plans
    assert "Seq Scan headrace_workflows_run" not in plans, plans


@pytest.mark.parametrize("sort", ["created", "priority", "duration"])
def test_a_later_page_reads_few_pages_too(crowd: Organization, sort: str) -> None:
    cursor = after(crowd, RunFilter(), sort, 20)
    pages, plans = pages_read(lambda: selectors.runs_page(crowd, RunFilter(), sort=sort, cursor=cursor))
    assert pages < MOST_PAGES, plans
    assert "Seq Scan headrace_workflows_run" not in plans, plans


def test_waiting_runs_are_found_without_a_list_of_all_that_are_busy(crowd: Organization) -> None:
    """Such a list is compared with each run, one by one, where it is too long for the working memory."""
    runs = run_lists.with_status(Run.objects.filter(org_id=crowd.id), "waiting", org_id=crowd.id)
    assert "SubPlan" not in runs.order_by("-id").explain()


def test_the_numbers_above_the_list_read_few_pages(crowd: Organization) -> None:
    for read in (selectors.queue_counts, selectors.flows):
        pages, plans = pages_read(functools.partial(read, crowd))
        assert pages < MOST_PAGES, plans
        assert "Seq Scan headrace_workflows_run" not in plans, plans


@pytest.fixture(scope="module")
def rows(crowd: Organization) -> list[Any]:
    """All runs of the crowd, as plain rows."""
    fields = ("id", "priority", "status", "user_id", "event_name", "flow__slug", "created_at", "ended_at")
    return list(Run.objects.filter(org_id=crowd.id).values_list(*fields, named=True))


@pytest.mark.parametrize("name", ["none", "a user", "a flow with few", "waiting", "a rare event", "the last hour"])
@pytest.mark.parametrize("sort", ["created", "priority", "duration"])
def test_the_pages_of_a_list_are_the_whole_list_in_order(
    crowd: Organization, rows: list[Any], sort: str, name: str
) -> None:
    """Against a plain sort of everything that the filter matches."""
    where = RunFilter(**FILTERS[name])
    now = timezone.now()
    keys: dict[str, Callable[[Any], Any]] = {
        "created": lambda run: run.id,
        "priority": lambda run: (run.priority, run.id),
        "duration": lambda run: ((run.ended_at or now) - run.created_at, run.id),
    }
    wanted = [run.id for run in sorted((row for row in rows if _fits(row, where)), key=keys[sort], reverse=True)]
    found: list[uuid.UUID] = []
    cursor, most = "", 600
    while len(found) < most:
        page = selectors.runs_page(crowd, where, sort=sort, limit=170, cursor=cursor)
        found += [run.id for run in page.runs]
        cursor = page.next_cursor
        if not cursor:
            break
    assert len(found) == len(set(found))
    assert found == wanted[: len(found)]
    assert cursor or len(found) == len(wanted)


def _fits(run: Any, where: RunFilter) -> bool:
    return (
        (not where.user_id or run.user_id == where.user_id)
        and (not where.workflow or run.flow__slug == where.workflow)
        and (where.status != "waiting" or run.ended_at is None)
        and (not where.event_name or run.event_name == where.event_name)
        and (where.since is None or run.created_at >= where.since)
    )
