"""The gate's answers, typed: what became of steps, how limits stand, why a step waits; and calls that are on their way,
whose answers are still to come.

The replies are lists; each verb's header in `lua/` says what stands where.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from redis.connection import ConnectionPool
from redis.exceptions import ResponseError

from throttling.names import LimitInstance, LimitName

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call did, by step id. `granted`: reserved, to be published. `taken`: started under the caller's lease.
    `parked`: waits at a limit. The first two may include other steps, whose turn came."""

    now_us: int
    revision: int
    more: bool
    granted: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, reply: list[Any]) -> Answer:
        """The answer that a verb's reply begins with."""
        lists = [part.split() for part in reply[4:7]] + [[], [], []]
        return cls(
            now_us=int(reply[1]),
            revision=int(reply[2]),
            more=bool(reply[3]),
            granted=lists[0],
            taken=lists[1],
            parked=lists[2],
        )

    def without(self, ids: Collection[str]) -> Answer:
        """The answer as it concerns the other steps."""
        if not ids:
            return self
        return replace(
            self,
            granted=[id_ for id_ in self.granted if id_ not in ids],
            taken=[id_ for id_ in self.taken if id_ not in ids],
            parked=[id_ for id_ in self.parked if id_ not in ids],
        )


@dataclass(frozen=True, kw_only=True)
class LimitState:
    """How one instance of a limit stands. `next_free_s`: seconds until it may have room by the passing of time."""

    instance: str
    bound: int
    period_us: int
    in_use: int
    started: int
    waiting: int
    refused: int
    next_free_s: float | None
    paused_s: float | None
    mean_hold_s: float

    @cached_property
    def parsed(self) -> LimitInstance:
        """The instance, parsed."""
        return LimitInstance.parse(self.instance)

    @property
    def kind(self) -> str:
        return self.parsed.kind

    @property
    def name(self) -> LimitName:
        return self.parsed.name


@dataclass(frozen=True, kw_only=True)
class WaitState:
    """Where a step waits: `place` (from 1) among its tenant's, `ahead`: how many of all tenants come first."""

    instance: str
    since_s: float
    place: int
    of_tenant: int
    tenants: int
    ahead: int


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the store knows of a step, and of limits."""

    wait: WaitState | None
    permit: str
    limits: list[LimitState]

    @classmethod
    def of(cls, reply: list[Any]) -> Explanation:
        """The explanation that the reply of `explain` holds."""
        now_us, waiter, permit = int(reply[1]), reply[4], reply[5]
        return cls(
            wait=_wait_state(waiter, now_us) if waiter else None,
            permit=permit[0] if permit else "",
            limits=[_limit_state(row, now_us) for row in reply[6]],
        )


def _wait_state(row: list[Any], now_us: int) -> WaitState:
    return WaitState(
        instance=row[0],
        since_s=(now_us - int(row[1])) / 1e6,
        place=int(row[3]),
        of_tenant=int(row[4]),
        tenants=int(row[5]),
        ahead=int(row[3]) - 1 + int(row[6]),
    )


def _limit_state(row: list[Any], now_us: int) -> LimitState:
    free, paused = int(row[7]), int(row[8])
    return LimitState(
        instance=row[0],
        bound=int(row[1]),
        period_us=int(row[2]),
        in_use=int(row[3]),
        started=int(row[4]),
        waiting=int(row[5]),
        refused=int(row[6]),
        next_free_s=max(0.0, (free - now_us) / 1e6) if free else None,
        paused_s=(paused - now_us) / 1e6 if paused > now_us else None,
        mean_hold_s=float(row[9]) / 1e6,
    )


class SendingConnections:
    """Connections with no reply outstanding; the last one that was used is the next one taken. They stand outside of
    the pool, which looks whether a connection lives before it gives it away: here the reply tells that."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def take(self, *, may_connect: bool) -> Any:
        """A connection; None where there is none and it may not be made. Raises an error of redis-py."""
        if self._pid != os.getpid():  # those of the parent are of no use to a fork
            self._idle, self._pid = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            if not may_connect:
                return None
        connection: Any = self._pool.make_connection()
        connection.connect()
        return connection

    def give_back(self, connection: Any) -> None:
        """Take a connection back whose reply was read."""
        self._idle.append(connection)

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().disconnect()


class Sent(Generic[T]):
    """A command that was sent. Ask for its answer once, or `abandon` it. The store executes it in any case."""

    def __init__(
        self,
        connections: SendingConnections,
        connection: Any,
        command: tuple[Any, ...],
        understand: Callable[[Callable[[], Any]], T],
    ) -> None:
        """Send the command. Raises an error of redis-py where that fails.

        `understand` is given what waits for the reply; it makes the answer, and decides what errors mean.
        """
        self._connections, self._connection, self._understand = connections, connection, understand
        try:
            connection.send_command(*command)
        except BaseException:
            self.abandon()
            raise

    def answer(self) -> T:
        """Wait for the answer. Raises what the gate's methods raise."""
        return self._understand(self._reply)

    def abandon(self) -> None:
        """Wait for nothing. The connection is closed: its next user would get this reply."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _reply(self) -> Any:
        connection = self._connection
        try:
            reply = connection.read_response()
        except ResponseError:  # a reply as well
            self._connection = None
            self._connections.give_back(connection)
            raise
        except BaseException:
            self.abandon()
            raise
        self._connection = None
        self._connections.give_back(connection)
        return reply
