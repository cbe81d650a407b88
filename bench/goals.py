"""What Headrace is to reach, judged by the interval: a bound holds where all of the interval is within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.paired import Estimate, estimate, ratios

Results = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
"""By experiment, contender and metric: a value for each round."""


class Verdict(StrEnum):
    HOLDS = "holds"
    MISSED = "missed"
    OPEN = "open"
    """The bound is within the interval: measure more, or elsewhere."""
    UNKNOWN = "not measured"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound of a metric; of its ratio to a peer's where there is one."""

    title: str
    experiment: str
    metric: str
    contender: str = "headrace"
    peer: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        sign, value = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{sign} {value:,g}" + (f" × {self.peer}" if self.peer else "")

    def found(self, results: Results) -> Estimate | None:
        """The metric, or its ratio, as it was measured; None where it was not."""
        of = results.get(self.experiment, {})
        ours = of.get(self.contender, {}).get(self.metric, ())
        theirs = of.get(self.peer, {}).get(self.metric, ()) if self.peer else ()
        values = ratios(ours, theirs) if self.peer else list(ours)
        return estimate(values) if values else None

    def verdict(self, found: Estimate | None) -> Verdict:
        if found is None:
            return Verdict.UNKNOWN
        if self.at_most is not None:
            held, missed = found.high <= self.at_most, found.low > self.at_most
        else:
            assert self.at_least is not None
            held, missed = found.low >= self.at_least, found.high < self.at_least
        return Verdict.HOLDS if held else Verdict.MISSED if missed else Verdict.OPEN


GOALS = (
    Goal(title="one 5-step run", experiment="lone", metric="own_ms", peer="bullmq", at_most=1.0),
    Goal(title="trigger → first step", experiment="lone", metric="first_step_ms", peer="bullmq", at_most=1.2),
    Goal(title="200 parallel + join, repeated", experiment="fan_out", metric="own_ms", peer="restate", at_most=0.7),
    Goal(title="200 parallel + join, the first, ms", experiment="cold_fan_out", metric="first own_ms", at_most=50),
    Goal(title="many triggers, executed", experiment="many", metric="executed_per_s", peer="bullmq", at_least=1.2),
    Goal(title="`/healthz`, per s", experiment="http_healthz_32", metric="per_s", at_least=2_000),
    Goal(title="`GET /api/runs/{id}`, per s", experiment="http_get_run_32", metric="per_s", at_least=500),
    Goal(title="`POST …/run`, per s", experiment="http_run_32", metric="per_s", at_least=1_500),
    Goal(title="`POST …/run`, p99 in ms", experiment="http_run_32", metric="p99_ms", at_most=100),
    Goal(title="`POST /e/{key}`, per s", experiment="http_event_32", metric="per_s", at_least=1_500),
    Goal(title="`POST /e/{key}`, p99 in ms", experiment="http_event_32", metric="p99_ms", at_most=100),
    Goal(title="events in arrays of 100, per s", experiment="http_events_100_32", metric="items_per_s", at_least=8_000),
    Goal(title="arrays of 100, p99 in ms", experiment="http_events_100_32", metric="p99_ms", at_most=100),
    Goal(title="I/O worker, MiB", experiment="memory", metric="memory_mib", at_most=80),
    Goal(title="all of `up`, MiB", experiment="idle", contender="services", metric="up_memory_mib", at_most=450),
    Goal(title="idle, % of a core", experiment="idle", contender="services", metric="cpu_percent", at_most=2),
    Goal(
        title="idle, transactions/s", experiment="idle", contender="services", metric="transactions_per_s", at_most=10
    ),
    Goal(
        title="idle, store commands/s",
        experiment="idle",
        contender="services",
        metric="store_commands_per_s",
        at_most=20,
    ),
    Goal(
        title="Postgres round trips", experiment="costs_lone", contender="counted", metric="postgres_turns", at_most=7
    ),
    Goal(title="store round trips", experiment="costs_lone", contender="counted", metric="store_turns", at_most=3),
)
