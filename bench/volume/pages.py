"""How long each page, admin list and GET of the API takes on the database as it is, and how many buffers it reads."""

from __future__ import annotations

import json
import logging
import math
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from bench.volume.templates import EVENT
from dlq.models import DeadLetter
from workflows.models import AccessKey, Event, Organization, Run, StepRun

GOAL_MS = 200.0
ENDLESS = re.compile(r"stream|metrics")
"""Addresses that do not end, or answer for the whole installation by their own clock."""
WRITES = re.compile(r"logout|login|^e/|^hooks/|^callbacks/")
PARAMETER = re.compile(r"<(?:[^:>]+:)?(\w+)>|\{(?:[^:}]+:)?(\w+)\}")
QUERIES = {
    "api/runs": [
        "status=failed",
        "status=running",
        "status=waiting",
        "workflow=seed-orders",
        "workflow=seed-failing-3",
        "event=seed/order.created",
        "trigger=event",
        "sort=priority",
        "sort=duration",
        "since={month}&until={week}",
        "limit=100",
    ],
    "api/events": ["name=seed/order.created", "unheard=true", "limit=100"],
    "retention": ["subject=failed&days=1", "subject=events&days=1"],
    "audit": ["verb=run.*"],
    "secrets": ["name=SEED"],
    "api/dlq": ["status=failed", "category=configuration", "limit=100"],
    "": [
        "status=failed",
        "status=waiting",
        "flow=seed-failing-3",
        "event=seed/order.created",
        "sort=priority",
        "sort=duration",
        "since={month}&until={week}",
    ],
}
"""Filters that are measured beside the bare address."""


class Measured(NamedTuple):
    """One address: its status, milliseconds of each request, and what its statements read."""

    address: str
    status: int
    times_ms: list[float]
    statements: int
    buffers: int

    def percentile(self, share: float) -> float:
        return sorted(self.times_ms)[math.ceil(share * len(self.times_ms)) - 1]


def measure(organization: Organization, repeats: int) -> tuple[list[Measured], list[str]]:
    """Request every address so often, as a superuser and with an API key. Returns also those that have no sample."""
    addresses, missing = _addresses(_samples(organization))
    logging.getLogger("django.request").setLevel(logging.ERROR)  # what takes no GET says so each time
    with _operator(organization) as client:
        client.get(f"/?org={organization.slug}")
        answered = [
            address for address in addresses if client.get(address).status_code != HTTPStatus.METHOD_NOT_ALLOWED
        ]
        return [_measure(client, address, repeats) for address in answered], missing


@contextmanager
def _operator(organization: Organization) -> Iterator[Client]:
    """A client with a superuser's session and an operator's key, both of its own and gone afterwards."""
    login = get_user_model().objects.create(username=f"bench-{uuid.uuid4()}", is_superuser=True, is_staff=True)
    try:
        key_row, key = AccessKey.issue(organization, "api", "bench pages", operator=True)
        try:
            client = Client(HTTP_HOST="127.0.0.1", headers={"authorization": f"Bearer {key}"})
            client.force_login(login)
            yield client
        finally:
            key_row.delete()
    finally:
        login.delete()


def _measure(client: Client, address: str, repeats: int) -> Measured:
    times = []
    status = client.get(address).status_code
    for _ in range(repeats):
        began = time.perf_counter()
        answer = client.get(address)
        if answer.streaming:
            b"".join(answer)
        times.append((time.perf_counter() - began) * 1000)
    with _captured() as statements:
        client.get(address)
    return Measured(address, status, times, len(statements), sum(_buffers(*each) for each in statements))


# --- which addresses ------------------------------------------------------------------------------------------------


def _addresses(samples: Mapping[str, str]) -> tuple[list[str], list[str]]:
    found, missing = [], []
    for pattern in sorted(set(_patterns(get_resolver().url_patterns, ""))):
        if pattern.startswith("admin/") or WRITES.search(pattern) or ENDLESS.search(pattern):
            continue
        if any((one or other) not in samples for one, other in PARAMETER.findall(pattern)):
            missing.append(pattern)
            continue
        address = PARAMETER.sub(lambda match: samples[match[1] or match[2]], pattern)
        found.append("/" + address)
        found.extend(f"/{address}?{query.format(**samples)}" for query in QUERIES.get(pattern.rstrip("/"), []))
    return [*found, *_admin_lists()], missing


def _patterns(patterns: list[Any], prefix: str) -> Iterator[str]:
    for each in patterns:
        text = prefix + str(each.pattern).replace("\\Z", "").lstrip("^")
        if isinstance(each, URLResolver):
            yield from _patterns(each.url_patterns, text)
        elif isinstance(each, URLPattern):
            yield text


def _admin_lists() -> list[str]:
    found = []
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        found.append(reverse(f"{name}_changelist"))
        row = model._default_manager.order_by("-pk").first()
        if row is not None:
            found.append(reverse(f"{name}_change", args=[row.pk]))
    return found


def _samples(organization: Organization) -> dict[str, str]:
    """Values for the parameters of addresses, by name."""
    failed = Run.objects.filter(org_id=organization.id, status="failed").order_by("-id").first()
    letter = DeadLetter.objects.filter(org_id=organization.id).order_by("-id").first()
    event = Event.objects.filter(org_id=organization.id).order_by("-id").first()
    waiting = Run.objects.filter(org_id=organization.id, flow__slug="seed-waiting", status="running").first()
    if failed is None or letter is None or event is None or waiting is None:
        raise RuntimeError("The organization has no seeded runs: `manage.py bench seed` makes them.")
    decide = StepRun.objects.get(run=waiting, key="decide")
    oldest = Run.objects.filter(org_id=organization.id).order_by("created_at").values_list("created_at", flat=True)[0]
    newest = failed.created_at
    return {
        "run_id": str(failed.id),
        "key": "s0",
        "what": "input",
        "slug": "seed-orders",
        "step_run_id": str(decide.id),
        "letter_id": str(letter.id),
        "group": str(letter.group_id),
        "group_id": str(letter.group_id),
        "event_id": str(event.id),
        "reference": str(failed.id),
        "name": EVENT,
        "mode": "none",
        "month": oldest.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "week": (oldest + (newest - oldest) / 4).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


# --- what they read -------------------------------------------------------------------------------------------------


@contextmanager
def _captured() -> Iterator[list[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def keep(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().upper().startswith(("SELECT", "WITH")) and not many:
            statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(keep):
        yield statements


def _buffers(sql: str, params: Any) -> int:
    """Shared buffers that the statement touches; it is executed once more, and rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0]
        finally:
            cursor.execute("ROLLBACK")
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return int(top.get("Shared Hit Blocks", 0)) + int(top.get("Shared Read Blocks", 0))
