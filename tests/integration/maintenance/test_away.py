"""While Postgres or the store is away every address says so: 503 with Retry-After, and nothing is stored half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from config.env import BASE_DIR
from tests.integration.api.test_edges import ROUTES, Site
from workflows.edge.unavailable import missing_service
from workflows.models import Organization, Run

WITHOUT_DATABASE = {
    "healthz",
    "favicon.ico",
    "api/openapi.json",
    "api/docs",
    "admin/jsi18n/",
    "logout/",
    "readyz",
    "login/",
}
"""These need none, or say themselves what is missing."""
NOWHERE = 1
"""A port of loopback at which nothing listens."""


@pytest.fixture
def no_postgres(site: Site) -> Iterator[Callable[[], None]]:
    """The connections of this thread go to a port at which nothing listens, until the fixture's value is called."""
    before = dict(connection.settings_dict)

    def back() -> None:
        connection.close()
        connection.settings_dict.update(before)

    connection.close()
    connection.settings_dict.update(HOST="127.0.0.1", PORT=str(NOWHERE))
    yield back
    back()


@pytest.fixture
def site(org: Organization) -> Site:
    return Site(org)


def assert_away(answer: Any, address: str, service: str = "Postgres") -> None:
    assert answer.status_code == 503, (address, answer.status_code, answer.content[:300])
    assert int(answer["Retry-After"]) >= 1, address
    assert service in answer.content.decode(), address
    if address.startswith(("/api", "/e/", "/hooks", "/callbacks")):
        assert answer.json()["code"] == "unavailable"
        assert answer["Content-Type"] == "application/problem+json"


def methods_of(route: str) -> list[str]:
    """Those of the routes that do something: the others are 405 with or without a database."""
    if route.startswith(("e/", "hooks/", "callbacks/")):
        return ["POST"]
    return ["GET", "POST", "PUT", "DELETE"] if route.startswith("api/") else ["GET", "POST"]


@pytest.mark.parametrize("part", ["api/", "admin/", ""])
def test_every_address_is_503_without_postgres(part: str, site: Site, no_postgres: Callable[[], None]) -> None:
    others = () if part else ("api/", "admin/")
    for route in ROUTES:
        if route in WITHOUT_DATABASE or not route.startswith(part) or route.startswith(others or ("\0",)):
            continue
        address = site.address(route)
        client = site.keyed if part == "api/" else site.browser
        statuses = set()
        for method in methods_of(route):
            answer = client.generic(method, address, b"{}", content_type="application/json")
            statuses.add(answer.status_code)
            if answer.status_code not in {404, 405}:
                assert_away(answer, address)
        assert 503 in statuses or statuses <= {404, 405}, (route, statuses)


def test_a_trigger_that_was_refused_succeeds_when_postgres_is_back(
    site: Site, org: Organization, no_postgres: Callable[[], None]
) -> None:
    sent = {"triggerData": {"x": 1}, "idempotencyKey": "once", "delay": "1h"}
    address = "/api/workflows/edge/run"
    for _ in range(2):
        assert_away(site.keyed.post(address, sent, content_type="application/json"), address)
    no_postgres()
    before = Run.objects.filter(org_id=org.id).count()
    answer = site.keyed.post(address, sent, content_type="application/json")
    assert (answer.status_code, answer.json()["existing"]) == (202, False)
    assert Run.objects.filter(org_id=org.id).count() == before + 1


def test_a_connection_that_ends_within_a_trigger_stores_nothing(site: Site, org: Organization) -> None:
    """The backend is ended between the statements of the request's transaction."""
    stored = Run.objects.filter(org_id=org.id).count()

    def end_backend(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if "headrace_workflows_event" in sql:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        return result

    with connection.execute_wrapper(end_backend):
        answer = site.stranger.post(f"/e/{site.event_key}", {"name": "edge/event"}, content_type="application/json")
    assert_away(answer, "/e/")
    assert (answer.json()["ids"], answer.json()["status"]) == ([], 503)
    connection.close()
    assert Run.objects.filter(org_id=org.id).count() == stored
    answer = site.stranger.post(f"/e/{site.event_key}", {"name": "edge/event"}, content_type="application/json")
    assert answer.status_code == 200


def test_without_the_store_every_address_answers_and_triggers_are_accepted(
    org: Organization, worker_environment: dict[str, str]
) -> None:
    """A process of its own whose REDIS_URL is a port at which nothing listens."""
    environment = {**worker_environment, "REDIS_URL": f"redis://127.0.0.1:{NOWHERE}/0", "HEADRACE_LOG_LEVEL": "ERROR"}
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.without_store", org.slug],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    answers = json.loads(done.stdout)
    assert len(answers) > 100
    faults = [each for each in answers if each["status"] >= 500 and not _says_store(each)]
    assert not faults, faults[:10]
    by_call = {(each["method"], each["route"]): each for each in answers}
    assert by_call["POST", "api/workflows/<slug>/run"]["status"] == 202
    assert by_call["POST", "e/<str:key>"]["status"] == 200
    assert "store" in by_call["GET", "api/limits/explain"]["body"]
    assert Run.objects.filter(org_id=org.id).count() >= 2


def _says_store(answer: dict[str, Any]) -> bool:
    if answer["route"] == "readyz":
        return '"store": false' in answer["body"]
    return answer["status"] == 503 and "store (Redis" in answer["body"] and answer["retryAfter"] is not None


@pytest.mark.parametrize(
    ("sqlstate", "passing"),
    [("08006", True), ("57P01", True), ("57P03", True), ("53300", True), ("40P01", True), ("25006", True), ("58030", True),
     ("55P03", True), ("22021", False), ("23505", False), ("54000", False), ("42P01", False)],
)  # fmt: skip
def test_errors_that_pass_are_told_from_those_that_stay(live_db: None, sqlstate: str, passing: bool) -> None:
    with pytest.raises(Exception) as raised, transaction.atomic(), connection.cursor() as cursor:  # noqa: PT011
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'made' USING ERRCODE = '{sqlstate}'; END $$")
    assert missing_service(raised.value) == ("Postgres" if passing else "")


@pytest.mark.parametrize(
    "command", [["runs", "list"], ["trigger", "edge"], ["doctor"], ["migrate", "--check"], ["bulk", "list"]]
)
def test_a_command_prints_a_sentence(live_db: None, command: list[str]) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{NOWHERE}/nothing",
        "HEADRACE_DB_POOL_SIZE": "0",
    }
    environment["HEADRACE_SECRET_KEY"] = "of-a-test"
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Postgres does not answer" in done.stderr
    assert "DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_says_it_in_words(site: Site, no_postgres: Callable[[], None]) -> None:
    answer = site.browser.get("/")
    assert_away(answer, "/")
    assert "<h1>Service Unavailable</h1>" in answer.content.decode()
