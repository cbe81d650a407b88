"""What a handler gets to see of its step."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import reprlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any
from uuid import UUID

from structlog.stdlib import BoundLogger

from workflows.errors import StepCancelled
from workflows.expressions import STEP_UNITS, Expression, compile_expression
from workflows.steps.masking import Secrets

MAX_LOG_LINES = 200
MAX_LOG_CHARACTERS = 16_000


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class AttemptLog:
    """A handler's log. Its lines go to the worker's log, and the first of them are kept with the attempt.

    Kept are 200 lines and 16,000 characters at most; the last line says how many more there were.
    """

    def __init__(self, bind: Callable[[], BoundLogger], secrets: Secrets, *, is_muted: bool = False) -> None:
        """`bind` gives the worker's log with the step's names, when there is something to say. `is_muted`: nothing is
        logged, and nothing kept."""
        self._bind, self._secrets, self._is_muted = bind, secrets, is_muted
        self._kept: list[dict[str, str]] = []
        self._room = MAX_LOG_CHARACTERS
        self._dropped = 0

    def debug(self, message: str, *args: Any, **fields: Any) -> None:
        """Log a message; `args` are put into it as logging does (`%s`), `fields` beside it. So do all levels."""
        self._add("debug", _filled(message, args), fields)

    def info(self, message: str, *args: Any, **fields: Any) -> None:
        self._add("info", _filled(message, args), fields)

    def warning(self, message: str, *args: Any, **fields: Any) -> None:
        self._add("warning", _filled(message, args), fields)

    def error(self, message: str, *args: Any, **fields: Any) -> None:
        self._add("error", _filled(message, args), fields)

    def critical(self, message: str, *args: Any, **fields: Any) -> None:
        self._add("critical", _filled(message, args), fields)

    def exception(self, message: str, *args: Any, **fields: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._add("error", _filled(message, args), {"exc_info": True, **fields})

    def keep(self, level: str, text: str) -> None:
        """Keep text with the attempt only, line by line (what sandboxed code prints)."""
        for line in self._secrets.mask(text).splitlines():  # masked first: a secret may have several lines
            self._keep(level, line)

    def masked(self, text: str) -> str:
        """The text without secrets, as it can be stored."""
        return self._secrets.mask(text.replace("\0", ""))

    def _add(self, level: str, message: str, fields: dict[str, Any]) -> None:
        if self._is_muted:
            return
        if fields.get("exc_info"):  # its text, since the log would write it as it is
            fields["exc_info"] = _traceback(fields["exc_info"])
        hidden = {name: self._hidden(value) for name, value in fields.items()}
        if "exc_info" in hidden:
            hidden["exception"] = hidden.pop("exc_info")
        getattr(self._bind(), level)(self._secrets.mask(message), **hidden)
        self._keep(level, " ".join([message, *(f"{name}={value!r}" for name, value in fields.items())]))

    def _hidden(self, value: Any) -> Any:
        """A field of a line without secrets: JSON as it is, all else as text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str | dict | list | tuple):
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                json.dumps(value)
                return self._secrets.mask_json(value)
        return self._secrets.mask(str(value))

    def _keep(self, level: str, text: str) -> None:
        line = self._secrets.mask(text)
        if len(self._kept) >= MAX_LOG_LINES or len(line) > self._room:
            self._dropped += 1
            return
        self._room -= len(line)
        self._kept.append({"at": dt.datetime.now(dt.UTC).isoformat(), "level": level, "message": line})

    @property
    def lines(self) -> list[dict[str, str]]:
        """The kept lines: {at, level, message}."""
        kept = [{**line, "message": self._secrets.mask(line["message"])} for line in self._kept]  # some came later
        if not self._dropped:
            return kept
        at = dt.datetime.now(dt.UTC).isoformat()
        return [*kept, {"at": at, "level": "info", "message": f"… and {self._dropped} more lines"}]


def _filled(message: str, args: tuple[Any, ...]) -> str:
    """A log line never fails for its arguments: those that do not fit stand behind it."""
    if not args:
        return message
    try:
        return message % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) else args)
    except Exception:  # also what the text of an argument raises
        return " ".join([message, *map(reprlib.repr, args)])


def _traceback(exc_info: Any) -> str:
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    return "".join(traceback.format_exception(error)) if error else ""


@dataclass(kw_only=True)
class WorkerIdentity:
    """The id of this worker process, as it stands with each step run and attempt; None where no worker runs."""

    id: UUID | None = None


@dataclass(kw_only=True)
class StepContext:
    """One visit of a handler.

    `config` is the validated model of the step type, `scope` what expressions may read, `deadline` the monotonic
    time by which the visit must end.
    """

    config: Any
    scope: Mapping[str, Any]
    org_id: UUID
    run_id: UUID
    step_run_id: UUID
    flow: str
    key: str
    path: str = ""
    """Where in nested maps and loops; empty at the top."""
    attempt: int
    wake_seq: int
    deadline: float
    log: AttemptLog
    server_retry_waits: int = 0
    """Waits that the other side asked for: they cost no attempt."""
    secrets: Secrets = field(default_factory=Secrets)
    """What is masked in all that is kept of the try. A handler adds what it derives from them or fetches with them."""
    cancelled: Event = field(default_factory=Event)
    stoppers: list[Callable[[], None]] = field(default_factory=list)
    pause_s: float = 0.0
    report: Callable[[dict[str, Any]], None] = lambda _: None
    end_by: Callable[[float], None] = lambda _: None
    """Ends the try at a monotonic time, if it is still under way then."""
    claim: Any = None
    """The engine's claim of the step: for what drives flows in Python."""
    now: Callable[[], dt.datetime] = _utc_now
    """The time; in the test kit that of its virtual clock."""
    earlier_tries: int = 0
    """How often the step was started before this try: failed ones, waits that were told, and lost workers."""
    given_timeout_ms: int | None = None
    """The `timeout` that the definition gives the step, where it gives one."""

    def expression(self, source: str) -> Expression:
        """The CEL expression of this organization, compiled once. Raises ExpressionError."""
        return compile_expression(source, owner=self.org_id, units=STEP_UNITS)

    def progress(self, percent: float, message: str = "") -> None:
        """Show how far the step is: 0 … 100, and a message of 500 characters at most. Costs nothing: the latest report
        is stored twice a second.

        Raises ValueError for a percentage out of range.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"progress: {percent!r} is out of range; give 0 … 100")
        self.report({"percent": round(float(percent), 2), "message": self.log.masked(message)[:500]})

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Call `stop` (from another thread, possibly twice) when the run is cancelled or the step's time is up."""
        self.stoppers.append(stop)
        if self.cancelled.is_set():
            stop()

    def pause_provider(self, seconds: float) -> None:
        """The other side wants to be left alone: its limit admits nothing for so long, on all workers."""
        self.pause_s = max(self.pause_s, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, never below zero."""
        return max(0.0, self.deadline - time.monotonic())

    def check_cancelled(self) -> None:
        """Raises StepCancelled once the run has been cancelled."""
        if self.cancelled.is_set():
            raise StepCancelled
