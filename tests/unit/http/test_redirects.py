"""What follows a redirect, and what may pause a limit that organizations share."""

from __future__ import annotations

import httpx
import pytest

from throttling.limits import ConcurrencyLimit, Limit, LimitSet
from throttling.names import LimitName
from workflows.steps.http import redirects
from workflows.steps.http.redirects import RedirectRefused
from workflows.steps.masking import Secrets

HEADERS = {"authorization": "Bearer x", "x-api-key": "k", "accept": "text/html", "cookie": "a=1", "host": "a.example"}


def follow(url: str, to: str, *, status: int = 302, method: str = "GET", content: bytes | None = None,
           secrets: tuple[str, ...] = ()) -> httpx.Request:  # fmt: skip
    request = httpx.Request(method, url, headers=HEADERS, content=content)
    response = httpx.Response(status, headers={"location": to}, request=request)
    return redirects.following(request, response, Secrets(secrets))


@pytest.mark.parametrize(
    ("url", "to", "keeps"),
    [
        ("https://a.example/x", "/y", True),
        ("https://a.example/x", "https://a.example:443/y", True),
        ("https://a.example/x", "HTTPS://A.EXAMPLE/y", True),
        ("https://a.example/x", "//a.example/y", True),
        ("http://a.example/x", "https://a.example/y", True),
        ("http://a.example:8080/x", "https://a.example/y", False),
        ("http://a.example/x", "https://a.example:8443/y", False),
        ("https://a.example/x", "https://a.example:8443/y", False),
        ("https://a.example/x", "https://b.a.example/y", False),
        ("https://a.example/x", "//b.example/y", False),
        ("https://a.example/x", "https://a.example@b.example/y", False),
        ("https://a.example/x", "https://a.example./y", False),
    ],
)
def test_headers_stay_within_their_origin(url: str, to: str, keeps: bool) -> None:
    followed = follow(url, to)
    assert {"authorization", "x-api-key", "cookie"} <= set(followed.headers) if keeps else True
    assert keeps or set(followed.headers) == {"accept", "host"}
    assert followed.headers["host"] == followed.url.netloc.decode()
    assert not followed.url.userinfo


@pytest.mark.parametrize("to", ["http://a.example/y", "http://b.example/y"])
def test_https_is_not_left_for_http(to: str) -> None:
    with pytest.raises(RedirectRefused, match="https"):
        follow("https://a.example/x", to)


@pytest.mark.parametrize(("status", "method"), [(307, "POST"), (308, "PUT"), (301, "PUT"), (301, "DELETE")])
def test_a_body_is_sent_to_another_origin_only_without_credentials(status: int, method: str) -> None:
    with pytest.raises(RedirectRefused, match="another origin"):
        follow("https://a.example/x", "https://b.example/y", status=status, method=method, content=b"body")
    same = follow("https://a.example/x", "/y", status=status, method=method, content=b"body", secrets=("s3cret",))
    assert (same.method, same.content, same.headers["content-length"]) == (method, b"body", "4")


@pytest.mark.parametrize("name", ["accept", "user-agent", "content-type", "idempotency-key"])
def test_a_harmless_header_with_a_secret_in_it_stays_behind(name: str) -> None:
    request = httpx.Request("GET", "https://a.example/", headers={name: "x/S3CRET-value"})
    response = httpx.Response(302, headers={"location": "https://b.example/"}, request=request)
    assert name not in redirects.following(request, response, Secrets(["s3cret-value"])).headers


ORG = "00000000-1c00-4000-8000-000000000000"


def _named(owner: str) -> Limit:
    return Limit(name=LimitName.parse(f"limit:{owner}:api:rate"), bound=ConcurrencyLimit(max_running=1), source="named")


def test_an_answer_pauses_no_limit_of_all_organizations() -> None:
    provider = Limit(name=LimitName.parse(f"provider:{ORG}:api.example"), bound=None, source="provider")
    assert LimitSet.of([(_named("all"), None), (provider, None)]).paused_by_provider == (provider.instance(),)
    own = _named(ORG)
    assert LimitSet.of([(own, None), (provider, None)]).paused_by_provider == (own.instance(),)
