"""What is measured: each experiment is one verb asked of several contenders in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAIRS = 9
IDLE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One verb of the drivers, its arguments, and who is asked. The first contender is the one that ratios are of."""

    name: str
    title: str
    verb: str
    contenders: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)
    instead: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By contender: other arguments, where one is too slow for those of all."""
    pair_s: float = 10.0
    """About how long one round of all of them takes."""
    pairs: int = PAIRS
    """How many rounds are of use by default: one where there is nothing to compare, and little noise."""
    is_idle: bool = False
    """Nobody does anything for a while before each round."""

    def given_to(self, contender: str) -> dict[str, Any]:
        return {**self.given, **self.instead.get(contender, {})}


PEERS = ("bullmq", "bullmq_aof", "restate")
CELERY = ("celery", "celery_django")
LONE = {"count": 21, "pause_ms": 50}
WIDE = {"count": 6, "pause_ms": 50, "width": 200}


def _of_http(request: str, title: str, connections: int) -> Experiment:
    return Experiment(
        name=f"http_{request}_{connections}",
        title=f"`{title}`, {connections} connection{'s' if connections > 1 else ''}, workers at work",
        verb="http",
        contenders=("headrace",),
        given={"request": request, "connections": connections, "seconds": 4},
        pair_s=12,
    )


REQUESTS = {
    "healthz": "GET /healthz",
    "get_run": "GET /api/runs/{id}",
    "run": "POST …/run",
    "event": "POST /e/{key}, one event",
    "events_100": "POST /e/{key}, 100 events",
}
ALL = (
    Experiment(name="floor", title="Six fsyncs", verb="floor", contenders=("services",), pair_s=1),
    Experiment(
        name="lone", title="One run of five side-effecting steps, alone", verb="lone",
        contenders=("headrace", "no_limits", *PEERS, *CELERY), given=LONE, pair_s=28,
    ),
    Experiment(
        name="lone_noops", title="One run of five no-ops, alone", verb="lone",
        contenders=("headrace", "no_limits"), given={**LONE, "kind": "noops"}, pair_s=9,
    ),
    Experiment(
        name="after_idle", title="The first run after idleness", verb="lone",
        contenders=("headrace", "bullmq", "restate"), given={"count": 1, "pause_ms": 0}, pair_s=63, is_idle=True,
    ),
    Experiment(
        name="fan_out", title="200 parallel side-effecting steps and a join", verb="fan_out",
        contenders=("headrace", "no_limits", *PEERS, "celery"), given=WIDE, pair_s=15,
    ),
    Experiment(
        name="fan_out_noops", title="200 parallel no-ops and a join", verb="fan_out",
        contenders=("headrace", "no_limits"), given={**WIDE, "kind": "noops"}, pair_s=6,
    ),
    Experiment(
        name="cold_fan_out", title="The same, side-effecting, in a worker that has just started and done other work",
        verb="cold_fan_out", contenders=("headrace",), given={**WIDE, "count": 4}, pair_s=15,
    ),
    Experiment(
        name="cold_fan_out_noops", title="The same, no-ops, in a worker that has just started and done other work",
        verb="cold_fan_out", contenders=("headrace",), given={**WIDE, "count": 4, "kind": "noops"}, pair_s=15,
    ),
    Experiment(
        name="chain", title="500 runs of five side-effecting steps, one call", verb="chain",
        contenders=("headrace", "no_limits", *PEERS, *CELERY), given={"runs": 500},
        instead={"celery_django": {"runs": 50}}, pair_s=25,
    ),
    Experiment(
        name="chain_noops", title="500 runs of five no-ops, one call", verb="chain",
        contenders=("headrace", "no_limits"), given={"runs": 500, "kind": "noops"}, pair_s=6,
    ),
    Experiment(
        name="many", title="2,000 runs of one side-effecting step, one call", verb="many",
        contenders=("headrace", "no_limits", "bullmq", "bullmq_aof", "restate", "celery"), given={"runs": 2_000},
        instead={"restate": {"runs": 500}}, pair_s=15,
    ),
    Experiment(
        name="many_noops", title="2,000 runs of one no-op, one call", verb="many",
        contenders=("headrace", "no_limits"), given={"runs": 2_000, "kind": "noops"}, pair_s=6,
    ),
    Experiment(
        name="single_1", title="Single triggers, one caller", verb="single",
        contenders=("headrace", *PEERS), given={"runs": 400, "in_flight": 1}, pair_s=12,
    ),
    Experiment(
        name="single_8", title="Single triggers, eight callers", verb="single",
        contenders=("headrace", *PEERS), given={"runs": 800, "in_flight": 8}, pair_s=12,
    ),
    Experiment(
        name="atomic_1", title="Triggers within `atomic()`, ten to a transaction, one caller", verb="atomic",
        contenders=("headrace",), given={"runs": 400, "in_flight": 1}, pair_s=3,
    ),
    Experiment(
        name="atomic_8", title="Triggers within `atomic()`, ten to a transaction, eight callers", verb="atomic",
        contenders=("headrace",), given={"runs": 800, "in_flight": 8}, pair_s=3,
    ),
    *(_of_http(request, title, count) for request, title in REQUESTS.items() for count in (1, 32)),
    Experiment(
        name="sealing_off", title="Events to the ends of their runs, and nobody encrypts payloads: with the looks "
        "whether somebody does, and with these taken out",
        verb="received", contenders=("headrace", "no_sealing"), given={"events": 1_600, "in_flight": 8}, pair_s=20,
    ),
    Experiment(
        name="sealing_off_cpu", title="The same in one process, from the event to the record: its CPU, by turns with "
        "the looks and without them",
        verb="sealing_off", contenders=("by_hand",), given={"pairs": 20, "events": 50}, pair_s=20,
    ),
    Experiment(
        name="stream", title="A run as a client on the stream sees it", verb="stream",
        contenders=("headrace",), given={"count": 10, "pause_ms": 200}, pair_s=10,
    ),
    Experiment(
        name="costs_lone", title="What a lone run of five side-effecting steps costs", verb="costs_lone",
        contenders=("counted",), given={"count": 40}, pair_s=20, pairs=3,
    ),
    Experiment(
        name="costs_lone_noops", title="What a lone run of five no-ops costs", verb="costs_lone",
        contenders=("counted",), given={"count": 40, "kind": "noops"}, pair_s=20, pairs=3,
    ),
    Experiment(
        name="costs_step", title="What a step costs, of 500 runs of five", verb="costs_many",
        contenders=("counted",), given={"runs": 500}, pair_s=15, pairs=3,
    ),
    Experiment(
        name="delayed_lone", title="One run, 1 ms added to each round trip", verb="lone",
        contenders=("delayed", "headrace"), given=LONE, pair_s=12, pairs=5,
    ),
    Experiment(
        name="delayed_chain", title="500 runs of five, 1 ms added to each round trip", verb="chain",
        contenders=("delayed", "headrace"), given={"runs": 500}, pair_s=12, pairs=5,
    ),
    Experiment(
        name="rabbitmq_lone", title="One run, messages over RabbitMQ", verb="lone",
        contenders=("rabbitmq", "headrace"), given=LONE, pair_s=10, pairs=5,
    ),
    Experiment(
        name="rabbitmq_chain", title="500 runs of five, messages over RabbitMQ", verb="chain",
        contenders=("rabbitmq", "headrace"), given={"runs": 500}, pair_s=10, pairs=5,
    ),
    Experiment(
        name="monitors", title="500 runs of five no-ops: told to nobody, told, and with a Flower that listens",
        verb="chain", contenders=("headrace", "events_off", "flower"), given={"runs": 500, "kind": "noops"}, pair_s=12,
    ),
    Experiment(
        name="hand_over", title="A place that is handed over: from one end to the next start", verb="gap",
        contenders=("headrace",), given={"flow": "queue", "runs": 200}, pair_s=4, pairs=5,
    ),
    Experiment(
        name="hand_over_chain", title="From step to step by the broker, without limits", verb="gap",
        contenders=("no_continuation",), given={"flow": "row", "runs": 1}, pair_s=4, pairs=5,
    ),
    Experiment(
        name="idle", title="All of `up`, idle", verb="idle_stack",
        contenders=("services",), given={"seconds": 30}, pair_s=70, pairs=3,
    ),
    Experiment(
        name="memory", title="The I/O worker, idle", verb="worker_memory",
        contenders=("headrace",), pair_s=1, pairs=1,
    ),
    Experiment(name="edges", title="Webhooks, maps, waits", verb="edges", contenders=("headrace",), pair_s=60, pairs=3),
    Experiment(name="gate", title="The gate, per step", verb="gate", contenders=("services",), pair_s=60, pairs=1),
)  # fmt: skip
BY_NAME = {experiment.name: experiment for experiment in ALL}
OLD_AND_NEW = (
    "lone",
    "lone_noops",
    "fan_out",
    "chain",
    "chain_noops",
    "many",
    "single_1",
    "http_run_32",
    "http_event_32",
)
"""What is measured of two checkouts beside each other, where nothing else is asked for."""


def chosen(names: tuple[str, ...]) -> list[Experiment]:
    """Those of these names; `http` means all that begin with it. Raises ValueError for an unknown one."""
    if not names:
        return list(ALL)
    found: list[Experiment] = []
    for name in names:
        some = [BY_NAME[name]] if name in BY_NAME else [each for each in ALL if each.name.startswith(f"{name}_")]
        if not some:
            raise ValueError(f"There is no experiment {name!r}; there are {', '.join(BY_NAME)}.")
        found += [each for each in some if each not in found]
    return found
