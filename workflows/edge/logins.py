"""The brake on logins: so many tries, then a wait, for an account from one address and for an address in all.

Counted in Postgres, so that all web processes count together. A try is counted before its password is looked at, and
taken off when it was right: tries at the same instant are counted too. Nobody can lock another out: an account is
braked for an address only, and a browser in which it has logged in before is counted apart from its address.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import math
import secrets
from dataclasses import dataclass

from django.core.signing import BadSignature, Signer
from django.db import connection, transaction

from workflows.errors import WorkflowsError
from workflows.models import LoginTry

ACCOUNT_TRIES = 10
ADDRESS_TRIES = 50
WITHIN = dt.timedelta(minutes=5)
SALT = "headrace.browser"


class TooManyLogins(WorkflowsError):
    """There were too many tries to log in from here."""

    status, code = 429, "too_many_logins"

    def __init__(self, wait: dt.timedelta) -> None:
        self.retry_after_s = max(1, math.ceil(wait.total_seconds()))
        super().__init__(f"There were too many tries to log in from here: try again in {self.retry_after_s} seconds.")


@dataclass(frozen=True, kw_only=True)
class Try:
    """A counted try: the hash of its account, and of where it comes from."""

    account: str
    origin: str
    known: bool


def begin(account: str, address: str, *, browser: str = "", now: dt.datetime) -> Try:
    """Count a try. `browser`: what `known_browser` gave it. Raises TooManyLogins, and counts nothing then."""
    name = _hash("account", account.strip().casefold())
    known = _is_known(browser, name)
    this = Try(
        account=name, origin=_hash("browser", browser) if known else _hash("address", _network(address)), known=known
    )
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"login {this.origin}",))
        _forget_old(now)
        wait = _wait(this, now)
        if wait is None:
            LoginTry.objects.create(account=this.account, origin=this.origin, at=now)
    if wait is not None:
        raise TooManyLogins(wait)
    return this


def succeed(this: Try) -> None:
    """Forget the tries of this account from there."""
    LoginTry.objects.filter(account=this.account, origin=this.origin).delete()


def known_browser(account: str) -> str:
    """The value of the cookie of a browser in which this account has logged in."""
    return Signer(salt=SALT).sign_object([_hash("account", account.strip().casefold()), secrets.token_hex(8)])


def _is_known(browser: str, account: str) -> bool:
    try:
        return bool(Signer(salt=SALT).unsign_object(browser)[0] == account)
    except (BadSignature, ValueError, TypeError, LookupError):
        return False


def _wait(this: Try, now: dt.datetime) -> dt.timedelta | None:
    """How long until there is room for another try; None: there is."""
    tries = LoginTry.objects.filter(origin=this.origin, at__gt=now - WITHIN).order_by("-at")
    bounds = [(tries.filter(account=this.account), ACCOUNT_TRIES)]
    if not this.known:
        bounds.append((tries, ADDRESS_TRIES))
    waits = []
    for found, most in bounds:
        at = found.values_list("at", flat=True)[most - 1 : most].first()
        if at is not None:
            waits.append(at + WITHIN - now)
    return max(waits, default=None)


def _network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one, which is one customer's."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _forget_old(now: dt.datetime) -> None:
    """Remove tries that count no more, but for those that another process removes at this moment."""
    old = LoginTry.objects.select_for_update(skip_locked=True).filter(at__lte=now - WITHIN)
    LoginTry.objects.filter(id__in=list(old.values_list("id", flat=True)[:1_000])).delete()


def _hash(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "surrogatepass")).hexdigest()
