"""One look serves all streams of a process: what it costs, who shares it, who is cut, and that it ends with the last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services, this_process
from workflows.api.streams.front import Front
from workflows.api.streams.places import IN_ALL, PER_HOLDER, PER_ORGANIZATION, Places
from workflows.api.streams.routes import SLOT, Ticket
from workflows.edge import redaction
from workflows.errors import TooManyStreams
from workflows.models import AccessKey, Organization
from workflows.streams import hub as stream_hub
from workflows.streams.changes import OrganizationStream, RunStream
from workflows.streams.holders import Holder, revoked
from workflows.streams.hub import QUEUE_BYTES, RETRY, Hub, Subscription


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    await_that(lambda: not made.is_looking, what="the end of the hub's thread")


@pytest.fixture
def holder(org: Organization, api_key: str) -> Holder:
    key = AccessKey.objects.get(digest=AccessKey.digest_of(api_key))
    return Holder(kind="key", id=str(key.id), org_id=org.id)


class Listener:
    """A reader that takes what comes."""

    def __init__(self, hub: Hub, source: stream_hub.Source, holder: Holder) -> None:
        self._woken = threading.Event()
        self.hub, self.heard, self.is_over = hub, b"", False
        self.subscription = hub.follow(source, holder, self._woken.set)

    def hears(self, text: bytes) -> bool:
        chunk, self.is_over = self.subscription.take()
        self.heard += chunk
        return text in self.heard

    def leave(self) -> None:
        self.hub.leave(self.subscription)


def test_a_look_for_fifty_streams_takes_as_many_statements_as_for_one(
    org: Organization, other: Organization, workers: WorkerPool, holder: Holder
) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop"}])
    runs = [services.trigger(org, slug).run_ids[0] for _ in range(10)]
    for run_id in runs:
        await_end(org, run_id)

    def statements(readers: int) -> int:
        hub = Hub()
        hub._thread = threading.current_thread()  # looks are made here
        hub._rechecked = float("inf")
        sources: list[stream_hub.Source] = []
        for number in range(readers):
            sources.append(RunStream.open(org, runs[number % 10]))
            sources.append(OrganizationStream.open(org if number % 2 else other, "1"))
        subscriptions = [hub.follow(source, holder, lambda: None) for source in sources]
        assert hub._admit()
        redaction.are_there_any()  # it is asked for once in some seconds
        with CaptureQueriesContext(connection) as captured:
            hub._hand_out(hub._readers)
        heard = [each.take()[0] for each in subscriptions]
        assert all(b"run-status" in each for each in heard[::2])
        assert all(b"run-status" in each for each in heard[3::4])
        return len(captured)

    statements(2)  # the rules of both organizations, where any has some, are read once in some seconds
    assert statements(25) <= statements(2) <= 12
    connections.close_all()


def test_streams_of_one_organization_share_a_source_once_they_have_caught_up(
    org: Organization, workers: WorkerPool, holder: Holder, hub: Hub
) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}])
    early = services.trigger(org, slug).run_ids[0]
    await_end(org, early)
    first = Listener(hub, OrganizationStream.open(org), holder)
    late = Listener(hub, OrganizationStream.open(org, "1"), holder)
    await_that(lambda: late.hears(str(early).encode()), what="what the late one has missed")
    await_that(lambda: len(hub._readers) == 1, what="one source for both")
    run_id = services.trigger(org, slug).run_ids[0]
    for each in (first, late):
        await_that(partial(each.hears, str(run_id).encode()), what="the run")
        await_that(partial(each.hears, b"run-status"), what="its end")
    await_end(org, run_id)
    for each in (first, late):
        each.leave()


def test_nothing_is_looked_at_while_nobody_listens(org: Organization, holder: Holder, hub: Hub) -> None:
    listener = Listener(hub, OrganizationStream.open(org), holder)
    await_that(lambda: hub.looks > 1, what="looks")
    listener.leave()
    await_that(lambda: not hub.is_looking, what="the end of the thread")
    assert hub.subscriptions == 0
    again = Listener(hub, OrganizationStream.open(org), holder)
    looks = hub.looks
    await_that(lambda: hub.looks > looks, what="looks again")
    again.leave()


def test_a_reader_that_does_not_read_is_cut_and_told_to_come_back(holder: Holder) -> None:
    woken = threading.Event()
    slow = Subscription(holder, woken.set)
    slow.put(b"x" * (QUEUE_BYTES + 1))  # one look is always taken: a first one may be large
    assert slow.take() == (b"x" * (QUEUE_BYTES + 1), False)
    slow.put(b"x" * QUEUE_BYTES)
    slow.put(b"y")
    assert woken.is_set()
    assert slow.take() == (RETRY, True)
    slow.put(b"z")
    assert slow.take() == (b"", True)


def test_a_source_that_can_not_be_told_is_cut_alone(
    org: Organization, workers: WorkerPool, holder: Holder, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    slug = publish(org, [{"id": "a", "type": "noop"}])
    bad, good = (services.trigger(org, slug).run_ids[0] for _ in range(2))
    take = RunStream.take

    def poisoned(self: RunStream, rows, attempts):  # type: ignore[no-untyped-def]
        if self.run_id == bad:
            raise ValueError("poison")
        return take(self, rows, attempts)

    monkeypatch.setattr(RunStream, "take", poisoned)
    cut, served = (Listener(hub, RunStream.open(org, run_id), holder) for run_id in (bad, good))
    await_that(lambda: served.hears(b"event: end"), what="the end of the good one")
    await_that(lambda: cut.hears(b"retry") and cut.is_over, what="the cut")
    assert b"event" not in cut.heard
    for each in (cut, served):
        each.leave()


def test_postgres_that_goes_away_while_the_bad_one_is_sought_cuts_nobody(
    org: Organization, workers: WorkerPool, holder: Holder, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = services.trigger(org, publish(org, [{"id": "a", "type": "noop"}])).run_ids[0]
    errors = iter([ValueError("poison"), psycopg.OperationalError("the connection is lost")])
    hand_out = Hub._hand_out

    def fails_at_first(self: Hub, readers):  # type: ignore[no-untyped-def]
        if error := next(errors, None):
            raise error
        hand_out(self, readers)

    monkeypatch.setattr(Hub, "_hand_out", fails_at_first)
    listener = Listener(hub, RunStream.open(org, run_id), holder)
    await_that(lambda: listener.hears(b"event: end"), what="the end of the run")
    assert RETRY not in listener.heard
    listener.leave()


@pytest.mark.parametrize("status", [500, 503, 302])
def test_an_answer_that_a_middleware_has_replaced_begins_no_stream(
    org: Organization, holder: Holder, status: int
) -> None:
    sent: list[Any] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        scope[SLOT].ticket = Ticket(source=OrganizationStream.open(org), holder=holder)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"no", "more_body": False})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/api/stream", "query_string": b"", "headers": []}
    asyncio.run(Front(django)(scope, receive, send))
    assert [message.get("body", message.get("status")) for message in sent] == [status, b"no"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_cuts_its_streams_and_the_next_one_starts_another(
    org: Organization, holder: Holder, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Hub, "_hand_out", lambda *_: (_ for _ in ()).throw(MemoryError()))
        patched.setattr(Hub, "_look_one_by_one", lambda *_: (_ for _ in ()).throw(SystemExit()))
        listener = Listener(hub, OrganizationStream.open(org), holder)
        await_that(lambda: listener.hears(b"retry") and listener.is_over, what="the cut")
    again = Listener(hub, OrganizationStream.open(org), holder)
    looks = hub.looks
    await_that(lambda: hub.looks > looks + 1, what="looks")
    again.leave()


def test_places_are_bounded_by_holder_by_organization_and_in_all() -> None:
    places = Places()
    orgs = [uuid4(), uuid4(), uuid4()]

    def holder_of(org: int, number: int) -> Holder:
        return Holder(kind="key", id=f"{org}.{number}", org_id=orgs[org])

    taken = [
        places.take(holder_of(org, number // PER_HOLDER)) for org in range(2) for number in range(PER_ORGANIZATION)
    ]
    assert places.taken == IN_ALL
    with pytest.raises(TooManyStreams, match="This key has 20"):
        places.take(holder_of(0, 0))
    with pytest.raises(TooManyStreams, match="organization has 100"):
        places.take(holder_of(0, 99))
    with pytest.raises(TooManyStreams, match="serves 200"):
        places.take(holder_of(2, 0))
    for place in taken:
        place.release()
        place.release()
    assert (places.taken, len(places._taken)) == (0, 0)


def test_a_server_with_threads_gives_the_place_back_however_the_stream_ends(
    org: Organization, api_key: str, live_db: None
) -> None:
    client = Client(headers={"Authorization": f"Bearer {api_key}"})
    never_begun = client.get("/api/stream")
    begun = client.get("/api/stream")
    assert next(iter(begun)) == RETRY
    places, hub = this_process.own(Places), this_process.own(Hub)
    assert places.taken == 2
    more = [client.get("/api/stream") for _ in range(PER_HOLDER)]
    assert [each.status_code for each in more].count(429) == 2
    for each in (never_begun, begun, begun, *more):
        each.close()
    assert places.taken == 0
    await_that(lambda: hub.subscriptions == 0 and not hub.is_looking, what="nothing to look at")


def test_holders_are_told_apart(org: Organization, other: Organization, holder: Holder) -> None:
    stranger = Holder(kind="key", id=str(uuid4()), org_id=other.id)
    nobody = Holder(kind="session", id="x" * 32, org_id=other.id)
    assert revoked({holder, stranger, nobody}) == {stranger, nobody}
