"""OAuth tokens outlive a worker, are shared by all, and are renewed by one of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from tests.integration.http.test_outbound_state import call, keep_secret, oauth
from tests.support import peer as peers
from tests.support.peer import Peer
from tests.support.poison import failing_at_first
from tests.support.workers import WorkerPool, await_end, await_that, by_key, publish
from workflows import services
from workflows.models import OAuthCredential, Organization
from workflows.steps.http import oauth as tokens
from workflows.steps.http.oauth import OAuth, Token, TokenRefused, Tokens
from workflows.steps.masking import Secrets


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peers.serve() as running:
        running.refresh_tokens = {"first-refresh-token"}
        yield running


def refreshing(peer: Peer, **more: Any) -> dict[str, Any]:
    return oauth(peer, grant="refresh_token", refresh_token="${ secrets.REFRESH }", **more)


def use(org: Organization, peer: Peer, **more: Any) -> dict[str, Any]:
    step = call(org, refreshing(peer), kind="oauth_api_call", **more)
    assert step.step_run.status == "completed", step.attempts[-1].error
    return dict(step.step_run.output["body"])


def spent(peer: Peer) -> list[str]:
    return [asked.form["refresh_token"] for asked in peer.of("/token")]


def test_a_rotated_refresh_token_outlives_its_worker(org: Organization, own_workers: WorkerPool, peer: Peer) -> None:
    keep_secret(org, "REFRESH", "first-refresh-token")
    peer.lifetime_s = 0.001
    for _ in range(2):
        process = own_workers.start("io")
        own_workers.await_ready(1)
        use(org, peer)
        own_workers.kill(process)
    assert spent(peer) == ["first-refresh-token", "rotated-refresh-1"]
    row = OAuthCredential.objects.get(organization=org)
    assert b"rotated" not in bytes(row.refresh_token or b"")
    assert b"fetched" not in bytes(row.access_token or b"")


def test_two_workers_spend_a_refresh_token_once(org: Organization, own_workers: WorkerPool, peer: Peer) -> None:
    keep_secret(org, "REFRESH", "first-refresh-token")
    own_workers.start("io")
    own_workers.start("io")
    own_workers.await_ready(2)
    peer.held.clear()
    step = {"id": "a", "type": "oauth_api_call", "config": refreshing(peer), "retry": {"attempts": 1}}
    slug = publish(org, [step])
    runs = [services.trigger(org, slug).run_ids[0] for _ in range(24)]
    await_that(lambda: peer.of("/token"), what="a renewal")
    peer.held.set()
    for run_id in runs:
        step_ = by_key(await_end(org, run_id))["a"]
        assert step_.step_run.status == "completed", step_.attempts[-1].error
    assert spent(peer) == ["first-refresh-token"]


@pytest.mark.usefixtures("workers")
def test_a_refresh_token_that_is_set_anew_wins(org: Organization, peer: Peer) -> None:
    peer.lifetime_s = 0.001
    peer.refresh_tokens.add("second-refresh-token")
    for configured in ("first-refresh-token", "first-refresh-token", "second-refresh-token", "second-refresh-token"):
        config = oauth(peer, grant="refresh_token", refresh_token=configured)
        assert call(org, config, kind="oauth_api_call").step_run.status == "completed"
    assert spent(peer) == ["first-refresh-token", "rotated-refresh-1", "second-refresh-token", "rotated-refresh-3"]


@pytest.mark.usefixtures("workers")
def test_a_stored_token_that_is_refused_gives_way_to_the_configured_one(org: Organization, peer: Peer) -> None:
    peer.lifetime_s = 0.001
    keep_secret(org, "REFRESH", "first-refresh-token")
    use(org, peer)
    peer.refresh_tokens = {"first-refresh-token"}
    use(org, peer)
    use(org, peer)
    assert spent(peer) == ["first-refresh-token", "rotated-refresh-1", "first-refresh-token", "rotated-refresh-2"]


@pytest.mark.usefixtures("workers")
def test_a_renewal_is_stored_although_its_step_has_timed_out(org: Organization, peer: Peer) -> None:
    keep_secret(org, "REFRESH", "first-refresh-token")
    peer.held.clear()
    step = call(org, refreshing(peer), kind="oauth_api_call", timeout="300ms")
    assert step.step_run.status == "failed"
    peer.held.set()
    await_that(lambda: OAuthCredential.objects.get(organization=org).generation == 1, what="the stored token")
    assert use(org, peer)["headers"]["authorization"] == "Bearer ***"
    assert spent(peer) == ["first-refresh-token"]


@pytest.mark.usefixtures("workers")
def test_a_refused_refresh_token_fails_once_and_leaves_no_lease(org: Organization, peer: Peer) -> None:
    keep_secret(org, "REFRESH", "worn-out-refresh-token")
    step = call(org, refreshing(peer), kind="oauth_api_call")
    assert (step.step_run.status, step.attempts[-1].error["category"]) == ("failed", "auth")
    row = OAuthCredential.objects.get(organization=org)
    assert (row.lease, row.refresh_token, row.generation) == (None, None, 0)


# --- the statements -------------------------------------------------------------------------------------------------


def test_one_worker_renews_and_a_late_one_changes_nothing(org: Organization) -> None:
    key, first, second = (org.id, "identity"), uuid4(), uuid4()
    mine = tokens._claim(key, first, "")
    assert (mine.mine, mine.token, mine.generation) == (True, None, 0)
    assert tokens._claim(key, second, "").mine is False
    OAuthCredential.objects.filter(organization=org).update(leased_until="2020-01-01T00:00:00Z")
    taken = tokens._claim(key, second, "")
    assert (taken.mine, taken.generation) == (True, 0)
    tokens._store(key, taken.generation, Token(value="access-2", good_s=60.0), "refresh-2")
    tokens._store(key, mine.generation, Token(value="access-1", good_s=60.0), "refresh-1")
    found = tokens._claim(key, first, "")
    assert found.token is not None
    assert (found.mine, found.token.value, found.refresh_token) == (False, "access-2", "refresh-2")
    stale = tokens._claim(key, first, tokens._keyed("access-2"))
    assert (stale.mine, stale.token) == (True, None)
    tokens._release(key, first, refused=True)
    assert tokens._claim(key, second, tokens._keyed("access-2")).refresh_token is None


# --- this process's memory ------------------------------------------------------------------------------------------


def _refreshing() -> OAuth:
    return OAuth(
        token_url="https://auth.example.com/token", client_id="c", grant="refresh_token", refresh_token="first"
    )


def _renew(holder: Tokens, org: Organization, asked: list[str | None]) -> str:
    async def fetch(refresh_token: str | None) -> Token:
        asked.append(refresh_token)
        return Token(value=f"access-token-{len(asked)}", good_s=60, refresh_token=f"rotated-{len(asked)}")

    return asyncio.run(holder.get(org.id, _refreshing(), fetch, Secrets()))


@pytest.mark.parametrize("condition", ["admin_shutdown", "deadlock_detected"])
def test_a_rotated_refresh_token_is_stored_once_postgres_answers_again(
    org: Organization, live_db: None, condition: str
) -> None:
    """The server takes the old one no more: what it gave instead must not be lost."""
    asked: list[str | None] = []
    with failing_at_first("headrace_workflows_oauthcredential", "generation", condition, 2):
        assert _renew(Tokens(), org, asked) == "access-token-1"
    row = OAuthCredential.objects.get(organization=org)
    assert (row.generation, row.lease) == (1, None)
    OAuthCredential.objects.filter(id=row.id).update(expires_at=timezone.now())
    assert _renew(Tokens(), org, asked) == "access-token-2"
    assert asked == ["first", "rotated-1"]


def test_an_access_token_is_used_although_it_can_t_be_stored(
    org: Organization, live_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LEASE_S", 1.0)
    asked: list[str | None] = []
    holder = Tokens()
    with failing_at_first("headrace_workflows_oauthcredential", "generation", "admin_shutdown", 10_000):
        assert _renew(holder, org, asked) == "access-token-1"
        assert _renew(holder, org, asked) == "access-token-1"
    assert asked == ["first"]


def test_those_that_wait_for_a_renewal_write_nothing(org: Organization, live_db: None) -> None:
    key = (org.id, tokens._keyed("waiting"))
    assert tokens._claim(key, uuid4(), "").mine
    before = OAuthCredential.objects.get(organization=org)
    assert not tokens._claim(key, uuid4(), "").mine
    tokens._store(key, 0, Token(value="fetched", good_s=60), None)
    stored = OAuthCredential.objects.get(organization=org)
    claim = tokens._claim(key, uuid4(), "")
    assert (claim.mine, claim.token is not None and claim.token.value) == (False, "fetched")
    assert before.used_at < stored.used_at == OAuthCredential.objects.get(organization=org).used_at
    assert tokens._claim(key, uuid4(), tokens._keyed("fetched")).mine, "one that was refused is renewed"


def _oauth(number: int = 0) -> OAuth:
    return OAuth(token_url="http://token.example/", client_id=f"client-{number}", client_secret="client-secret")


def test_many_at_once_ask_once_and_no_renewal_is_left_over() -> None:
    asked: list[str | None] = []

    async def fetch(refresh_token: str | None) -> Token:
        asked.append(refresh_token)
        await asyncio.sleep(0)
        if len(asked) == 3:
            raise TokenRefused("no")
        return Token(value=f"access-{len(asked)}", good_s=60.0)

    async def scenario() -> None:
        cache, org_a, org_b = Tokens(), uuid4(), uuid4()
        values = await asyncio.gather(*(cache.get(org_a, _oauth(), fetch, Secrets()) for _ in range(50)))
        assert set(values) == {"access-1"}
        assert await cache.get(org_b, _oauth(), fetch, Secrets()) == "access-2"
        refused = await asyncio.gather(
            *(cache.get(org_a, _oauth(), fetch, Secrets(), stale="access-1") for _ in range(5)), return_exceptions=True
        )
        assert [type(each) for each in refused] == [TokenRefused] * 5
        assert await cache.get(org_a, _oauth(), fetch, Secrets(), stale="access-1") == "access-4"
        assert cache._renewals == {}
        for number in range(tokens.MAX_TOKENS + 50):
            await cache.get(org_a, _oauth(number), fetch, Secrets())
        assert len(cache._kept) == tokens.MAX_TOKENS

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "document",
    [[], "x", {}, {"access_token": ""}, {"access_token": 5}, {"access_token": "a b"}, {"access_token": "a\nb"}],
)
def test_an_answer_without_a_usable_token_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"no "):
        tokens.read_token(document)


@pytest.mark.parametrize(
    ("lifetime", "good_s"),
    [
        (None, 270.0),
        (3600, 3570.0),
        ("100", 90.0),
        (-5, 0.0),
        ("soon", 270.0),
        ("nan", 270.0),
        ("1e999", 270.0),
        ([], 270.0),
    ],
)
def test_odd_lifetimes_are_taken_with_care(lifetime: Any, good_s: float) -> None:
    assert tokens.read_token({"access_token": "a", "expires_in": lifetime}).good_s == good_s
