"""Entries of the audit log for logins and logouts, by Django's own signals.

Wrong passwords are counted by the brake (`workflows.edge.logins`) and not written here: strangers would fill the log.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.http import HttpRequest

from workflows.models import AuditEntry
from workflows.services.access import audit


def connect() -> None:
    """Have them written from now on."""
    user_logged_in.connect(_in, dispatch_uid="headrace.audit.login")
    user_logged_out.connect(_out, dispatch_uid="headrace.audit.logout")


def _in(sender: Any, request: HttpRequest | None = None, user: Any = None, **_: Any) -> None:
    _write(request, user, "login")


def _out(sender: Any, request: HttpRequest | None = None, user: Any = None, **_: Any) -> None:
    _write(request, user, "logout")


def _write(request: HttpRequest | None, user: Any, verb: str) -> None:
    if request is None or user is None or not request.META.get("REMOTE_ADDR"):
        return  # a test client's `force_login`, or a session that was nobody's
    name = user.get_username()
    audit.record(None, audit.of_request(request, AuditEntry.Actor.LOGIN, name), verb, kind="login", id=name)
