"""A verb that begins to refer to an ended run, and the pass that deletes it, at the same moment and in both orders: either
the verb was first, and the run stays; or it finds no run, and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction
from django.utils import timezone

from dlq import services as dlq
from dlq.errors import DeadLetterNotFound
from dlq.models import DeadLetter
from tests.integration.retention.history import ended, failed
from workflows import signals
from workflows.engine.retention import history
from workflows.engine.sql import retention as sql
from workflows.errors import RunNotFound, WorkflowsError
from workflows.models import Organization, PrunedRun, Run, StepRun
from workflows.services import repair

pytestmark = pytest.mark.usefixtures("published")
PATIENCE_S = 20.0


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """The work on a connection of its own; what it gives, or raises."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def delete(run_id: UUID) -> history.Outcome:
    return history.delete_runs([run_id], before=timezone.now())


def _fork(org: Organization, run_id: UUID) -> Any:
    return repair.fork_run(org, run_id, ["a"]).run_id


def _replay(org: Organization, run_id: UUID) -> Any:
    return repair.replay(org, run_id, by="me").run_id


def _replay_letter(org: Organization, run_id: UUID) -> Any:
    letter = DeadLetter.objects.filter(run_id=run_id).values_list("id", flat=True)[0]
    return dlq.replay(org, letter, by="me", mode="resume", force=True).run_id


def _reopen_letter(org: Organization, run_id: UUID) -> Any:
    return dlq.reopen(org, DeadLetter.objects.filter(run_id=run_id).values_list("id", flat=True)[0], by="me")


def _ended(org: Organization) -> UUID:
    return ended(org)


def _with_ignored_letter(org: Organization) -> UUID:
    run_id = failed(org)
    DeadLetter.objects.filter(run_id=run_id).update(status="ignored")
    return run_id


def _with_repaired_letter(org: Organization) -> UUID:
    run_id = failed(org)
    DeadLetter.objects.filter(run_id=run_id).update(status="reprocessed")
    return run_id


VERBS = {
    "fork": (_ended, _fork),
    "replay": (_ended, _replay),
    "replay of a letter by force": (_with_repaired_letter, _replay_letter),
    "reopening a letter": (_with_ignored_letter, _reopen_letter),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_verb_is_first_and_the_run_stays(org: Organization, verb: str) -> None:
    make, act = VERBS[verb]
    run_id = make(org)
    with transaction.atomic():
        act(org, run_id)
        thread, results = in_thread(lambda: delete(run_id))
        thread.join(PATIENCE_S)  # it waits for nobody
        assert not thread.is_alive()
        assert results[0].deleted == []
    assert delete(run_id).deleted == []  # what refers to it is committed
    assert Run.objects.filter(id=run_id).exists()
    assert StepRun.objects.filter(run_id=run_id).exists()


@pytest.mark.parametrize("verb", VERBS)
def test_deleting_is_first_and_the_verb_says_that_the_run_is_gone(org: Organization, verb: str) -> None:
    make, act = VERBS[verb]
    run_id = make(org)
    with held_open() as (reached, go_on):
        deleting, deleted = in_thread(lambda: delete(run_id))
        assert reached.wait(PATIENCE_S)
        acting, answers = in_thread(lambda: act(org, run_id))
        acting.join(0.3)  # it waits for the transaction that deletes, or has not come so far yet
        go_on.set()
        deleting.join(PATIENCE_S)
        acting.join(PATIENCE_S)
    assert deleted[0].deleted == [run_id]
    assert isinstance(answers[0], RunNotFound | DeadLetterNotFound), answers
    assert isinstance(answers[0], WorkflowsError)
    assert answers[0].status == 404
    assert not Run.objects.filter(org_id=org.id).exists()
    assert not DeadLetter.objects.filter(org_id=org.id).exists()


@contextmanager
def held_open() -> Iterator[tuple[threading.Event, threading.Event]]:
    """The transaction that deletes runs waits before it does, until it may go on."""
    reached, go_on = threading.Event(), threading.Event()

    def wait(**_: Any) -> None:
        reached.set()
        assert go_on.wait(PATIENCE_S)

    signals.runs_deleted.connect(wait)
    try:
        yield reached, go_on
    finally:
        go_on.set()
        signals.runs_deleted.disconnect(wait)


def test_a_fork_between_the_pick_and_the_locks_is_seen(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was picked by a look from before is looked at again by a statement after the locks."""
    run_id = ended(org)
    locked = sql.lock_expired_runs

    def fork_then_lock(**parameters: Any) -> Any:
        thread, _ = in_thread(lambda: _fork(org, run_id))
        thread.join(PATIENCE_S)
        return locked(**parameters)

    monkeypatch.setattr(sql, "lock_expired_runs", fork_then_lock)
    assert delete(run_id).held == {"a repeat of it, or what handles its failure, is open": 1}


def test_two_that_delete_at_the_same_time_are_in_nobody_s_way(org: Organization) -> None:
    ids = [ended(org) for _ in range(5)]
    with held_open() as (reached, go_on):
        one, first = in_thread(lambda: history.delete_runs(ids[:3], before=timezone.now()))
        assert reached.wait(PATIENCE_S)
        go_on.set()
        two, second = in_thread(lambda: history.delete_runs(ids, before=timezone.now()))
        for thread in (one, two):
            thread.join(PATIENCE_S)
    while history.delete_remains(ids, 2):
        pass
    assert sorted(first[0].deleted) == sorted(ids[:3])
    assert set(ids[3:]) <= set(second[0].deleted)
    assert not Run.objects.filter(id__in=ids).exists()
    assert not PrunedRun.objects.filter(org_id=org.id).exists()
    assert not StepRun.objects.filter(org_id=org.id).exists()
