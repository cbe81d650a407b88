"""Fixtures: a database without rollbacks (real workers must see the rows), an organization of its own per test, workers."""

from __future__ import annotations

import os
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test.utils import setup_databases, teardown_databases
from psycopg import BaseConnection
from pytest_httpserver import HTTPServer
from whitenoise.middleware import WhiteNoiseMiddleware

import config.urls  # noqa: F401  (with it the pages of the admin are loaded)
from tests.support import lanes
from tests.support.processes import forks
from tests.support.workers import WorkerPool, leave_nothing, open_queues
from throttling import overrides
from throttling.defaults import BY_TYPE, NO_SIZE
from throttling.models import DefaultSize, ThrottleOverride
from workflows import this_process
from workflows.engine.maintenance import gate_sync
from workflows.engine.pipeline import admit, publish
from workflows.engine.pipeline.dispatcher import Dispatcher
from workflows.engine.state import database
from workflows.engine.state.records import ReadyStep
from workflows.engine.state.transitions import RUN_TRANSITIONS, STEP_TRANSITIONS
from workflows.models import AccessKey, Organization, Run
from workflows.services.access.key_uses import KeyUses
from workflows.this_process.configuration import configuration


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole installations first: they take longest, and use nothing of ours. Then what looks at a whole database, while
    there is little in it; tests of the standing workers; and those that bring their own last: so the workers start and
    stop twice in a lane.

    A file that shares fixtures stays together.
    """

    def place(item: pytest.Item) -> int:
        used = set(getattr(item, "fixturenames", ()))
        if path_of(item).startswith("tests/acceptance/"):
            return 1 if "live_db" in used else 0
        return 4 if used & {"own_workers", "published"} else 2 if "workers" in used else 3

    def path_of(item: pytest.Item) -> str:
        return item.nodeid.partition("::")[0]

    whole: dict[str, int] = {}
    for item in items:
        if "django_db_setup" in getattr(item, "fixturenames", ()) or item.get_closest_marker("django_db"):
            raise pytest.UsageError(f"{item.nodeid}: take live_db; pytest-django's database would replace it for all.")
        if lanes.stays_together(path_of(item)):
            whole[path_of(item)] = max(whole.get(path_of(item), 0), place(item))
    items.sort(key=lambda item: whole.get(path_of(item), place(item)))


def _look_for_static_files_once() -> None:
    """Each test client loads the middlewares anew, and WhiteNoise looks at every static file then: 60 ms."""
    look: Callable[[WhiteNoiseMiddleware], None] = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add_files(self: WhiteNoiseMiddleware) -> None:
        if not found:
            look(self)
            found.update(self.files)
        self.files.update(found)

    WhiteNoiseMiddleware.add_files_from_finders = add_files


_look_for_static_files_once()


def _say_whose_connections_stay_open() -> None:
    """A connection of a thread that has ended is found open by a later test, which is not the one to mend."""
    warn: Callable[..., None] = BaseConnection.__del__

    def made(connection: BaseDatabaseWrapper, **_: Any) -> None:
        connection.connection.made_by = f"{os.environ.get('PYTEST_CURRENT_TEST')}, {threading.current_thread().name}"

    def delete(self: Any) -> None:
        by = getattr(self, "made_by", "nobody known")
        warn(self, lambda text, category: warnings.warn(f"{text} It was made by {by}.", category, stacklevel=2))

    connection_created.connect(made, weak=False)
    BaseConnection.__del__ = delete  # type: ignore[method-assign]


_say_whose_connections_stay_open()


@pytest.hookimpl(trylast=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """After a failure the next test gets connections of its own: a timeout may have cut a query off in the middle."""
    if call.excinfo is not None and "live_db" in getattr(item, "fixturenames", ()):
        connections.close_all()
        database.close()


@pytest.fixture(scope="session")
def live_db(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    """The test database, open to everybody, without a transaction around a test."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases=["default"])
        refuse_other_transitions()
        lift_limits()
        gate_sync.GateSync().rebuild(anew=True)
        yield
        this_process.own(Dispatcher).stop()
        this_process.own(KeyUses).drop()
        with connection.cursor() as cursor:  # the live server's threads may still hold theirs
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connections.close_all()
        database.close()
        teardown_databases(made, verbosity=0)


