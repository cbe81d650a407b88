"""Messages that the broker has lost: their steps are published again.

Messages of a queue are delivered in order. A message counts as lost only when one published well after it has been
claimed, or when the queue is empty and no worker holds a message: a long queue is never mistaken for a lost one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from workflows.engine.maintenance import sweeps
from workflows.engine.maintenance.gate_sync import GateSync
from workflows.engine.pipeline import admit, publish
from workflows.engine.sql import publish as publish_sql
from workflows.engine.sql import rescue as rescue_sql
from workflows.engine.sql.gate_sync import QueueStatesRow
from workflows.engine.state.records import ReadyStep
from workflows.steps.registry import QUEUES
from workflows.this_process.celery_app import app

log = structlog.get_logger(__name__)
OVERTAKEN_BY_S = 5.0
OVERTAKEN_WHILE_HELD_S = 60.0
DELIVERED_WITHIN_S = 5.0
BATCH = 1_000


def queue_lengths() -> dict[str, int]:
    """Messages waiting in the broker, by queue. Raises where the broker does not answer."""
    with app.connection_for_read(connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        channel = connection.default_channel
        lengths = {}
        for name in QUEUES:
            try:
                lengths[name] = channel.queue_declare(queue=name, passive=True).message_count
            except channel.connection.channel_errors:
                lengths[name] = 0
                channel = connection.channel()
        return lengths


def publish_lost(states: Mapping[str, QueueStatesRow], sync: GateSync) -> int:
    """Publish again what the broker has lost.

    Messages of a queue are delivered in order. So what was dispatched before the newest claimed dispatch, less a
    margin, is lost; and where the queue is empty and a worker of it is idle, all that is older than a moment is.
    """
    try:
        lengths = queue_lengths()
    except (KombuError, RedisError, AMQPError, OSError) as error:
        log.info("the broker does not answer", error=str(error))
        return 0
    touched = 0

    def look(names: Sequence[str]) -> None:
        nonlocal touched
        touched += sum(_publish_lost_of(name, states[name], lengths[name], sync) for name in names)

    # The messages of a queue that nobody works on wait.
    sweeps.isolated(
        sweeps.Items(name="lost messages of a queue", work=look), [name for name in QUEUES if name in states]
    )
    return touched


def _publish_lost_of(name: str, state: QueueStatesRow, length: int, sync: GateSync) -> int:
    margin_s = OVERTAKEN_BY_S if state.unclaimed == 0 else OVERTAKEN_WHILE_HELD_S
    idle = length == 0 and state.unclaimed == 0 and state.active < state.slots
    idle = sync.idle_for(name, idle) > DELIVERED_WITHIN_S
    rows = rescue_sql.rescue_lost_messages(
        queue=name,
        before=(state.claimed_until or 0.0) - margin_s,
        idle_s=DELIVERED_WITHIN_S if idle else None,
        batch=BATCH,
    )
    lost = not_at_the_gate([row.id for row in rows]) if rows else []
    if not lost:
        return 0
    log.warning("messages were lost, publishing again", queue=name, steps=len(lost))
    again = rescue_sql.publish_again(ids=lost)
    publish.dispatch([ReadyStep.of(row) for row in again])
    return len(again)


def not_at_the_gate(ids: list[UUID]) -> list[UUID]:
    """Those that neither wait for a limit (which is noted of them) nor were granted just now."""
    if not admit.is_on():
        return ids
    places = admit.gate().places([id_.hex for id_ in ids])
    waiting = [id_ for id_ in ids if places.get(id_.hex, ("", 0.0))[0] == "waiting"]
    if waiting:
        publish_sql.mark_parked(ids=waiting)
    return [id_ for id_ in ids if places.get(id_.hex, ("", math.inf))[1] > DELIVERED_WITHIN_S]
