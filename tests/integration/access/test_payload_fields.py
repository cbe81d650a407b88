"""What a model's row with payloads costs where its organization does not encrypt, and that nothing is in clear where it does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dlq.models import DeadLetterChange
from tests.integration.access.marked import stored
from workflows.models import BulkOperation, Event, Organization
from workflows.sealing import envelope
from workflows.services import bulk
from workflows.services.access import payloads


class Counting(dict[str, Any]):
    """A mapping that counts how often it is serialised."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


def _event(org: Organization, data: Any) -> Event:
    now = timezone.now()
    return Event(org_id=org.id, name="a/b", data=data, ts=now, received_at=now, matched_at=now)


@pytest.fixture
def encrypting(org: Organization) -> Iterator[Organization]:
    payloads.switch_to(org, on=True)
    yield org
    payloads.switch_to(org, on=False)


@pytest.mark.parametrize("bulk", [False, True])
def test_a_value_that_is_stored_in_clear_is_serialised_once(org: Organization, bulk: bool) -> None:
    data = Counting(word="é", n=1.5, none=None)
    event = _event(org, data)
    if bulk:
        Event.objects.bulk_create([event])
    else:
        event.save()
    assert data.times == 1
    assert Event.objects.get(id=event.id).data == {"word": "é", "n": 1.5, "none": None}
    event.data = {"word": "other"}
    event.save(update_fields=["data"])
    assert Event.objects.get(id=event.id).data == {"word": "other"}


def test_a_value_that_is_encrypted_is_serialised_once(encrypting: Organization) -> None:
    data = Counting(word="a")
    event = _event(encrypting, data)
    event.save()
    assert data.times == 1
    assert envelope.key_names(stored("headrace_workflows_event", "data", id=event.id)[0])


def test_what_looks_sealed_is_encrypted_where_nobody_wants_that(org: Organization) -> None:
    event = _event(org, {"forged": envelope.seal_value("a")})
    event.save()
    assert stored("headrace_workflows_event", "data", id=event.id)[0].startswith('{"$enc": "v1:')
    assert Event.objects.get(id=event.id).data == event.data


def test_nobody_looks_for_the_organization_of_a_row_while_none_encrypts() -> None:
    change = DeadLetterChange(letter_id=uuid.uuid4(), what="a", by="anna", reason="because", patch=[{"op": "test"}])
    with CaptureQueriesContext(
        connection,
    ) as seen:
        for field in ("reason", "patch"):
            DeadLetterChange._meta.get_field(field).pre_save(change, True)
    assert [query for query in seen.captured_queries if "deadletter" in query["sql"]] == []


def test_a_step_of_a_bulk_operation_leaves_the_payloads_that_stay_as_they_are(encrypting: Organization) -> None:
    now = timezone.now()
    operation = BulkOperation.objects.create(
        org_id=encrypting.id, action="cancel_runs", filter={"userId": "u"}, options={"reason": "enough"},
        per_second=100, matched=0, upto=uuid.uuid4(), created_by="anna", paced_from=now,
    )  # fmt: skip
    before = [stored("headrace_workflows_bulkoperation", name, id=operation.id) for name in ("filter", "options")]
    bulk.pump()
    operation.refresh_from_db()
    assert operation.status == "completed"
    after = [stored("headrace_workflows_bulkoperation", name, id=operation.id) for name in ("filter", "options")]
    assert after == before