def refuse_other_transitions() -> None:
    """Whatever the tests do, a change of status that `transitions` does not name is an error in the database."""
    for table, transitions in (("steprun", STEP_TRANSITIONS), ("run", RUN_TRANSITIONS)):
        allowed = ", ".join(f"('{t.source}', '{t.target}')" for t in transitions)
        with connection.cursor() as cursor:
            cursor.execute(f"""
                CREATE FUNCTION test_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
                DECLARE before text := CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.status END;
                BEGIN
                    IF before <> NEW.status AND (before, NEW.status) NOT IN ({allowed})
                       AND current_setting('headrace.damage', true) IS DISTINCT FROM '1' THEN
                        RAISE EXCEPTION '{table}: % to % is no known transition', before, NEW.status;
                    END IF;
                    RETURN NULL;
                END $$;
                CREATE TRIGGER test_transitions AFTER INSERT OR UPDATE ON headrace_workflows_{table}
                    FOR EACH ROW EXECUTE FUNCTION test_{table}();
            """)


def lift_limits() -> None:
    """The shipped limits would hold the tests up; those of flow control set their own."""
    for name in ("", *BY_TYPE):
        row = ThrottleOverride(
            scope="type" if name else "global",
            type=name,
            concurrency=100_000,
            rate_limit=1_000_000,
            rate_period_ms=1_000,
            note="tests",
        )
        overrides.put(row, by="tests")
    DefaultSize.objects.update(size=NO_SIZE)
    admit.snapshot().reload()


@pytest.fixture
def org(live_db: None) -> Iterator[Organization]:
    """An organization of its own: tests share the database and see only theirs, and the limits of all stay lifted."""
    before = _limits_of_all()
    yield from _of_one_test(f"t-{uuid.uuid4().hex[:12]}", "Test")
    assert _limits_of_all() == before, "a limit of all organizations was left changed to the tests that follow"


def _of_one_test(slug: str, name: str) -> Iterator[Organization]:
    """An organization of which nothing goes on once the test is over."""
    made = Organization.objects.create(slug=slug, name=name)
    yield made
    if Run.objects.filter(org_id=made.id, ended_at=None).exists() or made.triggers.exists():
        leave_nothing(made)


def _limits_of_all() -> set[tuple[Any, ...]]:
    found = ThrottleOverride.objects.filter(org_id=None, flow_id=None).exclude(scope="limit")
    return set(found.values_list("scope", "type", "concurrency", "rate_limit", "rate_period_ms"))


@pytest.fixture
def other(live_db: None) -> Iterator[Organization]:
    """Another organization."""
    yield from _of_one_test(f"o-{uuid.uuid4().hex[:12]}", "Other")


@pytest.fixture(scope="session")
def make_httpserver() -> Iterator[HTTPServer]:
    """The server of pytest-httpserver, with a thread for each request: one that waits holds no other up."""
    server = HTTPServer(threaded=True)
    server.start()
    yield server
    server.clear()
    server.stop()


@pytest.fixture
def api_key(org: Organization) -> str:
    return AccessKey.issue(org, AccessKey.Kind.API, "test")[1]


@pytest.fixture(scope="session")
def worker_environment(live_db: None) -> Iterator[dict[str, str]]:
    """The environment of processes that work on the test database."""
    name = connection.settings_dict["NAME"]
    url = os.environ["DATABASE_URL"].replace("/headrace?", f"/{name}?")
    yield {**os.environ, "DATABASE_URL": url, "REDIS_URL": configuration().redis_url, "HEADRACE_EMBEDDED": "1"}
    forks.stop_servers()


@pytest.fixture(scope="session")
def standing_pool(worker_environment: dict[str, str]) -> Iterator[WorkerPool]:
    """The workers that tests share; started at first use, stopped while a test brings its own."""
    pool = WorkerPool(worker_environment)
    yield pool
    pool.stop()


@pytest.fixture
def workers(standing_pool: WorkerPool) -> WorkerPool:
    """One I/O worker and one compute worker, real processes."""
    if not standing_pool.processes:
        standing_pool.start("io")
        standing_pool.start("compute")
        standing_pool.await_ready(3)
    return standing_pool


@pytest.fixture
def own_workers(
    org: Organization, standing_pool: WorkerPool, worker_environment: dict[str, str]
) -> Iterator[WorkerPool]:
    """No worker but those that the test starts. Nothing of its organization waits at the gate for the next test's."""
    standing_pool.stop()
    pool = WorkerPool(worker_environment)
    yield pool
    pool.stop()
    leave_nothing(org)


@pytest.fixture
def published(org: Organization, own_workers: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReadyStep]]:
    """What would have been published, for tests that are the transport and the worker themselves: nobody else is about."""
    sent: list[ReadyStep] = []
    monkeypatch.setattr(publish, "publish", sent.extend)
    with this_process.replaced(Dispatcher, Dispatcher(at_once=True)):
        open_queues()
        yield sent


@pytest.fixture(scope="session")
def address(live_db: None) -> Iterator[str]:
    """The site, served by Django's live server on the test database."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's sync API runs a loop in this thread
    StaticLiveServerTestCase.setUpClass()
    yield StaticLiveServerTestCase.live_server_url
    StaticLiveServerTestCase.tearDownClass()
