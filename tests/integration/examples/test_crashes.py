"""Crash at every step over the examples: the same outcome wherever the worker dies, and what has a key happens once.
`make test` takes a few points of three flows, `make soak` all of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model

from examples import server
from examples.python import campaigns, composition, first_steps, imports, reports, retries, schedules, signup, webhooks
from examples.python.outside import Outside
from tests.support.python_flows.crashes import CrashCase, Crashes, watched
from tests.support.volume import IS_FULL
from tests.support.workers import WorkerPool
from workflows import selectors
from workflows.models import Organization


def status(detail: selectors.RunDetail) -> Any:
    """Of a run whose output has ids that are its own."""
    return detail.run.status


def anew(data: Any, **tables: list[dict[str, Any]]) -> Callable[[Path], Any]:
    """The input of a run, before which the services forget all but these rows."""

    def made(where: Path) -> Any:
        server.WORLD.__init__()  # type: ignore[misc]
        for table, rows in tables.items():
            server.WORLD.put(table, [dict(row) for row in rows])
        return data(where) if callable(data) else data

    return made


def rows(*tables: str) -> Callable[[UUID], dict[str, int]]:
    """How many rows the tables have: what was sent."""
    return lambda _: {table: len(server.WORLD.tables.get(table, {})) for table in tables}


def sole(*names: str) -> frozenset[str]:
    return frozenset(names)


def users(_: UUID) -> dict[str, int]:
    return {"user": get_user_model().objects.filter(username="crash@example.com").count()}


SUBSCRIBER = {"id": "s-1", "email": "s1@example.org", "list_id": "l", "status": "active"}
CAMPAIGN = {"id": "c", "subject": "s", "content": "c", "listId": "l"}
REPORT = {"reportType": "users", "dateRange": {"start": "2026-01-01", "end": "2026-01-03"}, "userId": "u"}
CASES = [
    CrashCase(flow=first_steps.my_job, data=anew({"value": 21}), count=rows("slack"), exact=sole("slack")),
    CrashCase(
        flow=first_steps.order,
        data=anew({"orderId": "o-1", "items": [{"sku": "WIDGET-001", "quantity": 2}]}),
        count=lambda _: {"charge": len(server.WORLD.charges), "mail": len(server.WORLD.tables.get("mails", {}))},
        exact=sole("charge", "mail"),
    ),
    CrashCase(
        flow=campaigns.send_email_campaign,
        data=anew({"campaignId": "c"}, campaigns=[CAMPAIGN], email_subscribers=[SUBSCRIBER]),
        count=rows("mails"),
        exact=sole("mails"),
    ),
    CrashCase(flow=imports.import_with_progress, data=anew({"file": "a.csv?records=120", "importType": "contacts"})),
    CrashCase(flow=imports.process_import, data=anew({"importId": "i", "file": "a.csv?records=250"})),
    CrashCase(
        flow=imports.items_process_batch, data=anew({"items": [{"id": f"i-{n}"} for n in range(4)]}), at_once=4
    ),
    CrashCase(flow=reports.report_generate, data=anew(REPORT), outcome=status, count=rows("files"), exact=sole("files")),
    CrashCase(flow=schedules.sync_github_metrics, data=anew({})),
    CrashCase(flow=schedules.daily_cleanup, data=anew({}), outcome=status),
    CrashCase(
        flow=signup.on_user_signup,
        is_quick=True,
        data=anew({"userId": "u", "email": "u@example.org"}),
        count=rows("mails", "profiles", "analytics"),
        exact=sole("mails", "profiles", "analytics"),
    ),
    CrashCase(
        flow=signup.create_or_update_user,
        is_quick=True,
        data=anew({"email": "crash@example.com", "name": "User"}),
        outcome=status,
        count=users,
        exact=sole("user"),
    ),
    CrashCase(
        flow=webhooks.idempotent_payment,
        data=anew({"orderId": "o", "amount": 5, "idempotencyKey": "k"}),
        outcome=status,  # what a killed worker has stored is found by the next one
        count=lambda _: {"charge": len(server.WORLD.charges)},
        exact=sole("charge"),
    ),
    CrashCase(flow=composition.create_workflow, data=anew({"name": "w"}), outcome=status, count=rows("edges"),
              exact=sole("edges")),
    CrashCase(flow=composition.long_running_job, data=anew({"seconds": 0.1})),
    CrashCase(
        flow=retries.graceful_example,
        is_quick=True,
        data=anew({"to": "a@example.org", "primary": "/v3/mail/send?fail=9"}),
        count=rows("mails"),
        exact=sole("mails"),
    ),
]  # fmt: skip


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("case", [case for case in CASES if case.is_quick or IS_FULL], ids=lambda case: case.name)
def test_an_example_ends_the_same_wherever_its_worker_dies(
    case: CrashCase, org: Organization, outside: Outside, own_workers: WorkerPool, tmp_path: Path
) -> None:
    with watched():
        crashes = Crashes(org, own_workers, tmp_path)
        outcome, transitions = crashes.undisturbed(case)
        for after in case.points(transitions):
            assert crashes.crash(case, after) == outcome, f"killed after {after} of {transitions} transitions"
