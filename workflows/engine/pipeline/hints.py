"""Hints for the leader: something is due sooner than its next look.

The leader looks at its timers every second, and when the next of them is due. A process that stores a timer for within
that second, or parks a step at the gate, sends a hint after its commit; the leader then looks every 75 ms for a second.
A hint that is lost (the store does not answer, say) delays what it was for by a second at most, and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import structlog
from redis.client import PubSub
from redis.exceptions import RedisError

from workflows import this_process
from workflows.engine.pipeline import admit

log = structlog.get_logger(__name__)
LOOK_S = 1.0
"""The leader looks at least so often, whatever it is told."""
HINT_WITHIN_S = 1.25 * LOOK_S
"""A timer that is due later needs no hint: the leader's next look sees it."""
SEND_EVERY_S = 0.25
AWAY_S = 5.0
LISTEN_S = 30.0
LISTEN_AGAIN_S = 1.0


class Hints:
    """The hints of this process. Safe for threads; nothing here raises."""

    def __init__(self) -> None:
        self._silent_until = 0.0
        self._leader: Callable[[], None] | None = None

    def lead(self, leader: Callable[[], None] | None) -> None:
        """This process leads, and `leader` is called for its own hints; None: it leads no more."""
        self._leader = leader

    def send(self) -> None:
        """Tell the leader, wherever it is. The others within a quarter of a second after one are left out."""
        leader, now = self._leader, time.monotonic()
        if leader is not None:
            leader()
        elif now > self._silent_until:
            self._silent_until = now + SEND_EVERY_S
            try:
                gate = admit.gate()
                gate.client.publish(_channel(gate.prefix), "")
            except (RedisError, OSError) as error:
                self._silent_until = time.monotonic() + AWAY_S
                log.debug("a hint for the leader is lost", error=str(error))


def send() -> None:
    """Tell the leader that something is due within a second, or waits at the gate. Call it after the commit."""
    this_process.own(Hints).send()


def is_soon(seconds: float | None) -> bool:
    """Whether a timer that is due in so many seconds needs a hint."""
    return seconds is not None and seconds < HINT_WITHIN_S


def _channel(prefix: str) -> str:
    return f"{prefix}leader"


class Listener:
    """Hears the hints of other processes, on a thread and a connection of its own."""

    def __init__(self, hear: Callable[[], None]) -> None:
        self._hear = hear
        self._stop = threading.Event()
        self._subscription: PubSub | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def stop(self) -> None:
        """Listen no more. (Its thread ends within half a minute; nobody waits for it.)"""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except Exception as error:
                log.debug("hints for the leader are not heard for now", error=str(error))
            self._stop.wait(LISTEN_AGAIN_S)

    def _listen(self) -> None:
        gate = admit.gate()
        subscription = gate.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        try:
            subscription.subscribe(_channel(gate.prefix))
            while not self._stop.is_set():
                if subscription.get_message(timeout=LISTEN_S) is not None:
                    self._hear()
        finally:
            with contextlib.suppress(Exception):
                subscription.close()
