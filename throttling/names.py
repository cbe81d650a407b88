"""The strings of limits in the store, built and parsed: names, instances, definitions, ids of permits.

    name        `scope:…:dimension`, as `type:http_request:<organization>:rate`; see `LimitName`
    instance    `kind:name`, or `kind:name@key` for one value of the limit's key expression
    definition  `base|stamp|override|revision`
    permit      a step's id, or `run:<id>` for what a whole run holds

No other module builds or cuts these strings. `lua/core/definitions.lua` is the one other reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from uuid import UUID

from throttling.errors import ThrottlingError

_ALL = "all"
_RUN = "run:"
MAX_NAMES_KNOWN = 20_000


class Scope(StrEnum):
    """What a limit belongs to: the first part of its name."""

    GLOBAL = "global"
    RUNS = "runs"
    ORG = "org"
    FLOW = "flow"
    RUN = "run"
    STEP = "step"
    TYPE = "type"
    LIMIT = "limit"
    PROVIDER = "provider"
    PAUSE = "pause"
    DRAIN = "drain"
    QUEUE = "queue"
    UNKNOWN = ""
    """Of a name that this release does not know: `subject` is all of it."""


class Dimension(StrEnum):
    """What a limit bounds: how many at once, or how many in a period."""

    CONCURRENCY = "concurrency"
    RATE = "rate"


class Kind(StrEnum):
    """How the store counts an instance: its first letter."""

    CONCURRENCY = "c"
    WINDOW = "w"
    GCRA = "g"
    PAUSE = "p"


DIMENSIONS = tuple(Dimension)
RATE_KINDS = frozenset({Kind.WINDOW, Kind.GCRA})
STOPS = (Scope.PAUSE, Scope.DRAIN)
"""Scopes of limits of 0: of steps, and of runs that have not started."""


@dataclass(frozen=True, kw_only=True)
class LimitName:
    """The name of a limit, before its key is evaluated. `str()` gives the store's string; `parse()` reads it.

    global:D    runs:D    org:ORG:D    flow:FLOW:D    queue:QUEUE
    flow:FLOW:POSITION:D    run:FLOW:POSITION:D              declared by a flow; `run` counts whole runs
    step:FLOW:KEY:D    type:TYPE:ORG:D    type:TYPE:ORG:critical:concurrency
    limit:ORG:NAME:D    limit:all:NAME:D                      a shared limit of an organization, or of all
    provider:ORG:HOST                                         can only be paused
    pause:…:concurrency    drain:…:concurrency                …: ORG:flow:FLOW, ORG:org, all:QUEUE
    """

    scope: Scope
    dimension: Dimension | None = None
    org_id: UUID | None = None
    flow_id: UUID | None = None
    subject: str = ""
    """The step type, the step's key, the shared limit's name, the host, or the queue."""
    position: int | None = None
    critical: bool = False

    def __str__(self) -> str:
        return self.text

    @cached_property
    def text(self) -> str:
        """The name as the store keeps it."""
        if self.scope is Scope.UNKNOWN:
            return self.subject
        parts = [self.scope, *self._parts(), *([self.dimension] if self.dimension else [])]
        return ":".join(parts)

    @property
    def first_part(self) -> str:
        """The scope as the store's string says it, also where this release does not know it."""
        return self.scope or self.subject.partition(":")[0]

    def _parts(self) -> list[str]:
        owner = str(self.org_id or _ALL)
        match self.scope:
            case Scope.ORG:
                return [owner]
            case Scope.FLOW | Scope.RUN:
                return [str(self.flow_id)] + ([] if self.position is None else [str(self.position)])
            case Scope.STEP:
                return [str(self.flow_id), self.subject]
            case Scope.TYPE:
                return [self.subject, owner] + (["critical"] if self.critical else [])
            case Scope.LIMIT | Scope.PROVIDER:
                return [owner, self.subject]
            case Scope.PAUSE | Scope.DRAIN:
                return [owner, "flow", str(self.flow_id)] if self.flow_id else [owner, self.subject or "org"]
            case Scope.QUEUE:
                return [self.subject]
        return []

    @classmethod
    def parse(cls, text: str) -> LimitName:
        """The name that a string of the store gives. One of no known form is kept whole, of scope UNKNOWN."""
        return _parsed(text)

    @classmethod
    def of_stop(cls, scope: str, *, org_id: UUID | None, flow_id: UUID | None, queue: str) -> LimitName:
        """The pause or drain of a flow, of an organization, or of a queue."""
        return cls(
            scope=Scope(scope), dimension=Dimension.CONCURRENCY, org_id=org_id, flow_id=flow_id,
            subject="" if flow_id else queue,
        )  # fmt: skip

    @classmethod
    def of_queue(cls, queue: str) -> LimitName:
        """The implicit limit of a queue: what is in the broker or executing."""
        return cls(scope=Scope.QUEUE, subject=queue)


