"""Sweeps that one bad item can't stop: every loop of the leader and of its jobs goes through here.

A sweep that raises is noted, and the others go on. Within a sweep the items are worked on in groups. A group that fails
is halved, after the other groups have had their turn, until the bad item stands alone. That one is noted with its error
and put off, for twice as long each time, so that it takes no place in the next page; after ten minutes it is given up.
The notes are rows, so that `doctor` sees them from every process. In the good case there are none, and a sweep costs no
statement more.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import structlog
from amqp.exceptions import AMQPError
from django.db import connection
from django.db.models import QuerySet
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from throttling.errors import EpochClosed, StoreUnavailable
from workflows import this_process
from workflows.edge.unavailable import is_database_away
from workflows.engine.pipeline.retry_decision import storable
from workflows.engine.sql import sweeps as sql
from workflows.engine.state import sealed
from workflows.sealing.envelope import seal_text

log = structlog.get_logger(__name__)
T = TypeVar("T")

GIVE_UP_AFTER_S = 600.0
LONGEST_PAUSE_S = 300.0
STALE_AFTER_S = 3 * LONGEST_PAUSE_S
REREAD_AFTER_S = 5.0
BUDGET_S = 5.0
"""Seconds that the items of one turn of a sweep may take together; what is left waits for the next turn."""
LOOKAHEAD = 20_000
MAX_ERROR_CHARACTERS = 500
MAX_TOLD = 5
THE_WHOLE = ""
FAILS, OVERRAN = "fails", "overran"
GATE_IS_CLOSED = (StoreUnavailable, EpochClosed, RedisError, KombuError, AMQPError, ConnectionError)
"""The store or the broker is away: no item is at fault, and none is put off for it."""


class Entry(NamedTuple):
    """How often something failed, since when, and when it is tried again."""

    tries: int
    since: dt.datetime
    try_again_at: dt.datetime


class Failure(NamedTuple):
    """An item that failed: its key, its organization, and why."""

    item: str
    org_id: UUID | None
    error: BaseException


class Ledger:
    """What sweeps could not do: rows in the database, and this process's memory of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], dict[str, Entry]] = {}
        self._read_at = float("-inf")

    def of(self, sweep: str, kind: str = FAILS) -> Mapping[str, Entry]:
        """By item: what the sweep could not do. Reads the rows where that was not done for a while."""
        if time.monotonic() - self._read_at > REREAD_AFTER_S:
            rows = sql.sweep_failures()
            known: dict[tuple[str, str], dict[str, Entry]] = {}
            for row in rows:
                known.setdefault((row.sweep, row.kind), {})[row.item] = Entry(row.tries, row.since, row.try_again_at)
            with self._lock:
                self._known, self._read_at = known, time.monotonic()
        return self._known.get((sweep, kind), {})

    def put_off(self, sweep: str) -> list[UUID]:
        """The items that are not to be tried now, for the pages of sweeps whose items are rows with a uuid."""
        now = dt.datetime.now(dt.UTC)
        late = [item for item, entry in self.of(sweep).items() if item != THE_WHOLE and entry.try_again_at > now]
        return [UUID(item) for item in late]

    def note(self, sweep: str, failures: Sequence[Failure], *, kind: str = FAILS) -> None:
        """Write what failed, and say so in the log: the first time, then at each doubling of the tries."""
        by_item = {failure.item: failure for failure in failures}
        if not by_item:
            return
        rows = sql.note_sweep_failures(
            sweep=sweep,
            kind=kind,
            items=by_item,
            orgs=[failure.org_id for failure in by_item.values()],
            errors=[_kept_reason(failure) for failure in by_item.values()],
            longest_s=LONGEST_PAUSE_S,
        )
        entries = {row.item: Entry(row.tries, row.since, row.try_again_at) for row in rows}
        with self._lock:
            self._known[sweep, kind] = {**self._known.get((sweep, kind), {}), **entries}
        telling = [by_item[item] for item, entry in entries.items() if entry.tries & (entry.tries - 1) == 0]
        for failure in telling[:MAX_TOLD]:
            log.warning(
                "a sweep fails; the others go on" if failure.item == THE_WHOLE else "an item of a sweep is put off",
                sweep=sweep,
                item=failure.item,
                tries=entries[failure.item].tries,
                error=reason_of(failure.error),
                exc_info=failure.error if kind == FAILS else None,
            )
        if len(telling) > MAX_TOLD:
            log.warning("more items of a sweep are put off", sweep=sweep, items=len(telling) - MAX_TOLD)

    def forget(self, sweep: str, items: Iterable[str], *, kind: str = FAILS) -> None:
        """They succeed now. Costs a statement only where they are known to have failed."""
        known = self._known.get((sweep, kind), {})
        healed = [item for item in items if item in known]
        if not healed:
            return
        sql.forget_sweep_failures(sweep=sweep, kind=kind, items=healed)
        self._drop(sweep, kind, healed)
        log.info("a sweep goes on with what had failed", sweep=sweep, items=len(healed))

    def give_up(self, sweep: str, items: Sequence[str]) -> None:
        """Nobody tries them again."""
        if items:
            sql.give_up_sweep_failures(sweep=sweep, items=items)
            self._drop(sweep, FAILS, items)

    def _drop(self, sweep: str, kind: str, items: Iterable[str]) -> None:
        gone = set(items)
        with self._lock:
            rest = {item: entry for item, entry in self._known.get((sweep, kind), {}).items() if item not in gone}
            self._known[sweep, kind] = rest

    def forget_memory(self) -> None:
        """Read the rows anew at the next look."""
        with self._lock:
            self._known, self._read_at = {}, float("-inf")


