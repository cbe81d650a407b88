"""The short way in answers as Django does: one table of requests, each sent by both ways."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils import timezone

from config.browser_policy import browser_policy
from tests.support.workers import await_that, nobody_dispatches, publish
from workflows import services
from workflows.api.edge.handler import ThreadHandler
from workflows.api.streams.front import Front
from workflows.engine.intake import groups, plain_runs
from workflows.engine.state import database
from workflows.models import AccessKey, Event, EventSchema, Flow, Organization, Run

HEADERS = (browser_policy, SecurityMiddleware, XFrameOptionsMiddleware)
WAITERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
       AND query LIKE 'WITH wanted AS%' AND pid <> pg_backend_pid() AND datname = current_database()
"""
NOOP = [{"id": "a", "type": "noop"}]
RUN = "/api/workflows/flow/run"
DJANGO = ThreadHandler(threads=4, middlewares=HEADERS)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request. In paths and headers, {api}, {event}, {revoked} and {other} are keys."""

    path: str = RUN
    method: str = "POST"
    body: Any = b""
    key: str | None = "{api}"
    headers: tuple[tuple[str, str], ...] = ()
    host: str | None = "localhost"
    query: str = ""
    scheme: str = "http"
    chunks: int = 0
    """In so many parts, without a length."""
    status: int = 202
    is_plain: bool = False
    """Whether the short way answers it."""
    once: bool = False
    """Whether a second one has another answer: the first stands in its place."""

    def scope(self, keys: dict[str, str]) -> dict[str, Any]:
        said = [("host", self.host)] if self.host is not None else []
        said += [("authorization", f"Bearer {self.key}")] if self.key is not None else []
        said += [("transfer-encoding", "chunked")] if self.chunks else [("content-length", str(len(self.content)))]
        path = self.path.format(**keys)
        return {
            "type": "http", "method": self.method, "path": path, "raw_path": path.encode(),
            "query_string": self.query.encode(), "scheme": self.scheme, "root_path": "", "http_version": "1.1",
            "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 80),
            "headers": [
                (name.encode(), value.format(**keys).encode("latin-1")) for name, value in (*said, *self.headers)
            ],
        }  # fmt: skip

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(kw_only=True)
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def without_ids(self) -> tuple[int, dict[str, str], bytes]:
        body = re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}", b"<id>", self.body)
        return self.status, self.headers, body


async def one(application: Any, asked: Asked, keys: dict[str, str]) -> Answer:
    content, answer = asked.content, Answer()
    size = max(1, -(-len(content) // max(1, asked.chunks)))
    parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await application(asked.scope(keys), receive, send)
    return answer


def by_both(asked: Asked, keys: dict[str, str]) -> tuple[Answer, Answer, bool]:
    """(the front's answer, Django's, whether the front asked Django)."""
    passed: list[str] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])
        await DJANGO(scope, receive, send)

    async def both() -> tuple[Answer, Answer]:
        return await one(Front(django, HEADERS), asked, keys), await one(DJANGO, asked, keys)

    ours, theirs = asyncio.run(both())
    return ours, theirs, bool(passed)


def event(**more: Any) -> Asked:
    given: dict[str, Any] = {"path": "/e/{event}", "key": None, "status": 200, "body": {"name": "test/made"}, **more}
    return Asked(**given)


DEEP: Any = json.loads("[" * 199 + "]" * 199)
TABLE = {
    "a run": Asked(body={"triggerData": {"a": [1, "ü"]}}, is_plain=True),
    "a run of a user": Asked(body={"triggerData": None, "userId": "u1"}, is_plain=True),
    "a run with tags": Asked(body={"tags": ["nightly", "plan:pro"], "userId": "u"}, is_plain=True),
    "runs with tags": Asked(body=[{"tags": ["a"]}, {"tags": []}, {}], is_plain=True),
    "a tag of another form": Asked(body={"tags": ["no tag"]}, status=422),
    "tags that are no list": Asked(body={"tags": "nightly"}, status=422),
    "too many tags": Asked(body={"tags": [f"t{n}" for n in range(21)]}, status=422),
    "a run without a body": Asked(is_plain=True),
    "runs": Asked(body=[{"triggerData": {"a": 1}}, {}, {"userId": "u"}], is_plain=True),
    "runs of which one is delayed": Asked(body=[{}, {"delay": "1h"}]),
    "runs of which one is wrong": Asked(body=[{}, {"priority": "sometime"}], status=422),
    "no runs": Asked(body=[], status=422),
    "a page's type": Asked(body={}, headers=(("content-type", "application/x-www-form-urlencoded"),), is_plain=True),
    "over TLS": Asked(body={}, scheme="https", is_plain=True),
    "a proxy's word": Asked(body={}, headers=(("x-forwarded-proto", "https"),), is_plain=True),
    "a priority": Asked(body={"priority": 1}),
    "a delay": Asked(body={"delay": "1h"}),
    "a key of its own": Asked(body={"idempotencyKey": "a"}, once=True),
    "an unknown field": Asked(body={"data": 1}, status=422),
    "a long user": Asked(body={"userId": "u" * 201}, status=422),
    "a user with a NUL": Asked(body={"userId": "u\0"}, status=422),
    "a NUL": Asked(body={"triggerData": "a\0"}, status=422),
    "half a letter": Asked(body=b'{"triggerData": "\\ud800"}', status=422),
    "no number": Asked(body=b'{"triggerData": NaN}', status=422),
    "too deep": Asked(body={"triggerData": [[DEEP]]}, status=422),
    "too large an input": Asked(body={"triggerData": "x" * 600_000}, status=413),
    "too large": Asked(body={"triggerData": "x" * (9 * 1024 * 1024)}, status=413),
    "no JSON": Asked(body=b"{", status=400),
    "null": Asked(body=b"null"),
    "a text": Asked(body='"a"', status=422),
    "chunked": Asked(body={"triggerData": {"a": 1}}, chunks=3),
    "no key": Asked(key=None, status=401),
    "an unknown key": Asked(key="hr_api_unknown", status=401),
    "a revoked key": Asked(key="{revoked}", status=401),
    "an event's key": Asked(key="{event}", status=401),
    "two keys": Asked(headers=(("authorization", "Bearer {other}"),), status=401),
    "another organization's key": Asked(key="{other}", status=404),
    "another scheme": Asked(key=None, headers=(("authorization", "Basic {api}"),), status=401),
    "a scheme in capitals": Asked(key=None, headers=(("authorization", "BEARER {api}"),)),
    "a browser's session": Asked(body={}, headers=(("cookie", "sessionid=abc"),)),
    "a browser's session only": Asked(body={}, key=None, headers=(("cookie", "sessionid=abc"),), status=401),
    "another site's page": Asked(body={}, headers=(("origin", "https://evil.example"),), is_plain=True),
    "a bad host": Asked(body={}, host="evil.example", status=400),
    "no host": Asked(body={}, host=None),
    "two hosts": Asked(body={}, headers=(("host", "localhost"),), status=400),
    "a NUL in a header": Asked(body={}, headers=(("x-a", "a\0"),), status=400),
    "a GET": Asked(method="GET", status=405),
    "a query": Asked(body={}, query="a=1", status=422),
    "an unknown flow": Asked(path="/api/workflows/nothing/run", body={}, status=404),
    "a paused flow": Asked(path="/api/workflows/paused/run", body={}, status=409),
    "an archived flow": Asked(path="/api/workflows/archived/run", body={}, status=409),
    "what fits a schema": Asked(path="/api/workflows/formed/run", body={"triggerData": {"n": 1}}, is_plain=True),
    "what fits no schema": Asked(path="/api/workflows/formed/run", body={"triggerData": {}}, status=422),
    "a flow with controls": Asked(path="/api/workflows/single/run", body={}, once=True),
    "a slug of other letters": Asked(path="/api/workflows/ünknown/run", body={}, status=404),
    "one event": event(is_plain=True),
    "an event with all": event(
        body={"name": "test/made", "data": {"a": 1}, "user": {"id": 1}, "id": "x", "ts": 1_700_000_000_000},
        is_plain=True,
    ),
    "events": event(body=[{"name": "test/made", "data": {"n": n}} for n in range(100)], is_plain=True),
    "no events": event(body=[], status=400),
    "too many events": event(body=[{"name": "a"}] * 5_001, status=400),
    "an event without a name": event(body={"data": {}}, status=400),
    "events of which one is wrong": event(body=[{"name": "a"}, {"name": ""}], status=400),
    "a system event": event(body={"name": "headrace/x"}, status=400),
    "an event with a NUL": event(body={"name": "a", "data": {"a": "\0"}}, status=422),
    "an event of no JSON": event(body=b"", status=400),
    "an event that fits its schema": event(body={"name": "formed", "data": {"n": 1}}),
    "an event that fits no schema": event(body={"name": "formed"}, status=400),
    "a large event": event(body={"name": "a", "data": {"a": "x" * 200_000}}, is_plain=False),
    "too large an event": event(body={"name": "a", "data": {"a": "x" * 600_000}}, status=413),
    "too deep an event": event(body={"name": "a", "data": {"a": [DEEP]}}, status=422),
    "an unknown event key": event(path="/e/unknown", host="127.0.0.1", status=401),
    "a revoked event key": event(path="/e/{revoked_event}", status=401),
    "an API key for an event": event(path="/e/{api}", status=401),
    "a GET of an event": event(method="GET", status=405),
    "an event for a bad host": event(host="evil.example", status=400),
    "an event in parts": event(chunks=4),
}  # fmt: skip


@pytest.fixture
def keys(org: Organization, other: Organization, settings: Any) -> dict[str, str]:
    """An organization with flows for every request of the table, and keys of all kinds."""
    settings.HEADRACE = {"INNGEST_DEV": False}
    publish(org, NOOP)
    publish(org, NOOP, slug="paused")
    publish(org, NOOP, slug="archived")
    publish(org, NOOP, slug="single", singleton={"mode": "skip"})
    schema = {"type": "object", "required": ["n"]}
    publish(org, NOOP, slug="formed", input_schema=schema)
    Flow.objects.filter(organization=org, slug="paused").update(skips_arrivals=True)
    Flow.objects.filter(organization=org, slug="archived").update(archived_at=timezone.now())
    EventSchema.objects.create(organization=org, name="formed", schema=schema)
    issued = {
        "api": AccessKey.issue(org, AccessKey.Kind.API, "test")[1],
        "event": AccessKey.issue(org, AccessKey.Kind.EVENT, "test")[1],
        "other": AccessKey.issue(other, AccessKey.Kind.API, "test")[1],
        "revoked": AccessKey.issue(org, AccessKey.Kind.API, "gone")[1],
        "revoked_event": AccessKey.issue(org, AccessKey.Kind.EVENT, "gone")[1],
    }
    AccessKey.objects.filter(organization=org, name="gone").update(revoked_at=timezone.now())
    return issued


@pytest.mark.parametrize("name", TABLE)
def test_both_ways_answer_the_same(keys: dict[str, str], name: str) -> None:
    asked = TABLE[name]
    with nobody_dispatches():
        ours, theirs, asked_django = by_both(asked, keys)
    assert ours.status == asked.status, ours.body
    if asked.once:
        assert (ours.status, json.loads(ours.body)["runId"]) == (theirs.status, json.loads(theirs.body)["runId"])
    else:
        assert ours.without_ids == theirs.without_ids
    assert asked_django is not asked.is_plain


def test_what_the_short_way_stores_is_what_django_stores(org: Organization, keys: dict[str, str]) -> None:
    data = {"name": "test/made", "data": {"a": ["ü", 1.5]}, "user": {"id": 7}, "id": "x", "ts": 1_700_000_000_000}
    with nobody_dispatches():
        by_both(event(body=data), keys)
        by_both(Asked(body={"triggerData": {"a": ["ü", 1.5]}, "userId": "u1", "tags": ["b", "a"]}), keys)
    of_events = [name for name in _names(Event) if name not in {"id", "received_at", "matched_at", "unheard"}]
    of_runs = [name for name in _names(Run) if name not in {"id", "created_at", "timeout_at"}]
    ours, theirs = Event.objects.filter(org_id=org.id).order_by("id").values(*of_events)
    assert ours == theirs
    ours, theirs = Run.objects.filter(org_id=org.id).order_by("id").values(*of_runs)
    assert ours == theirs


def _names(model: Any) -> list[str]:
    return [each.name for each in model._meta.concrete_fields]


def test_a_key_that_is_revoked_and_a_flow_that_is_paused_are_refused_by_the_next_request(
    org: Organization, keys: dict[str, str]
) -> None:
    flow = Flow.objects.filter(organization=org, slug="flow")
    with nobody_dispatches():
        assert by_both(Asked(), keys)[0].status == 202
        flow.update(skips_arrivals=True)
        assert json.loads(by_both(Asked(), keys)[0].body)["code"] == "flow_paused"
        flow.update(skips_arrivals=False)
        Organization.objects.filter(id=org.id).update(skips_arrivals=True)
        assert by_both(Asked(), keys)[0].status == 409
        Organization.objects.filter(id=org.id).update(skips_arrivals=False)
        assert by_both(Asked(), keys)[0].status == 202
        assert by_both(event(), keys)[0].status == 200
        AccessKey.objects.filter(organization=org, name="test").update(revoked_at=timezone.now())
        before = Run.objects.filter(org_id=org.id).count(), Event.objects.filter(org_id=org.id).count()
        assert by_both(Asked(), keys)[0].status == by_both(event(), keys)[0].status == 401
    assert before == (Run.objects.filter(org_id=org.id).count(), Event.objects.filter(org_id=org.id).count())


def test_the_next_request_starts_the_version_that_was_published_before_it(
    org: Organization, keys: dict[str, str]
) -> None:
    with nobody_dispatches():
        for number in range(2, 6):
            publish(org, [{"id": "a", "type": "noop", "config": {"output": number}}])
            ours, _, asked_django = by_both(Asked(), keys)
            assert not asked_django
            assert Run.objects.get(id=json.loads(ours.body)["runId"]).version.number == number


def test_requests_that_come_while_one_is_written_are_written_by_one_statement(
    org: Organization, keys: dict[str, str]
) -> None:
    writer, count = plain_runs.writer(), 40
    front, statements = Front(DJANGO, HEADERS), database.counter().by_name

    async def all_of_them() -> list[Answer]:
        before = statements.get("insert_runs", 0)
        with database.connect() as locker, locker.transaction():
            locker.execute("LOCK TABLE headrace_workflows_run IN ACCESS EXCLUSIVE MODE")
            first = asyncio.ensure_future(one(front, Asked(), keys))
            while statements.get("insert_runs", 0) == before:
                await asyncio.sleep(0.01)
            rest = [asyncio.ensure_future(one(front, Asked(), keys)) for _ in range(count)]
            while len(writer._waiting) < count:
                await asyncio.sleep(0.01)
        answers = await asyncio.gather(first, *rest)
        assert statements["insert_runs"] - before == 2
        return answers

    with nobody_dispatches():
        assert by_both(Asked(), keys)[0].status == 202  # so that the version is known
        answers = asyncio.run(all_of_them())
    assert len({json.loads(answer.body)["runId"] for answer in answers}) == count + 1
    assert {answer.status for answer in answers} == {202}


def test_what_is_too_much_for_the_short_way_goes_the_long_one(
    org: Organization, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_BYTES", 10)
    ours, _, asked_django = by_both(Asked(body={"triggerData": {"a": "more than that"}}), keys)
    assert (ours.status, asked_django) == (202, True)


def test_what_is_too_much_for_both_ways_is_refused_for_now(
    org: Organization, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_WAITING", 0)
    full = Front(ThreadHandler(threads=1, middlewares=HEADERS, most_open=0), HEADERS)
    for asked in (Asked(), event()):
        answer = asyncio.run(one(full, asked, keys))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert json.loads(answer.body)["code"] == "overloaded"


def test_a_group_whose_connection_is_lost_is_stored_or_says_that_nobody_knows(
    org: Organization, keys: dict[str, str]
) -> None:
    """Over and over: the connection is ended while the statement waits for a lock. What is answered is stored."""
    for _ in range(3):
        answers = asyncio.run(_cut_off(keys))
        ids = [json.loads(answer.body)["runId"] for answer in answers if answer.status == 202]
        assert {answer.status for answer in answers} <= {202, 503}
        assert Run.objects.filter(id__in=[uuid.UUID(id_) for id_ in ids]).count() == len(ids)


async def _cut_off(keys: dict[str, str]) -> list[Answer]:
    front = Front(DJANGO, HEADERS)
    with database.connect() as locker, locker.transaction():
        locker.execute("LOCK TABLE headrace_workflows_run IN ACCESS EXCLUSIVE MODE")
        asked = [asyncio.ensure_future(one(front, Asked(), keys)) for _ in range(5)]
        cut = 0
        while not cut:
            await asyncio.sleep(0.01)
            locker.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees what it saw first
            row: Any = locker.execute(WAITERS).fetchone()
            cut = row[0]
    return list(await asyncio.gather(*asked))


def test_events_are_matched_after_the_answer(org: Organization, keys: dict[str, str]) -> None:
    publish(org, NOOP, slug="hears", on=[{"event": "test/heard"}])
    heard, _, asked_django = by_both(event(body=[{"name": "test/heard"}, {"name": "test/unheard"}]), keys)
    assert not asked_django
    first, second = json.loads(heard.body)["ids"]
    await_that(lambda: Event.objects.filter(id__in=[first, second]).exclude(matched_at=None).count() == 2)
    assert Run.objects.filter(org_id=org.id, event_id=first).count() == 1
    assert Event.objects.get(id=second).unheard


def test_many_runs_are_made_or_none(org: Organization, keys: dict[str, str]) -> None:
    with nobody_dispatches():
        asked = Asked(body=[{"idempotencyKey": "a"}, {"idempotencyKey": "a", "triggerData": 1}, {"priority": "high"}])
        body = json.loads(asyncio.run(one(Front(DJANGO, HEADERS), asked, keys)).body)
        assert (len(body["runIds"]), len(set(body["runIds"]))) == (3, 2)
        wrong = Asked(body=[{"idempotencyKey": "b"}, {"triggerData": "x" * 600_000}])
        assert asyncio.run(one(Front(DJANGO, HEADERS), wrong, keys)).status == 413
    assert Run.objects.filter(org_id=org.id).count() == 2
    assert services.trigger(org, "flow", idempotency_key="b").existing is False
