"""How much an organization brings in a second, over all web processes: counted in the store, one call a request."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import redis

from throttling.errors import StoreUnavailable
from throttling.gate import Gate

LUA = Path(__file__).parents[1] / "lua" / "meters" / "meter.lua"
SILENT_S = 1.0
"""After a call that the store did not answer, it is not asked for so long: requests do not queue up behind it."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """`wait_s`: until there is room (0: it was taken); `used`: units of those of one second."""

    wait_s: float
    used: int


class Meter:
    """The meters of all organizations, in the gate's store. Safe for threads."""

    def __init__(self, gate: Gate) -> None:
        self._prefix = f"{gate.prefix}meter:"
        self._script = gate.client.register_script(LUA.read_text("utf-8"))
        self._silent_until = 0.0

    def take(self, name: str, per_s: int, count: int) -> Reading:
        """Take so many units, or none of them. Another rate is another meter, which begins empty.

        Raises StoreUnavailable.
        """
        if time.monotonic() < self._silent_until:
            raise StoreUnavailable
        try:
            wait_us, used = self._script(keys=[f"{self._prefix}{name}:{per_s}"], args=[per_s, count])
        except (redis.RedisError, OSError) as error:
            self._silent_until = time.monotonic() + SILENT_S
            raise StoreUnavailable from error
        return Reading(wait_s=int(wait_us) / 1e6, used=int(used))

    def look(self, name: str, per_s: int) -> Reading:
        """How full a meter is, without taking any. Raises StoreUnavailable."""
        return self.take(name, per_s, 0)
