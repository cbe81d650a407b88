"""Two hundred streams of one web process: what they hold, what they are refused, and what stays when they are cut."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from tests.support.web import Stream, Web
from tests.support.workers import await_that, publish
from workflows import services
from workflows.models import AccessKey, Organization, Run


@pytest.fixture(scope="module")
def web(live_db: None, worker_environment: dict[str, str]) -> Iterator[Web]:
    started = Web(worker_environment)
    yield started
    started.stop()


@pytest.fixture
def opened(web: Web) -> Iterator[list[Stream]]:
    """Streams that are cut at the end; the next test finds all places free."""
    streams: list[Stream] = []
    files = web.files
    yield streams
    for stream in streams:
        stream.cut()
    await_that(lambda: web.files <= files + 10, 20, "the sockets to be closed")


def keys_of(organization: Organization, count: int) -> list[str]:
    return [AccessKey.issue(organization, AccessKey.Kind.API, f"k{number}")[1] for number in range(count)]


def connect(web: Web, key: str) -> Stream:
    return Stream(web.port, "/api/stream", {"Authorization": f"Bearer {key}"})


def seconds_of_requests(web: Web, key: str, count: int = 20) -> list[float]:
    """How long other requests take; each must succeed."""
    taken = []
    with httpx.Client(base_url=web.address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        for _ in range(count):
            started = time.monotonic()
            answer = client.get("/api/runs")
            taken.append(time.monotonic() - started)
            assert answer.status_code == 200, answer.text
    return taken


def test_streams_hold_no_connection_while_they_wait(
    web: Web, opened: list[Stream], org: Organization, api_key: str
) -> None:
    opened.extend(connect(web, key) for key in keys_of(org, 2) for _ in range(6))
    assert [stream.open() for stream in opened] == [200] * 12
    assert max(seconds_of_requests(web, api_key)) < 5  # for want of a connection they fail after 10 s


def test_two_hundred_are_served_cut_and_opened_again(
    web: Web, opened: list[Stream], org: Organization, other: Organization, api_key: str
) -> None:
    before, threads = statistics.median(seconds_of_requests(web, api_key)), web.threads
    keys = [key for organization in (org, other) for key in keys_of(organization, 5)]
    for key in keys:
        some = [connect(web, key) for _ in range(20)]
        opened.extend(some)
        assert {stream.open() for stream in some} == {200}
    stranger = Organization.objects.create(slug=f"s-{org.slug}", name="Stranger")
    refused = connect(web, keys_of(stranger, 1)[0])
    opened.append(refused)
    assert refused.open() == 429
    refused.until(b'"code": "too_many_streams"')
    assert b"retry-after: " in refused.heard.lower()
    during = statistics.median(seconds_of_requests(web, api_key))
    assert during < max(0.2, 3 * before), (during, before)
    assert web.connections <= 8
    await_that(lambda: web.threads <= threads + 10, 20, f"no thread a stream ({web.threads}, before {threads})")

    files = web.files
    half, kept = opened[:200:2], opened[1:200:2]
    for stream in half:
        stream.cut()
    await_that(lambda: web.files <= files - 90, 20, "the sockets of the half to be closed")
    again = [connect(web, key) for key in keys for _ in range(10)]
    assert [stream.open() for stream in again] == [200] * 100
    opened[:] = [*kept, refused, *again]
    seconds_of_requests(web, api_key)
    assert web.connections <= 8
    await_that(lambda: web.threads <= threads + 10, 20, "no thread is left over")
    one_more = connect(web, keys[0])
    opened.append(one_more)
    assert one_more.open() == 429


def test_a_key_has_twenty_streams_and_an_organization_half_of_all(
    web: Web, opened: list[Stream], org: Organization
) -> None:
    keys = keys_of(org, 6)
    for key in keys[:5]:
        opened.extend(connect(web, key) for _ in range(20))
    assert {stream.open() for stream in opened} == {200}
    by_key, by_organization = connect(web, keys[0]), connect(web, keys[5])
    opened += [by_key, by_organization]
    assert (by_key.open(), by_organization.open()) == (429, 429)
    by_key.until(b"20 streams")
    by_organization.until(b"100 streams")
    opened.pop(0).cut()

    def is_open() -> bool:
        opened.append(connect(web, keys[5]))
        return opened[-1].open() == 200

    await_that(is_open, 20, "the place of the stream that was cut")


def test_a_revoked_key_ends_its_streams_and_no_others(web: Web, opened: list[Stream], org: Organization) -> None:
    revoked, kept = keys_of(org, 2)
    opened += [connect(web, revoked), connect(web, kept)]
    assert [stream.open() for stream in opened] == [200, 200]
    AccessKey.objects.filter(digest=AccessKey.digest_of(revoked)).update(revoked_at=timezone.now())
    opened[0].until_its_end()
    with pytest.raises(TimeoutError):
        opened[1].read_for(1.0)
    again = connect(web, revoked)
    opened.append(again)
    assert again.open() == 401


@pytest.mark.parametrize("how", ["logs out", "changes the password", "is deactivated"])
def test_a_session_that_ends_ends_its_streams(web: Web, opened: list[Stream], tenant: Organization, how: str) -> None:
    user = get_user_model().objects.create_superuser(f"u-{tenant.slug}", password="correct horse")
    client = Client()
    client.force_login(user)
    stream = Stream(web.port, "/api/stream", {"Cookie": f"sessionid={client.cookies['sessionid'].value}"})
    opened.append(stream)
    assert stream.open() == 200
    if how == "logs out":
        client.logout()
    elif how == "changes the password":
        user.set_password("battery staple")
        user.save()
    else:
        get_user_model().objects.filter(pk=user.pk).update(is_active=False)
    stream.until_its_end()


def test_open_streams_do_not_keep_the_web_from_stopping(worker_environment: dict[str, str], api_key: str) -> None:
    web = Web(worker_environment)
    try:
        stream = connect(web, api_key)
        assert stream.open() == 200
    finally:
        took_s = web.stop()
    stream.until_its_end()
    stream.close()
    assert took_s < 11  # supervisor kills it then


def test_clients_that_do_not_read_a_large_answer_hold_nothing(
    web: Web, opened: list[Stream], org: Organization, api_key: str
) -> None:
    """The same kind: what has been decided is sent without a connection and without a thread."""
    run_id = services.trigger(org, publish(org, [{"id": "a", "type": "noop"}])).run_ids[0]
    Run.objects.filter(id=run_id).update(input={"large": "x" * 12_000_000})
    threads = web.threads
    for _ in range(12):
        stalled = Stream(web.port, f"/api/runs/{run_id}", {"Authorization": f"Bearer {api_key}"})
        opened.append(stalled)
        stalled.until(b"\r\n\r\n")
        assert b" 200 " in stalled.heard
    assert max(seconds_of_requests(web, api_key)) < 5
    assert web.connections <= 8
    await_that(lambda: web.threads <= threads + 4, 20, "no thread is left over")


@pytest.fixture
def tenant(live_db: None) -> Iterator[Organization]:
    """The organization that the dashboard shows: the oldest."""
    made = Organization.objects.create(slug=f"first-{uuid.uuid4().hex[:6]}", name="First")
    Organization.objects.filter(id=made.id).update(created_at="2000-01-01T00:00:00Z")
    yield made
    Organization.objects.filter(id=made.id).update(created_at="2100-01-01T00:00:00Z")