@lru_cache(maxsize=MAX_NAMES_KNOWN)
def _parsed(text: str) -> LimitName:
    try:
        found = _understood(text)
    except (ValueError, IndexError):
        found = None
    return found if found and found.text == text else LimitName(scope=Scope.UNKNOWN, subject=text)


def _understood(text: str) -> LimitName | None:
    """The name by its scope's form. Raises ValueError or IndexError where it has another form."""
    first, *parts = text.split(":")
    scope = Scope(first)
    if scope is Scope.QUEUE:
        return LimitName(scope=scope, subject=":".join(parts))
    if scope is Scope.PROVIDER:
        return LimitName(scope=scope, org_id=UUID(parts[0]), subject=":".join(parts[1:]))
    dimension = Dimension(parts.pop())
    match scope:
        case Scope.GLOBAL | Scope.RUNS:
            return LimitName(scope=scope, dimension=dimension)
        case Scope.ORG:
            return LimitName(scope=scope, dimension=dimension, org_id=UUID(parts[0]))
        case Scope.FLOW | Scope.RUN:
            position = int(parts[1]) if len(parts) > 1 else None
            return LimitName(scope=scope, dimension=dimension, flow_id=UUID(parts[0]), position=position)
        case Scope.STEP:
            return LimitName(scope=scope, dimension=dimension, flow_id=UUID(parts[0]), subject=":".join(parts[1:]))
        case Scope.TYPE:
            critical = parts[-1] == "critical"
            *type_, org = parts[:-1] if critical else parts
            return LimitName(
                scope=scope, dimension=dimension, subject=":".join(type_), org_id=UUID(org), critical=critical
            )
        case Scope.LIMIT:
            return LimitName(scope=scope, dimension=dimension, org_id=_owner(parts[0]), subject=":".join(parts[1:]))
        case Scope.PAUSE | Scope.DRAIN:
            flow_id = UUID(parts[2]) if parts[1] == "flow" else None
            queue = "" if flow_id or parts[1] == "org" else ":".join(parts[1:])
            return LimitName(scope=scope, dimension=dimension, org_id=_owner(parts[0]), flow_id=flow_id, subject=queue)
    return None


def _owner(part: str) -> UUID | None:
    return None if part == _ALL else UUID(part)


RUN_PLACES = LimitName(scope=Scope.RUNS, dimension=Dimension.CONCURRENCY)
"""The limit of how many runs work at once. A run that only waits holds no place in it."""


@dataclass(frozen=True, kw_only=True)
class LimitInstance:
    """A limit for one value of its key expression, as the store counts it. `key` is None without an expression."""

    kind: str
    name: LimitName
    key: str | None = None

    def __str__(self) -> str:
        unkeyed = f"{self.kind}:{self.name.text}"
        return unkeyed if self.key is None else with_key(unkeyed, self.key)

    @classmethod
    def parse(cls, text: str) -> LimitInstance:
        """The instance that a string of the store gives. Raises ThrottlingError for one without a kind."""
        kind, colon, rest = text.partition(":")
        if not colon or len(kind) != 1:
            raise ThrottlingError(f"{text!r} is no instance of a limit; one reads kind:name or kind:name@key")
        name, at, key = rest.partition("@")
        return cls(kind=kind, name=LimitName.parse(name), key=key if at else None)


def with_key(unkeyed: str, key: str) -> str:
    """The store's string of a keyed instance, of that without a key. (Each step makes some: so without parsing.)"""
    return f"{unkeyed}@{key}"


def kind_of(instance: str) -> str:
    """The kind of an instance (see `Kind`), without parsing the rest."""
    return instance[0]


@lru_cache(maxsize=256)
def queue_instance(queue: str) -> str:
    """The store's string of a queue's implicit limit."""
    return str(LimitInstance(kind=Kind.CONCURRENCY, name=LimitName.of_queue(queue)))


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A limit's value in the store. The store takes the newer base (by its stamp) and the newer override (by its
    revision) of two callers. An empty override leaves the base in force."""

    base: str
    stamp: int
    override: str = ""
    revision: int = 0

    def __str__(self) -> str:
        return f"{self.base}|{self.stamp}|{self.override}|{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Definition:
        """The definition that a string of the store gives. Raises ThrottlingError for another form."""
        try:
            base, stamp, override, revision = text.split("|")
            return cls(base=base, stamp=int(stamp), override=override, revision=int(revision))
        except ValueError:
            raise ThrottlingError(
                f"{text!r} is no definition of a limit; one reads base|stamp|override|revision"
            ) from None


def run_permit(run: str) -> str:
    """The id of the permit that a whole run holds."""
    return _RUN + run


def run_of_permit(permit: str) -> str | None:
    """The run that a permit belongs to as a whole; None for a step's permit."""
    return permit.removeprefix(_RUN) if permit.startswith(_RUN) else None
