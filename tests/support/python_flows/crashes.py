"""Crash at every step: a flow is run by a worker that is killed at the n-th change of a status, for each n in turn.

The worker under test knows nothing of it. A trigger of the test database counts the transactions of its connections
(they have an `application_name` of their own) that change a status of the watched organization, and holds the one after
the n-th until the worker is dead: then exactly n are recorded (of steps that run at the same time, perhaps some more), and
all that the worker did before the next one has happened and is lost. Another worker has to bring the run to the same end.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from tests.support.python_flows.basic import told
from tests.support.volume import IS_FULL
from tests.support.workers import WorkerPool, await_end, await_that, scalar
from workflows import selectors, services
from workflows.engine.state import database
from workflows.functions.flows import FunctionFlow
from workflows.models import Organization, Run

VICTIM = "headrace crash victim"
LEASE_S = "2"
_KEY = 0x63726173
_NEVER = 1_000_000
_WATCH = f"""
CREATE UNLOGGED TABLE test_crash_watch (org_id uuid PRIMARY KEY, kill_after int NOT NULL);
CREATE UNLOGGED TABLE test_crash_seen (org_id uuid, xid xid8, PRIMARY KEY (org_id, xid));
CREATE FUNCTION test_crash_point() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    after int;
BEGIN
    IF current_setting('application_name') <> '{VICTIM}' OR (TG_OP = 'UPDATE' AND OLD.status = NEW.status) THEN
        RETURN NULL;
    END IF;
    SELECT kill_after INTO after FROM test_crash_watch WHERE org_id = NEW.org_id;
    IF after IS NULL OR EXISTS (SELECT FROM test_crash_seen WHERE org_id = NEW.org_id AND xid = pg_current_xact_id()) THEN
        RETURN NULL;
    END IF;
    INSERT INTO test_crash_seen VALUES (NEW.org_id, pg_current_xact_id());
    IF (SELECT count(*) FROM test_crash_seen WHERE org_id = NEW.org_id) > after THEN
        PERFORM pg_advisory_xact_lock({_KEY});
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER test_crash_point AFTER INSERT OR UPDATE ON workflows_steprun
    FOR EACH ROW EXECUTE FUNCTION test_crash_point();
CREATE TRIGGER test_crash_point AFTER INSERT OR UPDATE ON workflows_run
    FOR EACH ROW EXECUTE FUNCTION test_crash_point();
"""
_UNWATCH = """
DROP TRIGGER IF EXISTS test_crash_point ON workflows_steprun;
DROP TRIGGER IF EXISTS test_crash_point ON workflows_run;
DROP FUNCTION IF EXISTS test_crash_point;
DROP TABLE IF EXISTS test_crash_watch, test_crash_seen;
"""


@dataclass(frozen=True, kw_only=True)
class CrashCase:
    """A flow, and what must hold of it wherever its worker dies.

    `data` makes the input, with a directory for what it does (`tell`); `effects`: what it does there; `exact`: those of
    them that belong to the step's own transaction (`step.atomic`), counted by `count`. `outcome`: what of an ended run
    must be the same as without a crash. `extra`: how many effects more than one there may be, over all of them.
    """

    flow: FunctionFlow
    data: Callable[[Path], Any] = lambda _: {}
    effects: tuple[str, ...] = ()
    outcome: Callable[[selectors.RunDetail], Any] = lambda detail: (detail.run.status, detail.run.output)
    extra: int = 1
    at_once: int = 1
    """How many of its transitions may be under way at the same time: the trigger counts those that are committed."""
    is_quick: bool = False
    """A few points of it are part of `make test`; all else belongs to `make soak`."""
    needs: tuple[FunctionFlow, ...] = ()
    """Flows that it runs itself."""
    count: Callable[[UUID], Mapping[str, int]] | None = None
    """How often the effects of `exact` are there, by the run."""
    exact: frozenset[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        return self.flow.slug

    def points(self, transitions: int) -> list[int]:
        """After how many transitions a worker is killed: of `make soak` each number, else three that lie apart."""
        step = 1 if IS_FULL else max(1, transitions // 3)
        return list(range(zlib.crc32(self.name.encode()) % step, transitions, step))


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While this is open, the database can hold workers at a transition."""
    with connection.cursor() as cursor:
        cursor.execute(_UNWATCH)
        cursor.execute(_WATCH)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(_UNWATCH)


