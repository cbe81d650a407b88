"""Stored bytes of an organization: measured hour by hour, and bounded by its quota."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import uuid6
from django.utils import timezone

from tests.integration.tenancy.doors import Doors
from workflows import services, this_process
from workflows.models import Event, MeasuredHour, Organization, Run, StoredBytes
from workflows.services.tenancy import quotas, usage
from workflows.services.tenancy.quotas import StoredTooMuch


def stored(org: Organization) -> int:
    org.refresh_from_db()
    return org.stored_bytes


def test_payloads_are_summed_and_above_the_quota_nothing_new_comes_in(tenant: Organization) -> None:
    text = "".join(uuid.uuid4().hex for _ in range(60_000))  # 1.9 MB that do not compress well
    run_id = services.trigger(tenant, "counted", delay="1h").run_ids[0]
    usage.measure_now(timezone.now())
    before = stored(tenant)
    Run.objects.filter(id=run_id).update(output={"text": text})
    quotas.set_quotas(tenant, stored_bytes=1_000_000, by="test")
    usage.measure_now(timezone.now())
    assert stored(tenant) - before > 1_000_000
    assert tenant.is_full
    doors = Doors(tenant)
    for answer in (doors.event(), doors.hook(), doors.run()):
        assert answer.status_code == 507
        assert "stores more than its quota" in (answer.json().get("detail") or answer.json()["error"])
    with pytest.raises(StoredTooMuch):
        quotas.charge(tenant, 1)
    services.cancel_run(tenant, run_id)  # what runs goes on, and ends
    Run.objects.filter(id=run_id).update(output=None)
    usage.measure_now(timezone.now())
    assert stored(tenant) < 1_000_000
    assert doors.event().status_code == 200


def test_a_measurement_that_fails_is_not_tried_again_at_once(live_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    def fail(now: Any) -> None:
        begun.append(now)
        raise RuntimeError

    monkeypatch.setattr(usage, "measure_now", fail)
    monkeypatch.setattr(this_process.own(usage._Pace), "next_at", 0.0)
    with pytest.raises(RuntimeError):
        usage.measure()
    assert usage.measure() is False
    assert len(begun) == 1


def test_old_hours_are_measured_in_turn_and_shrink_when_rows_go(tenant: Organization) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - 30 * usage.HOUR
    old = uuid6.UUID(int=(int(hour.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | uuid.uuid4().int % (1 << 60))
    event = Event.objects.create(
        id=old, org_id=tenant.id, name="quota/old", data={"x": "y" * 5_000}, ts=hour, matched_at=hour
    )

    def of_hour() -> int:
        return sum(StoredBytes.objects.filter(org_id=tenant.id, hour=hour).values_list("bytes", flat=True))

    usage.measure_now(timezone.now())
    assert of_hour() > 50
    assert MeasuredHour.objects.filter(hour=hour).exists()
    event.delete()
    usage.measure_now(timezone.now())
    assert of_hour() == 0
