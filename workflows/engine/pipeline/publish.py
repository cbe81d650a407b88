"""Publishing: ready steps travel to the workers, many of one type to a message, all messages in one pipeline.

A message carries ids and attempts only. Losing one is no loss: rescue finds the step. Publishing one twice is none
either: a claim admits one.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from amqp.exceptions import AMQPError
from kombu.exceptions import BatchPublishError, KombuError
from redis.exceptions import RedisError

from throttling.answers import Answer
from throttling.errors import EpochClosed, StoreUnavailable
from workflows.edge.unavailable import is_database_away
from workflows.engine.pipeline import admit, batch_size, hints, prepare
from workflows.engine.sql import publish as sql
from workflows.engine.state import flow_cache
from workflows.engine.state.records import ReadyStep
from workflows.engine.worker import ending
from workflows.errors import UnloadableVersion
from workflows.steps.registry import REGISTRY, StepType
from workflows.this_process.celery_app import app

log = structlog.get_logger(__name__)
MAX_PIPELINE = 500
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_HEADERS: dict[str, Any] = {
    "lang": "py",
    "root_id": None,
    "parent_id": None,
    "group": None,
    "retries": 0,
    "eta": None,
    "expires": None,
    "timelimit": [None, None],
    "argsrepr": "",
    "kwargsrepr": "",
    "origin": "headrace",
    "ignore_result": True,
}
GATE_ERRORS = (StoreUnavailable, EpochClosed)
PUBLISH_ERRORS = (KombuError, RedisError, AMQPError, OSError, BatchPublishError)


def messages(steps: Iterable[ReadyStep]) -> Iterator[tuple[str, str, list[tuple[str, int]]]]:
    """Group steps into (queue, task name, [(id, attempt), …]), by type and by what fits one message."""
    by_type = sorted(steps, key=lambda step: (step.queue, step.type))
    for (queue_name, type_name), group in itertools.groupby(by_type, key=lambda step: (step.queue, step.type)):
        members = list(group)
        step_type = REGISTRY[type_name]
        together = [member for member in members if not member.isolated]
        size = min((_batch_size(step_type, member) for member in together), default=1)
        chunks = [together[start : start + size] for start in range(0, len(together), size)]
        for chunk in (*chunks, *([member] for member in members if member.isolated)):
            yield queue_name, step_type.task_name, [(str(step.id), step.attempt) for step in chunk]


def _batch_size(step_type: StepType, step: ReadyStep) -> int:
    flow = flow_cache.find(step.version_id)
    if flow is None or step.key not in flow.steps:
        return 1
    mode = flow.steps[step.key].mode
    return batch_size.batch_size(step_type, mode, step.version_id, step.key)


def publish(steps: Sequence[ReadyStep]) -> None:
    """Publish all of them in one pipeline. Raises an error of PUBLISH_ERRORS; delivery is uncertain then."""
    _send_all(list(messages(steps)))


def send_on(step_type: StepType, batch: Sequence[tuple[str, int]], size: int) -> None:
    """Publish a part of a message that has come, in messages of this size. Raises as `publish` does."""
    chunks = [list(batch[start : start + size]) for start in range(0, len(batch), size)]
    _send_all([(step_type.queue, step_type.task_name, chunk) for chunk in chunks])


def _send_all(prepared: Sequence[tuple[str, str, list[tuple[str, int]]]]) -> None:
    with app.producer_or_acquire() as producer:
        if len(prepared) == 1:
            _send(producer, *prepared[0])
            return
        with producer.batch(max_size=MAX_PIPELINE):
            for message in prepared:
                _send(producer, *message)


def _send(producer: Any, queue: str, task: str, batch: list[tuple[str, int]]) -> None:
    task_id = str(uuid.uuid4())
    producer.publish(
        [[batch], {}, _EMBED],
        exchange="",
        routing_key=queue,
        serializer="json",
        delivery_mode=2,
        headers={**_HEADERS, "id": task_id, "task": task},
        correlation_id=task_id,
        retry=False,
    )


def dispatch(steps: Sequence[ReadyStep]) -> None:
    """Prepare the steps (evaluate conditions, skip), ask the gate for permits, and publish those that have them.

    A broker or a store that does not answer is no error here: the steps are noted as not dispatched, and rescue tries
    again. A step that can't be dispatched (its type is unknown to this process) does not keep the others back.
    """
    for step, error in attempt(steps):
        log.warning("this step can't be dispatched", step_run_id=str(step.id), type=step.type, reason=str(error))


Culprit = tuple[ReadyStep, BaseException]


def attempt(steps: Sequence[ReadyStep]) -> list[Culprit]:
    """Dispatch the steps, in halves where they can't be together. Returns those that can't be dispatched, and why.

    Raises only where the database is away.
    """
    try:
        return dispatch_together(steps)
    except BaseException as error:
        ending.raise_if_ending(error)
        if is_database_away(error):
            raise
        if len(steps) == 1:
            return [(steps[0], error)]
        log.warning("dispatch failed, trying the steps in halves", steps=len(steps), exc_info=error)
        middle = len(steps) // 2
        return [*attempt(steps[:middle]), *attempt(steps[middle:])]


class NotMine(UnloadableVersion):
    """The step is of a version that this process does not know how to load; a process of a newer release may."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The version of {key!r} is newer.", newer=True)