class Crashes:
    """Runs a case, with a crash or without one. Use it within `watched`."""

    def __init__(self, org: Organization, pool: WorkerPool, directory: Path) -> None:
        self._org, self._pool, self._directory = org, pool, directory
        self._runs = 0

    def undisturbed(self, case: CrashCase) -> tuple[Any, int]:
        """(the outcome without a crash, how many transactions of the worker change a status until then)"""
        run_id, where = self._begin(case, _NEVER)
        worker = self._victim()
        outcome = self._end(case, run_id, where, extra=0)
        self._pool.kill(worker)
        return outcome, self._seen()

    def crash(self, case: CrashCase, after: int) -> Any:
        """The outcome of a run whose worker is killed with so many transitions recorded. Asserts its effects."""
        run_id, where = self._begin(case, after)
        with psycopg.connect(**database.parameters(), autocommit=True) as lock:
            lock.execute("SELECT pg_advisory_lock(%s)", [_KEY])
            worker = self._victim()
            await_that(lambda: _held() or not Run.objects.get(id=run_id).is_live, 40, f"the worker at {after}")
            self._pool.kill(worker)
            lock.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = %s",
                [VICTIM],
            )
            await_that(lambda: not _connected(), 10, "the end of the victim's connections")
        assert self._seen() <= after + case.at_once - 1, "more was recorded than the trigger should have let through"
        self._pool.start("io", HEADRACE_LEASE_S=LEASE_S)
        outcome = self._end(case, run_id, where, extra=case.extra)
        self._pool.stop()
        return outcome

    def _begin(self, case: CrashCase, after: int) -> tuple[UUID, Path]:
        """A run that no worker has seen yet."""
        self._runs += 1
        where = self._directory / str(self._runs)
        where.mkdir()
        for flow in (*case.needs, case.flow):
            services.apply_definition(self._org, flow.spec())
        run_id = services.trigger(self._org, case.flow.slug, case.data(where)).run_ids[0]
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM test_crash_seen")
            cursor.execute(
                "INSERT INTO test_crash_watch VALUES (%s, %s) ON CONFLICT (org_id) DO UPDATE SET kill_after = %s",
                [self._org.id, after, after],
            )
        return run_id, where

    def _victim(self) -> Any:
        address = self._pool.environment["DATABASE_URL"]
        joint = "&" if "?" in address else "?"
        name = VICTIM.replace(" ", "%20")
        return self._pool.start(
            "io", HEADRACE_LEASE_S=LEASE_S, DATABASE_URL=f"{address}{joint}application_name={name}"
        )  # fmt: skip

    def _end(self, case: CrashCase, run_id: UUID, where: Path, *, extra: int) -> Any:
        detail = await_end(self._org, run_id, 60)
        counts = {what: told(where, what) for what in case.effects}
        assert all(count >= 1 for count in counts.values()), f"an effect is missing: {counts}"
        assert sum(counts.values()) - len(counts) <= extra, f"an effect was repeated too often: {counts}"
        if case.count is not None:
            exact = dict(case.count(run_id))
            assert exact == dict.fromkeys(case.exact, 1), f"an effect of step.atomic is not there exactly once: {exact}"
        return case.outcome(detail)

    def _seen(self) -> int:
        return int(scalar("SELECT count(*) FROM test_crash_seen WHERE org_id = %s", self._org.id))


def _held() -> bool:
    """Whether the trigger holds a connection of the victim."""
    return bool(
        scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event = 'advisory'"
            " AND datname = current_database()",
            VICTIM,
        )
    )


def _connected() -> bool:
    return bool(
        scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()", VICTIM
        )
    )
