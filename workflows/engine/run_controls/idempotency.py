"""Idempotency: within a window, one key gives one run. A key is the caller's, the event's id, or the flow's own.

Keys live in a table of their own and are taken in the transaction that makes the run, so that of two callers at once
one waits for the other, and gets its run.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

import psycopg
from django.db import connection, transaction
from django.db.models.functions import Now

from throttling.errors import ThrottlingError
from throttling.limits import key_text
from workflows import this_process
from workflows.definitions.compiled import CompiledFlow
from workflows.engine.sql import run_controls as sql
from workflows.errors import ExpressionError, IdempotencyConflict, InvalidInput, MissingField
from workflows.expressions import Expression
from workflows.models import IdempotencyKey
from workflows.this_process.configuration import configuration

WINDOW_S = 24 * 3_600.0
WAIT_MS = 2_000
MAX_CHARACTERS = 190
_BODY_ID = re.compile(r"\A[^:]*:body:([0-9]{1,9}):[0-9a-f]{64}\Z")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run to be made: its id, its keys with their windows, and whether it is made whatever they say."""

    run_id: UUID
    keys: tuple[tuple[str, float], ...]
    force: bool


def callers(key: str) -> tuple[str, float]:
    """The key that a caller gives."""
    return f"k:{_short(key)}", WINDOW_S


def body_id(sender: str, body: bytes, window_ms: int) -> str:
    """The id of a delivery that has none of its own: the same for the same body, which counts within the window."""
    return f"{sender}:body:{window_ms}:{hashlib.sha256(body).hexdigest()}"


def events(external_id: str, *, delivered: bool = False) -> tuple[str, float]:
    """The key of an event's id, as its sender gave it, or (`delivered`: by a webhook) as `body_id` made it."""
    made = _BODY_ID.search(external_id) if delivered else None
    return f"e:{_short(external_id)}", int(made[1]) / 1000 if made else WINDOW_S


def matches(path: str, value_hash: str) -> tuple[str, float]:
    """The key of what stands at a path of an event, where its trigger asks for it (`match`)."""
    return f"m:{_short(f'{path}={value_hash}')}", WINDOW_S


def flows(flow: CompiledFlow, facts: Mapping[str, object]) -> tuple[tuple[str, float] | None, bool]:
    """The key by the flow's `idempotency`, and whether it is forced.

    Raises InvalidInput where it gives no text and no number.
    """
    own = flow.idempotency
    if own is None:
        return None, False
    try:
        value = key_text(own.key.evaluate(facts))
    except (ExpressionError, ThrottlingError) as error:
        raise InvalidInput(f"The flow's idempotency key `{own.key.source}` {_reason(error)}") from None
    return (f"f:{_short(value)}", own.window_s), own.force is not None and _holds(own.force, facts)


def _reason(error: Exception) -> str:
    return f"can't be evaluated: {error}" if isinstance(error, ExpressionError) else f"{error}."


def _holds(force: Expression, facts: Mapping[str, object]) -> bool:
    try:
        return force.is_true(facts)
    except MissingField:
        return False


def _short(key: str) -> str:
    try:
        text = key_text(key)
    except ThrottlingError as error:
        raise InvalidInput(f"The idempotency key {error}.") from None
    return text if len(text) <= MAX_CHARACTERS else f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"


_OF_FLOWS, _HASHED = "f:", "f:sha256-"


class Hashing(set[UUID]):
    """The organizations whose flows' keys are stored hashed: they stay so for good."""


class Reserved(NamedTuple):
    """`stands_for`: by run id, the run itself or the earlier run that has one of its keys. `wanted`: the runs with
    their keys as they are stored."""

    stands_for: dict[UUID, UUID]
    wanted: Sequence[Wanted]


