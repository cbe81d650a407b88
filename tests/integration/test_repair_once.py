"""One failure is repaired once: by whichever door, by two at the same time, and its dead letter goes on with its repairs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from itertools import combinations_with_replacement
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from django.utils import timezone

from dlq import services as dlq
from dlq.models import DeadLetter
from tests.by_hand import fail, start
from tests.integration.test_api import Api
from workflows import bulk
from workflows.models import BulkOperation, Organization, Run

pytestmark = pytest.mark.usefixtures("published")
NOOP = {"id": "a", "type": "noop"}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that failed, its dead letter, and the keys to every door."""

    org: Organization
    api: Api
    user: User
    run_id: UUID
    letter_id: UUID

    @property
    def repairs(self) -> list[Run]:
        return list(Run.objects.filter(org_id=self.org.id, origin_id=self.run_id))

    def client(self) -> Client:
        client = Client()
        client.force_login(self.user)
        return client


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a door said. `talks`: it says to its user which run came first."""

    made: bool
    text: str
    talks: bool = True


@pytest.fixture
def failure(org: Organization, api_key: str) -> Failure:
    run_id = start(org, [NOOP])
    fail(run_id)
    user = User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}")
    letter = DeadLetter.objects.get(run_id=run_id)
    return Failure(org=org, api=Api(api_key), user=user, run_id=run_id, letter_id=letter.id)


def rest(path: str, mode: str) -> Callable[[Failure], Answer]:
    def door(failure: Failure) -> Answer:
        answer = failure.api.post(path.format(run=failure.run_id, letter=failure.letter_id), {"mode": mode})
        assert answer.status_code in {202, 409}, answer.text
        return Answer(made=answer.status_code == 202, text=answer.text)

    return door


def command(*arguments: str) -> Callable[[Failure], Answer]:
    def door(failure: Failure) -> Answer:
        out = StringIO()
        words = [each.format(run=failure.run_id, letter=failure.letter_id) for each in arguments]
        try:
            call_command(*words, "--org", failure.org.slug, stdout=out)
        except CommandError as error:
            return Answer(made=False, text=str(error))
        return Answer(made=True, text=out.getvalue())

    return door


def dashboard(failure: Failure) -> Answer:
    answer = failure.client().post(f"/runs/{failure.run_id}/replay/resume/?org={failure.org.id}", follow=True)
    assert answer.status_code == 200
    return Answer(made=str(failure.run_id) not in answer.redirect_chain[-1][0], text=answer.content.decode())


def admin(path: str, action: str) -> Callable[[Failure], Answer]:
    def door(failure: Failure) -> Answer:
        chosen = failure.run_id if "run" in path else failure.letter_id
        answer = failure.client().post(
            f"/admin/{path}/", {"action": action, "_selected_action": [str(chosen)]}, follow=True
        )
        assert answer.status_code == 200
        text = answer.content.decode()
        return Answer(made="messagelist" in text and 'class="success"' in text, text=text)

    return door


def in_bulk(action: str, **options: Any) -> Callable[[Failure], Answer]:
    def door(failure: Failure) -> Answer:
        where = {"status": "failed"} if action == "replay_runs" else {}
        operation = bulk.start(failure.org, action, where, by="me", options=options)
        while True:
            operation = BulkOperation.objects.get(id=operation.id)
            if operation.status != "running":
                break
            bulk.pump()
        assert operation.passed_over == 0, operation.problems
        return Answer(made=operation.done == 1, text="", talks=False)

    return door


def by_itself(failure: Failure) -> Answer:
    DeadLetter.objects.filter(id=failure.letter_id, status="failed").update(auto_replay_at=timezone.now())
    dlq.replay_due()
    by = DeadLetter.objects.get(id=failure.letter_id).changes.filter(by="automatic replay", run_id__isnull=False)
    return Answer(made=by.exists(), text="", talks=False)


DOORS: dict[str, Callable[[Failure], Answer]] = {
    "runs over REST": rest("/runs/{run}/replay", "start"),
    "runs over REST, resumed": rest("/runs/{run}/replay", "resume"),
    "dead letters over REST": rest("/dlq/{letter}/replay", "start"),
    "dead letters over REST, resumed": rest("/dlq/{letter}/replay", "resume"),
    "runs command": command("runs", "replay", "{run}", "--mode", "resume"),
    "dlq command": command("dlq", "replay", "{letter}"),
    "dashboard": dashboard,
    "runs in the admin": admin("workflows/run", "resume"),
    "dead letters in the admin": admin("dlq/deadletter", "replay"),
    "runs in bulk": in_bulk("replay_runs", mode="resume"),
    "dead letters in bulk": in_bulk("replay_dead_letters"),
    "by itself": by_itself,
}


def at_once(failure: Failure, *doors: str) -> list[Answer]:
    """Everybody goes through their door at the same moment."""
    gate, answers, errors = threading.Barrier(len(doors)), [], []

    def go(name: str) -> None:
        try:
            gate.wait(20)
            answers.append(DOORS[name](failure))
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=go, args=(name,)) for name in doors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    return answers


def assert_repaired_once(failure: Failure, answers: list[Answer]) -> None:
    (repair,) = failure.repairs
    letter = DeadLetter.objects.get(org_id=failure.org.id)
    assert (letter.status, letter.replay_run_id) == ("reprocessed", repair.id)
    assert [answer.made for answer in answers].count(True) == 1
    for answer in answers:
        assert not answer.talks or str(repair.id) in answer.text


@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("first", ["runs over REST, resumed", "dead letters over REST"])
def test_a_second_repair_is_refused_with_the_id_of_the_first(failure: Failure, first: str, second: str) -> None:
    answers = [DOORS[name](failure) for name in (first, second)]
    assert answers[0].made
    assert_repaired_once(failure, answers)


@pytest.mark.parametrize(("one", "two"), list(combinations_with_replacement(DOORS, 2)))
def test_two_doors_at_once_make_one_repair(failure: Failure, one: str, two: str) -> None:
    if (one, two) == ("by itself", "by itself"):
        pytest.skip("Two leaders: both see the same letter; `made` can't tell them apart.")
    assert_repaired_once(failure, at_once(failure, one, two))


def test_everybody_at_once_makes_one_repair(failure: Failure) -> None:
    assert_repaired_once(failure, at_once(failure, *[name for name in DOORS if name != "by itself"]))


def test_a_refusal_names_the_first_repair_in_a_field(failure: Failure) -> None:
    first = failure.api.post(f"/runs/{failure.run_id}/replay", {"mode": "resume"}).json()["runId"]
    for path in (f"/runs/{failure.run_id}/replay", f"/dlq/{failure.letter_id}/replay"):
        for body in ({"mode": "resume"}, {"mode": "start"}, {"mode": "resume", "dryRun": True}):
            answer = failure.api.post(path, body)
            assert answer.status_code == 409
            document = answer.json()
            assert (document["code"], document["repairRunId"]) == ("already_repaired", first)
            assert "force" in document["detail"]
    assert failure.api.get(f"/runs/{failure.run_id}").json()["repairedBy"] == first


# --- a failure of a repair -----------------------------------------------------------------------------------------


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
