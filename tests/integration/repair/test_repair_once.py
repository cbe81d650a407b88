"""One failure is repaired once: by whichever door, by two at the same time, and its dead letter goes on with its repairs."""

from __future__ import annotations

import threading
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
from tests.integration.api.test_api import Api
from workflows.models import BulkOperation, Organization, Run
from workflows.services import bulk

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
    "runs in the admin": admin("headrace_workflows/run", "resume"),
    "dead letters in the admin": admin("headrace_dlq/deadletter", "replay"),
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
    assert len(answers) == len(doors)
    return answers


def assert_repaired_once(failure: Failure, answers: list[Answer]) -> None:
    (repair,) = failure.repairs
    letter = DeadLetter.objects.get(org_id=failure.org.id)
    assert (letter.status, letter.replay_run_id) == ("reprocessed", repair.id)
    assert [answer.made for answer in answers].count(True) == 1
    for answer in answers:
        assert answer.made or not answer.talks or str(repair.id) in answer.text


@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("first", ["runs over REST, resumed", "dead letters over REST"])
def test_a_second_repair_is_refused_with_the_id_of_the_first(failure: Failure, first: str, second: str) -> None:
    answers = [DOORS[name](failure) for name in (first, second)]
    assert answers[0].made
    assert_repaired_once(failure, answers)


@pytest.mark.parametrize(("one", "two"), list(combinations_with_replacement(DOORS, 2)))
def test_two_doors_at_once_make_one_repair(failure: Failure, one: str, two: str) -> None:
    answers = at_once(failure, one, two)
    if one == two == "by itself":  # two leaders look at one letter: each may see what the other has made
        answers = [answer for answer in answers if answer.made][:1]
    assert_repaired_once(failure, answers)


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
