"""A repair that fails goes on with its letter; what is no repair; force; bulk; what 0.1.0 left."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction

from dlq import repairs, selectors
from dlq import services as dlq
from dlq.models import DeadLetter
from tests.integration.api.test_api import Api
from tests.integration.repair.test_repair_once import (
    NOOP,
    Answer,
    Failure,
    assert_repaired_once,
    at_once,
    command,
    in_bulk,
)
from tests.support.by_hand import NO, claim, end, fail, start
from tests.support.workers import publish
from workflows import services
from workflows.engine.pipeline.retry_decision import describe
from workflows.engine.repair import chain
from workflows.errors import AlreadyRepaired, NonRetriable
from workflows.models import Organization, Run
from workflows.services import bulk

pytestmark = pytest.mark.usefixtures("published")


def test_a_failure_of_a_repair_continues_its_letter(failure: Failure) -> None:
    """Three failures of one step in a chain of repairs: one letter, that tells of all three."""
    runs = [str(failure.run_id)]
    for path in ("/runs/{run}/replay", "/dlq/{letter}/replay"):
        answer = failure.api.post(path.format(run=runs[-1], letter=failure.letter_id), {"mode": "resume"})
        assert answer.status_code == 202, answer.text
        runs.append(answer.json()["runId"])
        fail(UUID(runs[-1]))
    (letter,) = failure.api.get("/dlq").json()["deadLetters"]
    assert (letter["id"], letter["status"], letter["runId"]) == (str(failure.letter_id), "failed", runs[-1])
    assert (letter["firstRunId"], letter["replayRunId"], letter["reprocessedAt"]) == (runs[0], None, None)
    changes = failure.api.get(f"/dlq/{failure.letter_id}").json()["changes"]
    assert [(change["what"], change["runId"]) for change in changes] == [
        ("failed", runs[0]),
        ("resumed", runs[1]),
        ("failed again", runs[1]),
        ("resumed", runs[2]),
        ("failed again", runs[2]),
    ]
    assert {change["reason"] for change in changes if change["runId"] and "failed" in change["what"]} == {
        "NonRetriable: no"
    }
    for run_id in (runs[0], runs[1]):  # repaired by the next of them
        answer = failure.api.post(f"/runs/{run_id}/replay")
        assert answer.json()["repairRunId"] == runs[runs.index(run_id) + 1]
        assert failure.api.get("/dlq", run=run_id).json()["deadLetters"][0]["id"] == str(failure.letter_id)
    assert failure.api.post(f"/runs/{runs[2]}/replay").status_code == 202


def test_the_database_keeps_a_second_repair_and_a_second_letter_out(failure: Failure) -> None:
    """Without the lock, and whatever the code thinks."""
    (first,) = [failure.api.post(f"/runs/{failure.run_id}/replay").json()["runId"]]
    repair = Run.objects.get(id=first)
    assert (repair.repair_root_id, repair.repair_number) == (failure.run_id, 1)
    repair.id = uuid.uuid4()
    with pytest.raises(IntegrityError, match="run_repair_once"), transaction.atomic():
        repair.save(force_insert=True)
    letter = DeadLetter.objects.get(id=failure.letter_id)
    letter.id, letter.step_run_id = uuid.uuid4(), uuid.uuid4()
    with pytest.raises(IntegrityError, match="dead_letter_once"), transaction.atomic():
        letter.save(force_insert=True)


def test_two_that_pass_the_lock_are_told_apart_by_the_constraint(
    failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "lock", lambda root_id: None)
    assert_repaired_once(failure, at_once(failure, *["runs over REST, resumed", "runs command"] * 3))


def test_a_letter_moves_to_the_group_of_its_new_cause(failure: Failure) -> None:
    before = DeadLetter.objects.get(id=failure.letter_id)
    run_id = dlq.replay(failure.org, before.id, by="me").run_id
    assert run_id is not None
    end(claim(run_id, "a"), error=describe(NonRetriable("something else")))
    letter = DeadLetter.objects.get(org_id=failure.org.id)
    assert (letter.id, letter.error_message) == (before.id, "something else")
    assert letter.group_id != before.group_id
    assert letter.group.message == "something else"
    assert [group.failed for group in selectors.groups(failure.org)] == [1]
    assert "NonRetriable: no" in [change.reason for change in letter.changes.all()]


def test_another_step_that_fails_in_a_repair_has_a_letter_of_its_own(org: Organization) -> None:
    run_id = start(org, [NOOP, {"id": "b", "type": "noop"}])
    fail(run_id, "a")
    one = DeadLetter.objects.get(run_id=run_id)
    repair_id = dlq.replay(org, one.id, by="me", mode="resume").run_id
    assert repair_id is not None
    end(claim(repair_id, "a"))
    fail(repair_id, "b")
    repairs.settle()
    one.refresh_from_db()
    two = DeadLetter.objects.get(org_id=org.id, step_key="b")
    assert (one.status, one.replay_run_id, one.repairing) == ("reprocessed", repair_id, False)
    assert (two.status, two.run_id, two.first_run_id) == ("failed", repair_id, run_id)


def test_a_letter_whose_repair_did_not_come_to_its_step_is_open_again(org: Organization) -> None:
    """Of two failures of a run, the repair does one, or is cancelled before."""
    steps = [{**NOOP, "critical": False, "needs": []}, {"id": "b", "type": "noop", "needs": []}]
    run_id = start(org, steps)
    fail(run_id, "a")
    fail(run_id, "b")
    assert DeadLetter.objects.filter(run_id=run_id).count() == 2
    first = dlq.replay(org, DeadLetter.objects.filter(run_id=run_id)[0].id, by="me", mode="resume").run_id
    assert first is not None
    fail(first, "b")  # so a is cancelled
    repairs.settle()
    letters = {letter.step_key: letter for letter in DeadLetter.objects.filter(org_id=org.id)}
    assert {key: letter.status for key, letter in letters.items()} == {"a": "failed", "b": "failed"}
    assert [(each.what, each.run_id) for each in letters["a"].changes.all()] == [
        ("resumed", first),
        ("reopened", first),
    ]
    second = dlq.replay(org, letters["a"].id, by="me", mode="resume").run_id
    assert second is not None
    assert not DeadLetter.objects.filter(org_id=org.id, status="failed").exists()
    services.cancel_run(org, second, reason="no")
    repairs.settle()
    assert DeadLetter.objects.filter(org_id=org.id, status="failed").count() == 2
    third = dlq.replay(org, letters["b"].id, by="me", mode="resume")
    assert (third.origin_id, sorted(third.runs)) == (second, ["a", "b"])
    for key in ("a", "b"):
        end(claim(third.run_id, key))  # type: ignore[arg-type]
    repairs.settle()
    assert set(DeadLetter.objects.filter(org_id=org.id).values_list("status", "repairing")) == {("reprocessed", False)}


def test_two_forced_repairs_that_fail_at_the_same_time_share_the_letter(failure: Failure) -> None:
    first = dlq.replay(failure.org, failure.letter_id, by="me").run_id
    second = dlq.replay(failure.org, failure.letter_id, by="me", force=True).run_id
    assert first is not None
    assert second is not None
    end(claim(first, "a"), claim(second, "a"), error=NO)  # within one statement
    letter = DeadLetter.objects.get(org_id=failure.org.id)
    assert letter.status == "failed"
    again = {change.run_id for change in letter.changes.filter(what="failed again")}
    assert again == {first, second}


# --- what is no repair, and what force does ------------------------------------------------------------------------


def test_a_completed_run_is_replayed_as_often_as_somebody_wishes(org: Organization, api_key: str) -> None:
    api, run_id = Api(api_key), start(org, [NOOP])
    end(claim(run_id, "a"))
    for _ in range(3):
        assert api.post(f"/runs/{run_id}/replay").status_code == 202
    assert set(Run.objects.filter(origin_id=run_id).values_list("repair_root_id", flat=True)) == {None}
    assert api.get(f"/runs/{run_id}").json()["repairedBy"] is None
    again = Run.objects.filter(origin_id=run_id)[0]
    fail(again.id)  # a failure of its own
    assert DeadLetter.objects.get(org_id=org.id).first_run_id == again.id


def test_a_completed_run_with_an_open_letter_is_repaired_once(org: Organization, api_key: str) -> None:
    api, run_id = Api(api_key), start(org, [{**NOOP, "critical": False}])
    fail(run_id)
    assert Run.objects.get(id=run_id).status == "completed"
    first = api.post(f"/runs/{run_id}/replay").json()["runId"]
    assert DeadLetter.objects.get(run_id=run_id).status == "reprocessed"
    assert api.post(f"/runs/{run_id}/replay").json()["repairRunId"] == first


def test_a_cancelled_run_is_resumed_once(org: Organization, api_key: str) -> None:
    api, run_id = Api(api_key), start(org, [NOOP])
    services.cancel_run(org, run_id)
    first = api.post(f"/runs/{run_id}/replay", {"mode": "resume"}).json()["runId"]
    assert api.post(f"/runs/{run_id}/replay", {"mode": "resume"}).json()["repairRunId"] == first


def test_a_fork_is_no_repair(failure: Failure) -> None:
    for _ in range(2):
        assert failure.api.post(f"/runs/{failure.run_id}/fork", {"fromSteps": ["a"]}).status_code == 202
    letter = DeadLetter.objects.get(org_id=failure.org.id)
    assert (letter.status, letter.replay_run_id) == ("failed", None)
    assert failure.api.post(f"/runs/{failure.run_id}/replay", {"mode": "resume"}).status_code == 202


FORCED: dict[str, Callable[[Failure], Answer]] = {
    "runs over REST": lambda f: Answer(made=f.api.post(f"/runs/{f.run_id}/replay", {"force": True}).status_code == 202, text=""),
    "dead letters over REST": lambda f: Answer(
        made=f.api.post(f"/dlq/{f.letter_id}/replay", {"force": True, "mode": "resume"}).status_code == 202, text=""
    ),
    "runs command": command("runs", "replay", "{run}", "--force"),
    "dlq command": command("dlq", "replay", "{letter}", "--force", "--mode", "resume"),
    "runs in bulk": in_bulk("replay_runs", force=True),
}  # fmt: skip


@pytest.mark.parametrize("door", FORCED)
def test_force_repairs_once_more(failure: Failure, door: str) -> None:
    first = failure.api.post(f"/runs/{failure.run_id}/replay", {"mode": "resume"}).json()["runId"]
    end(claim(UUID(first), "a"))
    repairs.settle()
    assert FORCED[door](failure).made
    second = Run.objects.get(origin_id=failure.run_id, repair_number=2)
    letter = DeadLetter.objects.get(org_id=failure.org.id)
    assert (letter.status, letter.replay_run_id) == ("reprocessed", second.id)
    assert [change.reason for change in letter.changes.filter(run_id=second.id)] == ["Once more, by force."]


def test_the_pages_ask_before_they_repair_once_more(failure: Failure) -> None:
    failure.api.post(f"/runs/{failure.run_id}/replay", {"mode": "resume"})
    client = failure.client()
    page = client.get(f"/runs/{failure.run_id}/?org={failure.org.id}").content.decode()
    assert "Repair once more" in page
    assert "<button>Resume</button>" not in page
    for path, chosen in (("headrace_workflows/run", failure.run_id), ("headrace_dlq/deadletter", failure.letter_id)):
        made = len(failure.repairs)
        form = {"action": "resume_once_more", "_selected_action": [str(chosen)]}
        asked = client.post(f"/admin/{path}/", form)
        assert "Yes, once more" in asked.content.decode()
        assert len(failure.repairs) == made
        assert client.post(f"/admin/{path}/", {**form, "confirmed": "yes"}).status_code == 302
        assert len(failure.repairs) == made + 1
    made = len(failure.repairs)
    client.post(f"/runs/{failure.run_id}/replay/resume/", {"force": "yes"})
    assert len(failure.repairs) == made + 1


# --- in bulk -------------------------------------------------------------------------------------------------------


def test_a_bulk_operation_skips_and_counts_what_was_repaired(org: Organization, api_key: str) -> None:
    api, slug = Api(api_key), publish(org, [NOOP])
    run_ids = services.trigger_many(org, slug, [{}] * 3).run_ids
    for run_id in run_ids:
        fail(run_id)
    api.post(f"/runs/{run_ids[1]}/replay")
    started = api.post("/runs/bulk/replay", {"filter": {"status": "failed"}, "mode": "resume"}).json()
    while api.get(f"/operations/{started['id']}").json()["status"] == "running":
        bulk.pump()
    ended = api.get(f"/operations/{started['id']}").json()
    assert {name: ended[name] for name in ("matched", "done", "repairedBefore", "passedOver", "problems")} == {
        "matched": 3, "done": 2, "repairedBefore": 1, "passedOver": 0, "problems": [],
    }  # fmt: skip
    assert Run.objects.filter(origin_id__in=run_ids).count() == 3


# --- what 0.1.0 left -----------------------------------------------------------------------------------------------


def test_repairs_and_letters_of_earlier_versions_become_chains(org: Organization) -> None:
    """Run 0 failed; 1 (by the dead letter) failed too; 2 (a resume of 1, by the run) completed; 3 is a second one of 1."""
    from importlib import import_module

    migration = import_module("dlq.migrations.0003_repair")
    runs = services.trigger_many(org, publish(org, [NOOP]), [{}] * 4).run_ids
    for number, run_id in enumerate(runs):
        fail(run_id) if number in {0, 1} else end(claim(run_id, "a"))
    for later, kind, earlier in ((1, "replay", 0), (2, "resume", 1), (3, "resume", 1)):
        Run.objects.filter(id=runs[later]).update(origin_id=runs[earlier], origin_kind=kind)
    DeadLetter.objects.filter(run_id=runs[0]).update(status="reprocessed", replay_run_id=runs[1])
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE headrace_dlq_deadletter DROP CONSTRAINT dead_letter_once"
            )  # not there yet at that time
            for _ in range(2):  # a second time changes nothing
                for statement in (migration.NUMBER_REPAIRS, migration.NAME_PLACES, migration.CLOSE_REPAIRED):
                    cursor.execute(statement)
        numbers = Run.objects.filter(id__in=runs).order_by("id").values_list("repair_root_id", "repair_number")
        assert list(numbers) == [(None, 0), (runs[0], 1), (runs[0], 2), (runs[0], 3)]
        old, new = DeadLetter.objects.filter(org_id=org.id).order_by("run_id")
        assert (old.first_run_id, old.place) == (runs[0], f"a#{old.id}")
        assert (new.first_run_id, new.place, new.status, new.replay_run_id) == (runs[0], "a", "reprocessed", runs[2])
        assert new.changes.get().by == "the upgrade"
        with pytest.raises(AlreadyRepaired):
            dlq.replay(org, new.id, by="me")
        transaction.set_rollback(True)  # it has numbered the repairs of all other tests too
