"""What sandboxed code may call: `progress` shows how far it is, `delay` ends the visit and holds nothing meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workflows.duration import parse_ms

if TYPE_CHECKING:
    from workflows.steps.context import StepContext

MAX_DELAYS = 100


class _Ended(Exception):
    """The visit ends here."""


class Functions:
    """The functions of one visit. The code runs anew after each delay; those that are over return at once."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._delays = 0
        self.delay_ms: int | None = None
        """What the code has asked for: whatever else came of this visit does not count."""

    @property
    def by_name(self) -> dict[str, Callable[..., Any]]:
        return {"progress": self.progress, "delay": self.delay}

    def progress(self, percent: float, message: str = "") -> None:
        """Raises ValueError for what is no percentage."""
        if isinstance(percent, bool) or not isinstance(percent, int | float):
            raise ValueError(f"progress: {percent!r} is no number; give 0 … 100")
        self._context.progress(percent, str(message))

    def delay(self, duration: str | int) -> None:
        """A text like `2s`, or milliseconds. Raises ValueError for what is no duration, and after too many delays."""
        ms = parse_ms(duration)
        self._delays += 1
        if self._delays > MAX_DELAYS:
            raise ValueError(f"delay: at most {MAX_DELAYS} in one step; use a loop of steps")
        if ms and self._delays > self._context.wake_seq:
            self.delay_ms = ms
            raise _Ended(f"delayed for {ms} ms")
