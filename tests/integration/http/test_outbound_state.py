"""Nothing of a call outlives it: cookies, credentials and connections of one organization never serve another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import peer as peers
from tests.support.peer import Peer
from tests.support.workers import by_key, run_to_end
from workflows.models import Organization, Secret
from workflows.selectors.runs import StepDetail

pytestmark = pytest.mark.usefixtures("workers")


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peers.serve() as running:
        yield running


def call(org: Organization, config: dict[str, Any], kind: str = "http_request", **more: Any) -> StepDetail:
    once = {"attempts": 1}
    return by_key(run_to_end(org, [{"id": "a", "type": kind, "config": config, "retry": once, **more}]))["a"]


def keep_secret(org: Organization, name: str, value: str) -> None:
    secret = Secret(organization=org, name=name)
    secret.value = value
    secret.save()


def oauth(peer: Peer, **more: Any) -> dict[str, Any]:
    grant = {"token_url": peer.url("/token"), "client_id": "shop", "client_secret": "client-secret", **more}
    return {"url": peer.url("/echo"), "oauth": grant}


def redirecting(peer: Peer, to: str, status: int = 302, **more: Any) -> dict[str, Any]:
    return {"url": peer.url(f"/redirect?status={status}&to={quote(to, safe='')}"), "follow_redirects": True, **more}


# --- state between calls --------------------------------------------------------------------------------------------


def test_a_cookie_that_one_organization_got_is_sent_by_no_other(
    org: Organization, other: Organization, peer: Peer
) -> None:
    assert call(org, {"url": peer.url("/cookie?v=of-A")}).step_run.status == "completed"
    call(org, redirecting(peer, peer.url("/echo")))
    call(org, oauth(peer), kind="oauth_api_call")
    for asking in (other, org):
        answers = [
            call(asking, {"url": peer.url("/echo")}),
            call(asking, redirecting(peer, peer.url("/echo"))),
            call(asking, oauth(peer, client_id="other"), kind="oauth_api_call"),
        ]
        assert [answer.step_run.status for answer in answers] == ["completed"] * 3
        assert ["cookie" in answer.step_run.output["body"]["headers"] for answer in answers] == [False] * 3
    assert [asked.path for asked in peer.asked if "cookie" in asked.headers] == []


def test_a_step_sends_the_cookie_that_it_names_itself(org: Organization, peer: Peer) -> None:
    call(org, {"url": peer.url("/cookie?v=server")})
    own = {"headers": {"Cookie": "mine=1"}}
    assert call(org, {"url": peer.url("/echo"), **own}).step_run.output["body"]["headers"]["cookie"] == "mine=1"
    followed = call(org, redirecting(peer, "/echo", **own)).step_run.output["body"]
    assert followed["headers"]["cookie"] == "mine=1", "within its origin a redirect keeps the step's own headers"


def test_organizations_share_no_connection(org: Organization, other: Organization, peer: Peer) -> None:
    for asking in (org, other, org):
        call(asking, {"url": peer.url("/echo")})
    first, second, third = (asked.connection for asked in peer.of("/echo"))
    assert first != second
    assert second != third


def test_tokens_are_kept_by_organization(org: Organization, other: Organization, peer: Peer) -> None:
    for asking in (org, other, org, other):
        call(asking, oauth(peer), kind="oauth_api_call")
    assert len(peer.of("/token")) == 2
    used = [asked.headers["authorization"] for asked in peer.of("/echo")]
    assert used == [f"Bearer fetched-access-{n}" for n in (1, 2, 1, 2)]


# --- redirects ------------------------------------------------------------------------------------------------------


SENT = {"X-Api-Key": "${ secrets.KEY }", "Authorization": "Bearer abc", "Cookie": "own=1", "X-Shop": "7",
        "Accept": "application/json", "User-Agent": "${ secrets.KEY }"}  # fmt: skip


def test_a_redirect_to_another_origin_takes_no_secret_along(org: Organization, peer: Peer) -> None:
    keep_secret(org, "KEY", "key-of-thirty-four")
    call(org, redirecting(peer, peer.url("/echo", host="localhost"), headers=SENT))
    (seen,) = peer.of("/echo")
    assert seen.host == f"localhost:{peer.port}"
    assert seen.headers["accept"] == "application/json"
    assert {"x-api-key", "authorization", "cookie", "x-shop", "user-agent"}.isdisjoint(seen.headers)


def test_a_redirect_within_its_origin_keeps_what_the_step_sends(org: Organization, peer: Peer) -> None:
    keep_secret(org, "KEY", "key-of-thirty-four")
    call(org, redirecting(peer, "/echo", headers=SENT))
    (seen,) = peer.of("/echo")
    assert seen.headers["x-api-key"] == "key-of-thirty-four"
    assert (seen.headers["authorization"], seen.headers["cookie"]) == ("Bearer abc", "own=1")


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_with_secrets_is_not_sent_to_another_origin(org: Organization, peer: Peer, status: int) -> None:
    keep_secret(org, "KEY", "key-of-thirty-four")
    body = {"method": "POST", "json": {"key": "${ secrets.KEY }"}}
    step = call(org, redirecting(peer, peer.url("/echo", host="localhost"), status, **body))
    error = step.attempts[-1].error
    assert (step.step_run.status, error["category"]) == ("failed", "configuration")
    assert f"localhost:{peer.port}" in error["message"]
    assert "another origin" in error["message"]
    assert peer.of("/echo") == []


def test_a_body_without_secrets_follows_a_redirect(org: Organization, peer: Peer) -> None:
    body = {"method": "POST", "json": {"n": 1}}
    output = call(org, redirecting(peer, peer.url("/echo", host="localhost"), 307, **body)).step_run.output
    assert (output["body"]["method"], output["body"]["body"]) == ("POST", '{"n": 1}')
    assert output["body"]["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(("status", "method"), [(301, "POST"), (302, "PUT"), (303, "POST")])
def test_a_redirect_that_makes_it_a_get_takes_no_body_along(
    org: Organization, peer: Peer, status: int, method: str
) -> None:
    step = call(org, redirecting(peer, "/echo", status, method=method, json={"n": 1}))
    seen = step.step_run.output["body"]
    assert (seen["method"], seen["body"]) == ("GET", "")
    assert {"content-type", "content-length"}.isdisjoint(seen["headers"])


@pytest.mark.parametrize(
    ("to", "says"),
    [("ftp://example.org/", "no http or https"), ("file:///etc/passwd", "no http or https"), ("http://x:port/", "redirects to no address"),
     ("javascript:alert(1)", "no http or https")],
)  # fmt: skip
def test_a_redirect_to_no_http_address_fails_once(org: Organization, peer: Peer, to: str, says: str) -> None:
    step = call(org, redirecting(peer, to))
    error = step.attempts[-1].error
    assert (error["category"], says in error["message"]) == ("configuration", True), error


def test_redirects_in_a_circle_end(org: Organization, peer: Peer) -> None:
    step = call(org, {"url": peer.url("/circle"), "follow_redirects": True})
    error = step.attempts[-1].error
    assert error["category"] == "configuration"
    assert "redirects" in error["message"]
    assert len(peer.asked) <= 21
