"""The only door to the throttle store: each method is one script call, typed (docs/explanation/flow_control.md)."""

from __future__ import annotations

import json
import math
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import redis
from redis.connection import AbstractConnection

from throttling import clocks, scripts
from throttling.answers import Answer, Explanation, SendingConnections, Sent
from throttling.errors import EpochClosed, StoreUnavailable
from throttling.limits import LimitSet

T = TypeVar("T")
ANSWER_WITHIN_S = 2.0
DEFAULT_PREFIX = "headrace"


class Request(NamedTuple):
    """A step that wants to start. `head_start_s`: its priority. `lease`: the one it was held under until now."""

    id: str
    limits: LimitSet
    tenant: str
    lane: str
    weight: float = 1.0
    head_start_s: float = 0.0
    run: str = ""
    lease: str = ""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How many steps of these lanes the caller can start at once, and under which lease."""

    count: int
    lanes: tuple[str, ...]
    lease: str


class Held(NamedTuple):
    """A step and the lease under which its permit is held."""

    id: str
    lease: str


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A limit (by its instance) that is to admit nothing for a while."""

    instance: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PastStarts:
    """`count` starts of a limit's instance, `age_s` ago."""

    instance: str
    age_s: float
    count: int = 1


class Gate:
    """One per process; safe for threads and forks. Every method raises StoreUnavailable or EpochClosed."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        lease_s: float = clocks.LEASE_S,
        reservation_s: float = clocks.RESERVATION_S,
    ) -> None:
        self.prefix = "{" + prefix + "}:"
        self._times = {"lease_us": round(lease_s * 1e6), "reservation_us": round(reservation_s * 1e6)}
        self._run_id = ""
        self._lock = threading.Lock()
        self.client = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            socket_keepalive=True,
            redis_connect_func=self._verify,
        )
        self._scripts = {
            verb: self.client.register_script(scripts.script(verb)) for verb in scripts.verbs() if verb != "epoch"
        }
        self._sending = SendingConnections(self.client.connection_pool)
        self._epoch = self.client.register_script(scripts.files()["epoch"])

    def _verify(self, connection: AbstractConnection) -> None:
        """On every (re)connect: which server is this? A restored snapshot may look sound and have lost its windows."""
        connection.on_connect()  # type: ignore[no-untyped-call]
        connection.send_command("INFO", "server")  # type: ignore[no-untyped-call]
        info = connection.read_response()
        text = info.decode() if isinstance(info, bytes) else str(info)
        self._run_id = next(line[7:].strip() for line in text.splitlines() if line.startswith("run_id:"))

    def close(self) -> None:
        self._sending.close()
        self.client.close()

    # --- steps ------------------------------------------------------------------------------------------------

    def admit(self, requests: Sequence[Request], *, take: Capacity | None = None) -> Answer:
        """Ask for permits; each request is granted (reserved), taken (started under the lease), or parked."""
        return Answer.of(self._call("admit", {**_groups_of(requests), **_taking(take)}))

    def confirm(self, lease: str, ids: Sequence[str], *, again: bool = False) -> tuple[Answer, list[str]]:
        """Reservations become leases as their steps start. Also the ids that have no permit to start.

        `again`: the start of steps that hold their permit already was delayed; they start now.
        """
        return _confirmed(self._call("confirm", {"lease": lease, "ids": list(ids), "again": again}))

    def send_confirm(self, lease: str, ids: Sequence[str]) -> Sent[tuple[Answer, list[str]]]:
        """`confirm`, on its way: for a caller that claims the steps meanwhile."""
        return self._send("confirm", {"lease": lease, "ids": list(ids), "again": False}, _confirmed, may_connect=True)

    def send_ahead(
        self, request: Request, lease: str, *, after: Held, leases: Mapping[str, Sequence[str]]
    ) -> Sent[Answer]:
        """Take a permit for a step, under this lease, while the outcome of the one `after` which it comes is being
        recorded; or leave it: nobody is parked. `leases` are given back before. Raises StoreUnavailable where no call
        was sent before: it makes no connection, which may take long.
        """
        limits = request.limits
        call = {
            "define": dict(limits.definitions),
            "leases": leases,
            "next": [limits.text, request.tenant, request.weight, request.lane, request.run, request.id],
            "lease": lease,
            "held": after,
        }
        return self._send("ahead", call, Answer.of, may_connect=False)

    def release(
        self,
        leases: Mapping[str, Sequence[str]],
        requests: Sequence[Request] = (),
        *,
        unused: Sequence[str] = (),
        runs: Sequence[str] = (),
        sleepers: Sequence[str] = (),
        pauses: Sequence[Pause] = (),
        take: Capacity | None = None,
    ) -> Answer:
        """Give permits back (by lease), hand over to waiters, and ask for permits for what follows: one call.

        `runs` have ended; `sleepers` are runs that only wait, and give up their places among all runs.
        """
        call = {
            "leases": {lease: list(ids) for lease, ids in leases.items()},
            "unused": list(unused),
            "runs": list(runs),
            "sleepers": list(sleepers),
            "pauses": [[pause.instance, math.ceil(pause.seconds * 1e6)] for pause in pauses],
            **_groups_of(requests),
            **_taking(take),
        }
        return Answer.of(self._call("release", call))

    def renew(self, leases: Mapping[str, Sequence[str]]) -> tuple[Answer, list[str]]:
        """A worker's leases live on. Also the ids whose lease is gone."""
        reply = self._call("renew", {"leases": {lease: list(ids) for lease, ids in leases.items()}})
        return Answer.of(reply[:4]), reply[4].split()

    def wake(self, definitions: Mapping[str, str] | None = None) -> tuple[Answer, float]:
        """Start what may start by the passing of time, and take back what has expired.

        Also the seconds until there is something to do next; few while any step waits, since what others do may change
        that.
        """
        reply = self._call("wake", {"define": dict(definitions or {})})
        answer = Answer.of(reply[:5])
        due_s = max(0.0, (int(reply[5]) - answer.now_us) / 1e6)
        return answer, min(due_s, clocks.LOOK_WHILE_WAITING_S) if reply[6] else due_s

    def explain(
        self,
        step: str = "",
        instances: Iterable[str] = (),
        *,
        everything: bool = False,
        definitions: Mapping[str, str] | None = None,
    ) -> Explanation:
        """Why a step waits, and how limits stand (those named, and with `everything` those with waiters)."""
        call: dict[str, Any] = {"define": dict(definitions or {}), "limits": list(instances), "all": everything}
        call |= {"id": step} if step else {}
        return Explanation.of(self._call("explain", call))

    def waiters(self, instance: str) -> dict[str, int]:
        """How many wait at a limit, by tenant: 200 tenants at most."""
        return {tenant: int(number) for tenant, number in self._call("waiters", {"limit": instance})[4]}

    # --- the epoch --------------------------------------------------------------------------------------------

    def begin_epoch(self, *, anew: bool = False) -> tuple[str, str]:
        """(generation, state): a new, closed generation where the state is not this server's, or with `anew`."""
        generation, state, _ = self._on_epoch("begin", secrets.token_hex(6), "1" if anew else "0")
        return generation, state

    def restore(
        self,
        *,
        leases: Sequence[Request] = (),
        runs: Sequence[Request] = (),
        sleepers: Collection[str] = (),
        starts: Sequence[PastStarts] = (),
        definitions: Mapping[str, str] | None = None,
    ) -> None:
        """Fill the new generation: executing steps, live runs with slots (`sleepers` only wait), starts of windows."""
        oldest_first = sorted(starts, key=lambda start: -start.age_s)
        call = {
            "define": {**_definitions([*leases, *runs]), **(definitions or {})},
            "leases": [[r.id, r.lease, r.tenant, r.weight, r.lane, r.run, r.limits.text] for r in leases],
            "runs": [[r.run, r.tenant, r.weight, r.limits.text, int(r.run in sleepers)] for r in runs],
            "starts": [[s.instance, round(s.age_s * 1e6), s.count] for s in oldest_first],
        }
        self._call("restore", call)

    def open_epoch(self, generation: str, revision: int) -> bool:
        """Admit from now on. False where another epoch has begun meanwhile."""
        found, state, _ = self._on_epoch("open", generation, str(revision))
        return found == generation and state == "open"

    def revise(self, revision: int) -> None:
        """Tell every caller that the policies have changed."""
        self._on_epoch("revise", str(revision))

    def epoch(self) -> tuple[str, str, int]:
        """(generation, state, revision of the policies)."""
        generation, state, revision = self._on_epoch("look")
        return generation, state, int(revision)

    def permits(self) -> dict[str, str]:
        """permit id → state (r, l, L, h, s), to be compared with Postgres."""
        generation = self.epoch()[0]
        rows = self._guard(lambda: dict(self.client.hscan_iter(f"{self.prefix}{generation}:permit", count=1000)))
        return {str(id_): str(text).split("\x1d", 1)[0] for id_, text in rows.items()}

    def places(self, ids: Sequence[str]) -> dict[str, tuple[str, float]]:
        """Of the steps that the gate knows: ("waiting", 0), or the state of their permit and its age in seconds."""
        generation = self.epoch()[0]

        def work() -> dict[str, tuple[str, float]]:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.hmget(f"{self.prefix}{generation}:waiter", list(ids))
            pipeline.hmget(f"{self.prefix}{generation}:permit", list(ids))
            pipeline.time()
            waiting, held, (seconds, microseconds) = pipeline.execute()
            found = {}
            for id_, place, permit in zip(ids, waiting, held, strict=True):
                if place:
                    found[id_] = ("waiting", 0.0)
                elif permit:
                    state, _, stamp, _ = str(permit).split("\x1d", 3)
                    found[id_] = (state, seconds + (microseconds - int(stamp)) / 1e6)
            return found

        return self._guard(work)

    def definitions(self) -> list[tuple[str, str]]:
        """(name, definition) of every limit that the store knows."""
        generation = self.epoch()[0]
        key = f"{self.prefix}{generation}:limits"
        return self._guard(lambda: [(str(k), str(v)) for k, v in self.client.hscan_iter(key, count=1000)])

    def sweep(self) -> int:
        """Delete what earlier generations left; how many keys."""
        generation = self.epoch()[0]

        def work() -> int:
            old = [
                key
                for key in self.client.scan_iter(match=_literal(self.prefix) + "*", count=1000)
                if not key.startswith((f"{self.prefix}{generation}:", f"{self.prefix}epoch", f"{self.prefix}meter"))
            ]
            for start in range(0, len(old), 500):
                self.client.unlink(*old[start : start + 500])
            return len(old)

        return self._guard(work)

    # --- one call ---------------------------------------------------------------------------------------------

    def _call(self, verb: str, call: dict[str, Any]) -> list[Any]:
        text = json.dumps({**self._times, **call}, separators=(",", ":"))
        return _checked(self._guard(lambda: self._run(verb, text)))

    def _run(self, verb: str, text: str) -> Any:
        if not self._run_id:
            self.client.ping()  # connects, which tells the server's id
        return self._scripts[verb](keys=[self.prefix], args=[self._run_id, text])

    def _send(
        self, verb: str, call: dict[str, Any], understand: Callable[[list[Any]], T], *, may_connect: bool
    ) -> Sent[T]:
        text = json.dumps({**self._times, **call}, separators=(",", ":"))

        def reply(read: Callable[[], Any]) -> T:
            def read_or_run() -> Any:
                try:
                    return read()
                except (redis.exceptions.NoScriptError, redis.ConnectionError):  # closed some time ago, say
                    return self._run(verb, text)

            return understand(_checked(self._guard(read_or_run)))

        def send() -> Sent[T]:
            connection = self._sending.take(may_connect=may_connect)
            if connection is None:
                raise redis.ConnectionError("no connection yet")
            command = ("EVALSHA", self._scripts[verb].sha, 1, self.prefix, self._run_id, text)
            return Sent(self._sending, connection, command, reply)

        return self._guard(send)

    def _on_epoch(self, verb: str, *arguments: str) -> tuple[str, str, str]:
        def work() -> Any:
            self.client.ping()
            return self._epoch(keys=[self.prefix], args=[self._run_id, verb, *arguments])

        generation, state, revision = self._guard(work)
        return generation, state, revision

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{StoreUnavailable.__doc__} ({error})") from None
        except redis.ResponseError as error:
            if str(error).startswith(("LOADING", "READONLY", "MASTERDOWN", "BUSY", "OOM", "CLUSTERDOWN")):
                raise StoreUnavailable(f"{StoreUnavailable.__doc__} ({error})") from None
            raise