def ledger() -> Ledger:
    """This process's ledger."""
    return this_process.own(Ledger)


def reason_of(error: BaseException) -> str:
    """The error in one line, fit to be stored."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()
    return storable(" ".join(text))[:MAX_ERROR_CHARACTERS]


def _kept_reason(failure: Failure) -> str:
    """The reason as it is stored: it may quote a payload of whoever it is about."""
    text = reason_of(failure.error)
    if failure.org_id is not None:
        return sealed.plain_text(text, failure.org_id)
    return text if sealed.is_off_for_all() else seal_text(text)


# --- whole sweeps ---------------------------------------------------------------------------------------------------


def guarded(name: str, work: Callable[[], T]) -> T | None:
    """The result of a sweep. One that raises, whatever it raises, is noted, and None is returned.

    Raises only where the database is away, since nothing can be done or noted then.
    """
    try:
        result = work()
    except GATE_IS_CLOSED as error:
        log.info("the store or the broker does not answer for now", sweep=name, reason=str(error))
        return None
    except BaseException as error:
        if is_database_away(error):
            raise
        ledger().note(name, [Failure(THE_WHOLE, None, error)])
        return None
    ledger().forget(name, [THE_WHOLE])
    return result


class Refused(list[tuple[T, BaseException]]):
    """Given back by `work`: of a group that was done, the items that could not be, and why."""


# --- items ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Items(Generic[T]):
    """How a sweep treats its items.

    `work` acts on a group, and leaves nothing half done where it raises; it may give back Refused. `key` and `org` name
    an item in the notes. `group`: so many are worked on together. `give_up` is called once for an item that has failed
    for ten minutes; without it such an item is tried every five minutes for as long as it is there, and so is one whose
    error `stays` says that another process may do it.
    """

    name: str
    work: Callable[[Sequence[T]], object]
    key: Callable[[T], str] = str
    org: Callable[[T], UUID | None] = lambda _: None
    group: int = 1
    give_up: Callable[[T, BaseException], object] | None = None
    stays: Callable[[BaseException], bool] = lambda _: False
    budget_s: float = BUDGET_S


@dataclass(kw_only=True)
class _Turn(Generic[T]):
    """What became of the items of one turn."""

    done: list[str] = field(default_factory=list)
    failed: list[tuple[T, BaseException]] = field(default_factory=list)


def isolated(how: Items[T], items: Iterable[T]) -> int:
    """Work on the items, so that a bad one keeps no other from its turn. Returns how many succeeded.

    Items that failed before come last, each by itself. Raises only where the database is away or the gate is closed.
    """
    everything = list(items)
    if not everything:
        return 0
    known = ledger().of(how.name)
    fresh = [item for item in everything if how.key(item) not in known]
    suspects = [item for item in everything if how.key(item) in known]
    waiting = deque(fresh[first : first + how.group] for first in range(0, len(fresh), how.group))
    waiting.extend([item] for item in suspects)
    turn: _Turn[T] = _Turn()
    try:
        _work_off(how, waiting, turn)
    finally:
        _take_note(how, turn)
    return len(turn.done)


def _work_off(how: Items[T], waiting: deque[list[T]], turn: _Turn[T]) -> None:
    until = time.monotonic() + how.budget_s
    while waiting and time.monotonic() < until:
        group = waiting.popleft()
        try:
            answer = how.work(group)
        except BaseException as error:
            if is_database_away(error) or isinstance(error, GATE_IS_CLOSED):
                raise
            if len(group) == 1:
                turn.failed.append((group[0], error))
            else:  # at the end of the line: the other groups come first
                waiting.extend(_parts(how, group))
        else:
            refused = list(answer) if isinstance(answer, Refused) else []
            turn.failed += refused
            bad = {how.key(item) for item, _ in refused}
            turn.done += [key for item in group if (key := how.key(item)) not in bad]


def _parts(how: Items[T], group: list[T]) -> list[list[T]]:
    """A group that failed in two: the organization with the most items apart from the others, else in halves."""
    counts = Counter(how.org(item) for item in group)
    if len(counts) > 1:
        most = counts.most_common(1)[0][0]
        rest = [item for item in group if how.org(item) != most]
        return [rest, [item for item in group if how.org(item) == most]]
    middle = len(group) // 2
    return [group[:middle], group[middle:]]


def _take_note(how: Items[T], turn: _Turn[T]) -> None:
    ledger().note(how.name, [Failure(how.key(item), how.org(item), error) for item, error in turn.failed])
    ledger().forget(how.name, turn.done)
    if how.give_up is None or not turn.failed:
        return
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=GIVE_UP_AFTER_S)
    known, given_up = ledger().of(how.name), []
    for item, error in turn.failed:
        entry = known.get(how.key(item))
        if entry is None or entry.since > long_ago or how.stays(error):
            continue
        try:
            how.give_up(item, error)
        except BaseException as another:
            if is_database_away(another):
                raise
            log.warning("an item can't be given up", sweep=how.name, item=how.key(item), error=reason_of(another))
        else:
            log.error("an item is given up", sweep=how.name, item=how.key(item), error=reason_of(error))
            given_up.append(how.key(item))
    ledger().give_up(how.name, given_up)


class Row(NamedTuple):
    """A row of a fair page."""

    id: UUID
    org_id: UUID


def row_id(row: Row) -> str:
    return str(row.id)


def row_org(row: Row) -> UUID:
    return row.org_id


def fair_page(
    sweep: str, rows: QuerySet[Any, Any], *, by: str, limit: int, pk: str = "id", org: str = "org_id"
) -> list[Row]:
    """A page of ids, the first of each organization before the second of any; without those that are put off.

    It looks at the first 20,000 rows only, in the order of `by`, which an index must serve.
    """
    put_off = ledger().put_off(sweep)
    found = rows.exclude(**{f"{pk}__in": put_off}) if put_off else rows
    sql, parameters = found.order_by(by).values_list(pk, org, by)[:LOOKAHEAD].query.sql_with_params()
    statement = (
        "SELECT id, org FROM (SELECT d.*, row_number() OVER (PARTITION BY org ORDER BY due, id) AS place"
        f" FROM ({sql}) d (id, org, due)) f ORDER BY place, due LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*parameters, limit])
        return [Row(UUID(str(id_)), UUID(str(org_id))) for id_, org_id in cursor.fetchall()]