def _as_stored(org_id: UUID, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
    """The runs with their keys as the organization stores them: one that encrypts its payloads has those that flows
    compute hashed. Within the caller's transaction, in which that stays so.

    A process must not go by what it knew seconds ago: two that store a key differently would make two runs. So the form
    is read by a statement after the one that waits for its lock: a statement sees what was committed when it began.
    """
    if not any(key.startswith(_OF_FLOWS) for each in wanted for key, _ in each.keys) or not _is_hashing(org_id):
        return wanted
    return [replace(each, keys=tuple((hashed(key), window_s) for key, window_s in each.keys)) for each in wanted]


def hashed(key: str) -> str:
    """The key as it is stored where those of flows are hashed."""
    if not key.startswith(_OF_FLOWS) or key.startswith(_HASHED):
        return key
    return f"{_HASHED}{hashlib.sha256(key.removeprefix(_OF_FLOWS).encode()).hexdigest()}"


def hash_keys(org_id: UUID) -> None:
    """From now on, and for good, store the keys that flows of an organization compute hashed. Within the caller's
    transaction, until whose end no other one takes such a key."""
    sql.lock_key_form(org=org_id, alone=True)
    sql.hash_keys(org=org_id)


def _is_hashing(org_id: UUID) -> bool:
    known = this_process.own(Hashing)
    if org_id not in known:
        if configuration().encrypt_payloads and not sql.hashes_keys(org=org_id)[0].hashed:
            hash_keys(org_id)
            return True  # (the transaction may be rolled back: it is not noted)
        sql.lock_key_form(org=org_id, alone=False)
        if not sql.hashes_keys(org=org_id)[0].hashed:
            return False
        transaction.on_commit(lambda: known.add(org_id))
    return True


def reserve_keys(flow: CompiledFlow, org_id: UUID, wanted: Sequence[Wanted]) -> Reserved:
    """Take the keys of the runs, or find the earlier runs that have them.

    Within the caller's transaction. Raises IdempotencyConflict where another open one holds a key for two seconds.
    """
    stands_for = {each.run_id: each.run_id for each in wanted}
    with _short_lock_waits():
        wanted = _as_stored(org_id, wanted)
        for slot in range(max((len(each.keys) for each in wanted), default=0)):
            open_ = [each for each in wanted if slot < len(each.keys) and stands_for[each.run_id] == each.run_id]
            first: dict[float, dict[str, UUID]] = defaultdict(dict)
            forced: dict[float, dict[str, UUID]] = defaultdict(dict)
            for each in open_:
                key, window_s = each.keys[slot]
                if each.force:
                    forced[window_s][key] = each.run_id
                else:
                    stands_for[each.run_id] = first[window_s].setdefault(key, each.run_id)
            for window_s, runs in sorted(first.items()):
                earlier = _reserve(flow, org_id, runs, window_s)
                stands_for = {run: earlier.get(owner, owner) for run, owner in stands_for.items()}
            for window_s, runs in sorted(forced.items()):
                _reserve(flow, org_id, runs, window_s, by_force=True)
        unmade = {
            key: (each.run_id, run)
            for each in wanted
            for key, _ in each.keys
            if (run := stands_for[each.run_id]) != each.run_id
        }
        if unmade:
            sql.point_keys_to(
                org=org_id,
                flow=flow.flow_id,
                keys=unmade,
                unmade=[pair[0] for pair in unmade.values()],
                runs=[pair[1] for pair in unmade.values()],
            )
    return Reserved(stands_for, wanted)


def count_known(flow: CompiledFlow, org_id: UUID, wanted: Sequence[Wanted]) -> int:
    """How many of the runs have a key that an earlier run holds: they will not be made."""
    asked = [each for each in wanted if each.keys and not each.force]
    if not asked:
        return 0
    keys = {form for each in asked for key, _ in each.keys for form in (key, hashed(key))}
    held = IdempotencyKey.objects.filter(org_id=org_id, flow_id=flow.flow_id, key__in=keys, expires_at__gt=Now())
    known = set(held.values_list("key", flat=True))
    return sum(any(key in known or hashed(key) in known for key, _ in each.keys) for each in asked)


def _reserve(
    flow: CompiledFlow, org_id: UUID, first: Mapping[str, UUID], window_s: float, *, by_force: bool = False
) -> dict[UUID, UUID]:
    """Take keys for the runs that come first with them. Returns, by run, the earlier one that has its key."""
    rows = sql.take_idempotency_keys(
        org=org_id,
        flow=flow.flow_id,
        keys=first,
        runs=first.values(),
        taken_over=first if by_force else (),
        window_s=window_s,
    )
    refused = first.keys() - {row.key for row in rows}
    if not refused:
        return {}
    rows_of_others = sql.idempotency_owners(org=org_id, flow=flow.flow_id, keys=refused)
    owners = {row.key: row.run_id for row in rows_of_others}
    if refused - owners.keys():
        raise IdempotencyConflict  # deleted in between
    return {first[key]: owners[key] for key in refused}


_SHORTEN = (
    "WITH old AS MATERIALIZED (SELECT current_setting('lock_timeout') AS value)"
    " SELECT old.value, set_config('lock_timeout', %s, true) FROM old"
)


@contextmanager
def _short_lock_waits() -> Iterator[None]:
    """The rest of the caller's transaction keeps its own lock timeout."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SHORTEN, (str(WAIT_MS),))
            before = cursor.fetchone()[0]
        yield
    except psycopg.errors.LockNotAvailable:
        raise IdempotencyConflict from None
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (before,))
