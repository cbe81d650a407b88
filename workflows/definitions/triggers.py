"""What starts runs, and the controls that decide whether and when one is made: `on`, `debounce`, `batch`, …"""

from __future__ import annotations

import difflib
import functools
from typing import Any, Literal
from zoneinfo import available_timezones

from pydantic import AliasChoices, Field, field_validator, model_validator

from throttling.limits import MAX_LIMIT, MAX_PERIOD_MS
from workflows.definitions import cron
from workflows.definitions.strict import KEY, Strict
from workflows.duration import Duration
from workflows.expressions.equality import MATCH_PATH

_HEADER = r"^[A-Za-z0-9-]{1,100}$"


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


class TriggerSpec(Strict):
    """An entry of `on:`. One of `event`, `cron` and `webhook`."""

    id: str | None = Field(
        None,
        pattern=KEY,
        description="Which trigger it is, over all versions of the flow; without one its kind and name say that.",
    )
    event: str | None = Field(None, min_length=1, max_length=200)
    condition: str | None = Field(None, alias="if")
    match: str | None = Field(
        None,
        pattern=MATCH_PATH,
        max_length=200,
        description="Of an event: within 24 hours, one value at this path gives one run.",
    )
    delay: Duration | None = Field(None, ge=1, description="The run starts so long after its event.")
    run_at: str | None = Field(None, description="CEL over event: when the run starts, as a time or in milliseconds.")
    webhook: Literal["stripe", "github", "standard", "hmac", "none"] | None = None
    name: str | None = Field(None, min_length=1, max_length=200, description="Of a webhook's event.")
    secret: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$", description="A stored secret's name.")
    signature_header: str | None = Field(None, pattern=_HEADER)
    signature_prefix: str | None = Field(None, max_length=50)
    id_header: str | None = Field(None, pattern=_HEADER)
    dedup: Duration | None = Field(
        None, ge=1_000, le=86_400_000, description="Within it, a body that comes again (without a delivery id) is one."
    )
    tolerance: Duration | None = Field(None, ge=1_000, le=86_400_000)
    transform: str | None = Field(None, description="CEL over body and headers: the event's data.")
    cron: str | None = None
    timezone: str = "UTC"
    jitter: Duration | None = Field(None, ge=1, le=3_600_000, description="Of a cron: a random delay up to this.")
    overlap: Literal["allow", "skip", "queue", "cancel_running"] = "allow"
    catch_up: Literal["none", "latest", "all"] = "latest"

    @model_validator(mode="before")
    @classmethod
    def _seed_spelling(cls, value: Any) -> Any:
        """Accept `{type: cron, config: {schedule: …}}`, as the legacy format writes it."""
        if isinstance(value, dict) and value.get("type") == "cron" and isinstance(value.get("config"), dict):
            config = dict(value["config"])
            return {"cron": config.pop("schedule", None), **config}
        return value

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str | None) -> str | None:
        if value is not None:
            problem = cron.problem_of(value)
            if problem:
                raise ValueError(f"{value!r} is no cron schedule: {problem}")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in _zones():
            close = difflib.get_close_matches(value, _zones(), n=1)
            hint = f"did you mean {close[0]}?" if close else "use an IANA name such as Europe/Berlin"
            raise ValueError(f"unknown time zone {value!r}; {hint}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> TriggerSpec:
        if sum(source is not None for source in (self.event, self.cron, self.webhook)) != 1:
            raise ValueError("a trigger has one of event, cron and webhook")
        if self.delay is not None and self.run_at is not None:
            raise ValueError("give either delay or run_at")
        if self.cron is not None and self.run_at is not None:
            raise ValueError("a cron says by its schedule when it runs; delay moves it")
        of_webhook = (
            "name", "secret", "signature_header", "signature_prefix", "id_header", "dedup", "tolerance", "transform"
        )  # fmt: skip
        if self.webhook is None:
            for name in of_webhook:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to a webhook")
        elif (self.webhook == "none") != (self.secret is None):
            raise ValueError("a webhook names its secret, but for webhook: none, which is not signed")
        elif self.webhook != "hmac" and (self.signature_header or self.signature_prefix):
            raise ValueError("signature_header and signature_prefix belong to webhook: hmac")
        elif self.tolerance is not None and self.webhook != "stripe":
            raise ValueError("tolerance belongs to webhook: stripe (standard webhooks have five minutes)")
        elif self.id_header is not None and self.webhook not in {"hmac", "none"}:
            raise ValueError("id_header belongs to webhook: hmac or none; the others have their own")
        elif self.dedup is not None and self.webhook not in {"hmac", "none"}:
            raise ValueError("dedup belongs to webhook: hmac or none; the deliveries of the others have ids")
        return self

    @property
    def kind(self) -> Literal["event", "cron", "webhook"]:
        return "event" if self.event is not None else "cron" if self.cron is not None else "webhook"

    @property
    def event_name(self) -> str:
        """Of the events that it hears; of a cron empty."""
        return self.name or f"webhook.{self.webhook}" if self.webhook is not None else self.event or ""


class DebounceSpec(Strict):
    """`debounce:` of a flow: events that follow each other within `period` give one run, with the last of them.

    It starts when none has come for `period`, and at the latest `timeout` after the first.
    """

    period: Duration = Field(ge=1, le=7 * 86_400_000)
    key: str | None = None
    timeout: Duration | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _timeout_is_longer(self) -> DebounceSpec:
        if self.timeout is not None and self.timeout < self.period:
            raise ValueError("timeout is shorter than period: the run would never wait for quiet")
        return self


class BatchSpec(Strict):
    """`batch:` of a flow: events are gathered, and one run gets them as `event.data.events`.

    It starts when there are `max_size`, and at the latest `timeout` after the first.
    """

    max_size: int = Field(100, ge=2, le=1_000, strict=True, validation_alias=AliasChoices("max_size", "maxSize"))
    timeout: Duration = Field(ge=1, le=7 * 86_400_000)
    key: str | None = None


class SingletonSpec(Strict):
    """`singleton:` of a flow: one live run for each value of `key`; another is skipped, or cancels the one before."""

    key: str | None = None
    mode: Literal["skip", "cancel"] = "skip"


class RateLimitSpec(Strict):
    """`rate_limit:` of a flow: runs beyond `limit` in any `period` are dropped, and the event is marked."""

    limit: int = Field(ge=1, le=MAX_LIMIT, strict=True)
    period: Duration = Field(ge=1, le=MAX_PERIOD_MS)
    key: str | None = None
