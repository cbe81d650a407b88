"""The brake on logins: counted together, told with a time, and no way to lock another out."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import uuid
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client
from django.utils import timezone

from devtools.processes import Ports, commands
from workflows.edge import logins
from workflows.edge.logins import ACCOUNT_TRIES, ADDRESS_TRIES, WITHIN, TooManyLogins
from workflows.models import LoginTry

FORMS = ["/login/", "/admin/login/"]


@pytest.fixture
def address(live_db: None) -> str:
    """One of its own for each test."""
    return f"2001:db8:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}::7"


@pytest.fixture
def account(live_db: None) -> str:
    name = f"boss-{uuid.uuid4().hex[:8]}"
    get_user_model().objects.create_superuser(name, password="right")
    return name


def post(form: str, account: str, password: str, address: str, client: Client | None = None) -> Any:
    return (client or Client()).post(form, {"username": account, "password": password}, REMOTE_ADDR=address)


@pytest.mark.parametrize("form", FORMS)
def test_after_so_many_tries_the_password_is_not_looked_at_any_more(form: str, account: str, address: str) -> None:
    for _ in range(ACCOUNT_TRIES):
        assert post(form, account, "wrong", address).status_code == 200
    refused = post(form, f" {account.upper()}", "right", address)
    assert refused.status_code == 429
    assert 1 <= int(refused["Retry-After"]) <= WITHIN.total_seconds()
    assert f"try again in {refused['Retry-After']} seconds" in refused.content.decode()
    other_form = next(each for each in FORMS if each != form)
    assert post(other_form, account, "right", address).status_code == 429  # both count together
    assert post(form, account, "right", address.replace("::7", "::8")).status_code == 429  # the same network
    LoginTry.objects.filter(account=logins._hash("account", account)).update(at=timezone.now() - WITHIN)
    assert post(form, account, "right", address).status_code == 302


def test_a_stranger_can_not_lock_an_account_out(account: str, address: str) -> None:
    for _ in range(ACCOUNT_TRIES + 1):
        post("/login/", account, "wrong", "2001:db8:ffff:1::1")
    assert post("/login/", account, "right", address).status_code == 302


def test_an_address_that_tries_many_accounts_is_braked(account: str, address: str) -> None:
    for number in range(ADDRESS_TRIES):
        logins.begin(f"nobody-{number}", address, now=timezone.now())
    assert post("/login/", account, "right", address).status_code == 429


def test_a_browser_that_has_logged_in_before_gets_in_from_a_braked_address(account: str, address: str) -> None:
    browser = Client()
    assert post("/login/", account, "right", address, browser).status_code == 302
    for number in range(ADDRESS_TRIES):
        logins.begin(f"nobody-{number}", address, now=timezone.now())
    assert post("/login/", account, "right", address).status_code == 429
    assert post("/login/", account, "right", address, browser).status_code == 302
    for _ in range(ACCOUNT_TRIES):  # it has its own count: a stolen cookie is no free way to guess
        assert post("/login/", account, "wrong", address, browser).status_code == 200
    assert post("/login/", account, "right", address, browser).status_code == 429
    browser.cookies["headrace_browser"] = "forged"
    assert post("/login/", account, "right", address, browser).status_code == 429


def test_a_success_forgets_the_tries_of_its_account_only(account: str, address: str) -> None:
    other = f"victim-{uuid.uuid4().hex[:8]}"
    for _ in range(ACCOUNT_TRIES - 1):
        post("/login/", account, "wrong", address)
        post("/login/", other, "wrong", address)
    assert post("/login/", account, "right", address).status_code == 302
    assert post("/login/", account, "wrong", address).status_code == 200
    assert post("/login/", other, "wrong", address).status_code == 200
    assert post("/login/", other, "wrong", address).status_code == 429


def test_tries_at_the_same_instant_are_counted_one_by_one(address: str) -> None:
    def attempt(_: int) -> bool:
        try:
            logins.begin("many", address, now=timezone.now())
        except TooManyLogins:
            return False
        finally:
            connections.close_all()
        return True

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        taken = sum(pool.map(attempt, range(ACCOUNT_TRIES * 3)))
    assert taken == ACCOUNT_TRIES


def test_a_refusal_does_not_lengthen_the_wait_and_old_tries_are_removed(address: str) -> None:
    start = timezone.now() - dt.timedelta(hours=1)
    for second in range(ACCOUNT_TRIES):
        logins.begin("slow", address, now=start + dt.timedelta(seconds=second))
    for second in (60, 120, 299):
        with pytest.raises(TooManyLogins) as refused:
            logins.begin("slow", address, now=start + dt.timedelta(seconds=second))
        assert refused.value.retry_after_s == 300 - second
    logins.begin("slow", address, now=start + WITHIN)
    logins.begin("slow", address, now=timezone.now())
    assert LoginTry.objects.filter(account=logins._hash("account", "slow")).count() == 1


def test_what_was_typed_is_stored_as_a_hash_only(address: str) -> None:
    post("/login/", "my-passw0rd", "x", address)
    row = LoginTry.objects.order_by("-id").first()
    assert row is not None
    assert "my-passw0rd" not in f"{row.account}{row.origin}"
    form = {"content_type": "application/x-www-form-urlencoded", "REMOTE_ADDR": address}
    assert Client().post("/login/", b"username=%ED%A0%80&password=x", **form).status_code == 200
    assert Client().post("/login/", b"username=%00&password=x", **form).status_code == 400


def test_the_web_process_believes_no_program_of_this_machine_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn takes `X-Forwarded-For` from 127.0.0.1 by itself: a new address for each try passed the brake."""
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert "--no-proxy-headers" in commands(Ports(8288))["web"].split()
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    assert "--no-proxy-headers" not in commands(Ports(8288))["web"].split()