def dispatch_together(steps: Sequence[ReadyStep]) -> list[Culprit]:
    """Dispatch the steps; raises where one of them keeps the others from it. Returns as `attempt` does."""
    prepared = prepare.prepare(steps)
    withdraw(prepared.unstarted, prepared.ended)
    left: list[Culprit] = [(step, NotMine(step.key)) for step in prepared.left]
    if not prepared.steps:
        return left
    if not admit.is_on():
        return left + _publish_marked(prepared.steps)
    try:
        answer = admit.gate().admit(admit.requests(prepared.steps))
    except GATE_ERRORS as error:
        leave_ready(prepared.steps, error)
        return left
    return left + publish_granted(answer, prepared.steps)


def leave_ready(steps: Sequence[ReadyStep], error: Exception) -> None:
    """The gate admits nothing now: the steps stay ready, and rescue asks again."""
    log.info("steps stay ready", steps=len(steps), reason=str(error))
    hints.send()  # a gate that is closed is opened by the leader
    marked = [step.id for step in steps if not step.needs_prepare]
    if marked:
        sql.mark_dispatched(ids=marked, published=False)


def publish_granted(answer: Answer, requested: Sequence[ReadyStep] = ()) -> list[Culprit]:
    """Publish what the gate has granted: steps that asked, and others whose turn it was. Returns those that can't be
    published, and why; they stay ready.

    Where there is more to hand over than one call does, the leader goes on: nobody here waits for it.
    """
    known = {step.id.hex: step for step in requested}
    admit.sync_revision(answer)
    if answer.parked or answer.more:
        hints.send()
    started = {*answer.granted, *answer.taken}
    waiting = [known[id_] for id_ in answer.parked if id_ in known and id_ not in started]
    noted = [step.id for step in waiting if step.needs_prepare]
    if noted:
        sql.mark_parked(ids=noted)
    return _publish_ids(answer.granted, known)


def _publish_ids(granted: Sequence[str], known: Mapping[str, ReadyStep]) -> list[Culprit]:
    ready = [known[id_] for id_ in granted if id_ in known and not known[id_].needs_prepare]
    others = [id_ for id_ in granted if id_ not in known or known[id_].needs_prepare]
    if others:
        rows = sql.mark_dispatched(ids=[uuid.UUID(id_) for id_ in others], published=True)
        ready += [ReadyStep.of(row) for row in rows]
        gone = set(others) - {row.id.hex for row in rows}
        if gone:
            withdraw([uuid.UUID(id_) for id_ in gone])
    return _publish_marked(ready) if ready else []


def withdraw(ids: Iterable[uuid.UUID], runs: Iterable[uuid.UUID] = (), *, sleepers: Iterable[uuid.UUID] = ()) -> None:
    """Steps that will not start, and runs that have ended, give back what they hold at the gate; runs that only wait
    their places."""
    if not admit.is_on():
        return
    unused, ended, waiting = [id_.hex for id_ in ids], [run.hex for run in runs], [run.hex for run in sleepers]
    if not unused and not ended and not waiting:
        return
    try:
        publish_granted(admit.gate().release({}, unused=unused, runs=ended, sleepers=waiting))
    except GATE_ERRORS as error:
        log.info("permits could not be given back; the audit will", permits=len(unused), reason=str(error))


def _publish_marked(steps: Sequence[ReadyStep]) -> list[Culprit]:
    unmarked = [step.id for step in steps if step.needs_prepare]
    if unmarked:
        sql.mark_dispatched(ids=unmarked, published=True)
    try:
        publish(steps)
    except PUBLISH_ERRORS as error:
        log.warning("broker does not answer, steps stay ready", steps=len(steps), error=str(error))
        sql.mark_dispatched(ids=[step.id for step in steps], published=False)
    except BaseException as error:  # one of them is bad: its type is unknown to this process, say
        ending.raise_if_ending(error)
        if len(steps) == 1:
            log.warning("this step can't be published", step_run_id=str(steps[0].id), reason=str(error))
            sql.mark_dispatched(ids=[steps[0].id], published=False)
            return [(steps[0], error)]
        marked, middle = [replace(step, needs_prepare=False) for step in steps], len(steps) // 2
        return _publish_marked(marked[:middle]) + _publish_marked(marked[middle:])
    return []
