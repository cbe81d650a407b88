"""The pages of bulk operations: what they read, and how far they count."""

from __future__ import annotations

import json
import time
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dlq import selectors as letters
from dlq.models import DeadLetter, DeadLetterGroup
from tests.integration.dashboard.people import member
from tests.support.by_hand import fail, start
from workflows.api.schemas.runs import OperationOut
from workflows.models import BulkOperation, Organization, Run
from workflows.presenters import operation_out
from workflows.selectors.searching import counting
from workflows.services import bulk

NOOP = [{"id": "a", "type": "noop"}]

pytestmark = pytest.mark.usefixtures("published")  # no worker takes what is claimed by hand


@pytest.fixture
def operator(org: Organization) -> Client:
    return member(org, "operator")


def runs(org: Organization, *tags: str) -> None:
    for tag in tags:
        run_id = start(org, NOOP)
        Run.objects.filter(id=run_id).update(tags=[tag] if tag else [])


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted at once, and four rows are looked through."""
    monkeypatch.setattr(counting, "_whole", lambda rows: None)
    monkeypatch.setattr(counting, "AT_ONCE", 2)
    monkeypatch.setattr(counting, "MOST_READ", 4)


def groups(org: Organization, number: int) -> list[DeadLetterGroup]:
    letter = DeadLetter.objects.get(run_id=_failed(org))
    first = DeadLetterGroup.objects.get(id=letter.group_id)
    made = [first]
    for _ in range(number - 1):
        first.pk, first.fingerprint, first._state.adding = uuid.uuid4(), uuid.uuid4().hex, True
        first.save(force_insert=True)
        made.append(DeadLetterGroup.objects.get(pk=first.pk))
    return made


def _failed(org: Organization) -> Any:
    run_id = start(org, NOOP)
    fail(run_id)
    return run_id


def statements(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return len(queries)


def test_twenty_operations_are_listed_with_the_statements_of_two(org: Organization, operator: Client) -> None:
    made = groups(org, 10)
    for kind, path in (("ignore_dead_letters", "/letters/bulk/all/"), ("cancel_runs", "/operations/")):
        counts = []
        for wanted in (2, 20):
            listed = BulkOperation.objects.filter(org_id=org.id, action=kind).count()
            for number in range(listed, wanted):
                where = {"group": str(made[number % 10].id)} if "letters" in kind else {"flow": f"f{number}"}
                row = bulk.draft(org, kind, where, by="me")
                row.problems = [{"id": str(uuid.uuid4()), "reason": "it was refused"}]
                row.status, row.ended_at = "completed", row.created_at
                row.save(force_insert=True)
            statements(operator, path)  # what a process reads once
            counts.append(statements(operator, path))
        assert counts[0] == counts[1], path
    page = operator.get("/letters/bulk/all/").content.decode()
    assert str(made[0]) in page


def test_groups_are_found_by_every_way_to_name_them(org: Organization) -> None:
    first, second = groups(org, 2)
    names = {
        str(first.id),
        first.fingerprint[:8],
        second.fingerprint,
        second.fingerprint[:5],
        str(uuid.uuid4()),
        "none",
    }
    found = letters.groups_named(org, names)
    assert found == {name: group for name in names if (group := letters.group_where(org, name).first())}
    assert len(found) == 3
    assert letters.groups_named(org, set()) == {}


def test_what_is_not_counted_in_no_time_is_looked_for_among_the_newest(
    org: Organization, operator: Client, hasty: None
) -> None:
    runs(org, "rare", "", "", "rare")
    page = operator.get("/runs/matching/cancel/", {"tag": "rare"})
    draft = page.context["draft"]
    assert (draft.matched, draft.matched_at_least) == (2, True), "four rows are read, and there may be more"
    assert "at least 2 runs" in page.content.decode()
    assert "at least" in page.content.decode().split("a second:")[1][:20]
    runs(org, "", "", "", "")
    none = operator.get("/runs/matching/cancel/", {"tag": "rare"})
    assert none.context["draft"].matched == 0
    assert 'name="pace"' in none.content.decode(), "there may be some all the same"


def test_few_rows_are_counted_to_the_end(org: Organization, hasty: None) -> None:
    runs(org, "rare", "", "rare")
    draft = bulk.draft(org, "cancel_runs", {"tag": "rare"})
    assert (draft.matched, draft.matched_at_least) == (2, False)


def test_a_count_is_cut_off_in_time_and_leaves_no_bound_behind(
    org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(org, "rare")
    slow = Run.objects.filter(org_id=org.id).extra(where=["pg_sleep(5) IS NOT NULL"])
    monkeypatch.setattr(counting, "MAX_S", 0.02)
    begun = time.monotonic()
    assert counting._whole(slow) is None
    assert time.monotonic() - begun < 4
    monkeypatch.setattr(counting, "MAX_S", 5)
    assert counting._whole(Run.objects.filter(org_id=org.id)) == counting.Counted(number=1, is_least=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        assert cursor.fetchone() == ("0",)
    monkeypatch.setattr(counting, "MOST", 2)
    runs(org, "", "")
    assert counting._whole(Run.objects.filter(org_id=org.id)) == counting.Counted(number=2, is_least=True)


def test_an_operation_knows_at_its_end_how_many_there_were(
    org: Organization, operator: Client, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    runs(org, *["rare"] * 6)
    operator.post("/runs/matching/cancel/?tag=rare", {"pace": "1000"})
    row = BulkOperation.objects.get(org_id=org.id)
    assert (row.matched, row.matched_at_least) == (4, True)
    page = operator.get(f"/operations/{row.id}/").content.decode()
    assert ("of at least 4 looked at" in page, "<progress" in page) == (True, False)
    assert "at least 4" in operator.get("/operations/").content.decode()
    out = StringIO()
    call_command("bulk", "--org", org.slug, "list", "--json", stdout=out)
    assert (json.loads(out.getvalue())[0]["matched"], json.loads(out.getvalue())[0]["matchedAtLeast"]) == (4, True)
    assert OperationOut.model_validate(operation_out(row)).matched_at_least
    for _ in range(200):
        bulk.pump()
        row.refresh_from_db()
        if row.status == "completed":
            break
    assert (row.done, row.matched, row.matched_at_least) == (6, 6, False)
    assert "6 of 6 looked at" in operator.get(f"/operations/{row.id}/").content.decode()


@pytest.mark.parametrize("where", [{"search": "rare"}, {"step": "rare"}, {"category": "code"}, {"workflow": "rare"}])
def test_a_step_of_letters_is_bounded_for_filters_without_an_index(
    org: Organization, where: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_READ", 2)
    for _ in range(3):
        _failed(org)
    row = bulk.start(org, "ignore_dead_letters", where, by="me", options={"reason": "r"})
    bulk._next(row, org, 200)
    assert row.cursor is not None, "it has looked through two letters, and keeps its place"
    assert row.cursor == list(DeadLetter.objects.filter(org_id=org.id).order_by("id").values_list("id", flat=True))[1]
    BulkOperation.objects.filter(id=row.id).update(status="stopped")
