"""The examples in YAML that stand beside flows in Python."""

from __future__ import annotations

import pytest

from config.env import BASE_DIR
from examples.python.outside import Outside
from tests.integration.examples.conftest import store_secret
from tests.support.workers import await_end, statuses
from workflows import selectors, services
from workflows.definitions import document
from workflows.models import Organization, Trigger

pytestmark = pytest.mark.usefixtures("workers")


def run(org: Organization, path: str, data: object) -> selectors.RunDetail:
    read = document.read(BASE_DIR / "examples" / path)
    services.apply_definition(org, read.spec, source=read.source)
    detail = await_end(org, services.trigger(org, read.spec.flow, data).run_ids[0])
    assert detail.run.status == "completed", detail.run.error
    return detail


def test_a_bulk_import_counts_its_records(org: Organization) -> None:
    records = [{"id": "1", "email": "a@example.org"}, {"id": "2"}]
    found = run(org, "flows/bulk-import.yaml", {"records": records}).run.output
    assert found == {"total": 2, "successful": 1, "failed": 1}


@pytest.mark.parametrize(("fails", "provider"), [(0, "primary"), (9, "fallback")])
def test_a_second_provider_stands_in(org: Organization, outside: Outside, fails: int, provider: str) -> None:
    store_secret(org, "MAIL_URL", outside.base_url)
    detail = run(org, "flows/graceful-email.yaml", {"to": "a@example.org", "primaryFails": fails})
    assert detail.run.output == {"provider": provider, "accepted": True}
    assert statuses(detail)["try-fallback"] == ("completed" if fails else "skipped")


def test_the_older_spelling_of_a_schedule_is_a_schedule(org: Organization) -> None:
    detail = run(org, "scheduled/every-five-minutes.yaml", {"scheduledFor": "2026-01-20T10:05:00Z"})
    assert detail.run.status == "completed"
    trigger = Trigger.objects.get(organization=org, kind=Trigger.Kind.CRON)
    assert trigger.config["schedule"] == "*/5 * * * *"