def _checked(reply: list[Any]) -> list[Any]:
    if reply[0] != "ok":
        raise EpochClosed
    return reply


def _confirmed(reply: list[Any]) -> tuple[Answer, list[str]]:
    return Answer.of(reply[:5]), reply[5].split()


def _literal(prefix: str) -> str:
    return "".join(f"[{character}]" if character in "*?[]\\" else character for character in prefix)


def _definitions(requests: Iterable[Request]) -> dict[str, str]:
    found: dict[str, str] = {}
    seen: set[int] = set()
    for request in requests:
        if id(request.limits) not in seen:
            seen.add(id(request.limits))
            found.update(request.limits.definitions)
    return found


def _groups_of(requests: Sequence[Request]) -> dict[str, Any]:
    groups: dict[tuple[str, str, float, str, str], list[Any]] = {}
    for request in requests:
        limits = request.limits
        run = request.run if limits.runs else ""  # so that steps of many runs travel, and are counted, together
        group = groups.setdefault((limits.text, request.tenant, request.weight, request.lane, run), [])
        if request.head_start_s or request.lease:
            group.append([request.id, round(request.head_start_s * 1e6), request.lease])
        else:
            group.append(request.id)
    return {"define": _definitions(requests), "groups": [[*key, steps] for key, steps in groups.items()]}


def _taking(take: Capacity | None) -> dict[str, Any]:
    return {"take": take.count, "lanes": list(take.lanes), "lease": take.lease} if take else {}
