"""What a flow in Python declares: the words of the definition format as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import BaseModel

_RENAMED = {"if_": "if", "max_size": "max_size"}


@dataclass(frozen=True)
class _Declared:
    """A part of a definition: its fields that are given, under their names there."""

    def document(self) -> dict[str, Any]:
        given = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {_RENAMED.get(name, name): value for name, value in given if value is not None and name != "model"}


@dataclass(frozen=True)
class Event(_Declared):
    """An event that starts the flow. `if_`: CEL over `event`. `model`: the pydantic model of its data.

    `match`: within 24 hours, one value at this path gives one run. `delay`, `run_at`: when the run starts.
    """

    event: str
    if_: str | None = None
    model: type[BaseModel] | None = None
    match: str | None = None
    delay: str | int | None = None
    run_at: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Cron(_Declared):
    """A schedule that starts the flow, in a time zone. See `on.cron` of the definition format."""

    cron: str
    timezone: str | None = None
    jitter: str | int | None = None
    overlap: Literal["allow", "skip", "queue", "cancel_running"] | None = None
    catch_up: Literal["none", "latest", "all"] | None = None
    id: str | None = None


@dataclass(frozen=True)
class Webhook(_Declared):
    """A webhook that starts the flow. See `on.webhook` of the definition format."""

    webhook: Literal["stripe", "github", "standard", "hmac", "none"]
    name: str | None = None
    secret: str | None = None
    signature_header: str | None = None
    signature_prefix: str | None = None
    id_header: str | None = None
    dedup: str | int | None = None
    tolerance: str | int | None = None
    transform: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Concurrency(_Declared):
    """At most `limit` steps (or runs: `scope`) at once; for each value of `key`, where there is one."""

    limit: int
    key: str | None = None
    scope: Literal["step", "run"] | None = None
    level: Literal["critical", "high", "normal", "low", "background"] | None = None


@dataclass(frozen=True)
class Throttle(_Declared):
    """At most `limit` starts of runs in any `period`; more of them queue."""

    limit: int
    period: str | int
    key: str | None = None
    burst: int | None = None


@dataclass(frozen=True)
class RateLimit(_Declared):
    """At most `limit` runs in any `period`; more of them are dropped."""

    limit: int
    period: str | int
    key: str | None = None


@dataclass(frozen=True)
class Debounce(_Declared):
    """Events that follow each other within `period` give one run, with the last of them."""

    period: str | int
    key: str | None = None
    timeout: str | int | None = None


@dataclass(frozen=True)
class Batch(_Declared):
    """One run for up to `max_size` events, `timeout` after the first at the latest."""

    max_size: int
    timeout: str | int
    key: str | None = None


@dataclass(frozen=True)
class Singleton(_Declared):
    """One live run for each value of `key`; another is skipped, or cancels the one before (`mode`)."""

    key: str | None = None
    mode: Literal["skip", "cancel"] | None = None


@dataclass(frozen=True)
class Idempotency(_Declared):
    """Within `window`, one value of `key` gives one run, unless `force` holds."""

    key: str
    window: str | int | None = None
    force: str | None = None


@dataclass(frozen=True)
class CancelOn(_Declared):
    """An event that cancels live runs: those with an equal value at `match`, or for which `if_` holds."""

    event: str
    match: str | None = None
    if_: str | None = None
    timeout: str | int | None = None


def plain(value: Any) -> Any:
    """A declared value as the definition format has it."""
    if isinstance(value, _Declared):
        return value.document()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return value
