"""How many whole runs may work at once and start in a period, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from throttling.defaults import SHIPPED_SIZE, SIZES
from throttling.environment import environment_limits_runs
from throttling.limits import RateLimit
from workflows.engine.pipeline import admit

RAISE = (
    "`manage.py limits set --runs --concurrency 20 --rate 200/60s` changes it live, HEADRACE_SIZE for good "
    f"({', '.join(SIZES)} or off)."
)


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """What holds now; None: there is no such limit. `source`: an override, the environment, or the database, where it
    was made with a default or (from before there was one) without."""

    concurrency: int | None
    rate: RateLimit | None
    source: Literal["override", "environment", "database"]

    @property
    def sentence(self) -> str:
        """For `doctor`."""
        if self.concurrency is None and self.rate is None:
            size, rate = SIZES[SHIPPED_SIZE]
            of_old = " (this database is from before there was a limit)" if self.source == "database" else ""
            return (
                f"Any number of runs works at once{of_old}; a new database has {size} at once and "
                f"{rate.max_executions} starts a minute. HEADRACE_SIZE={SHIPPED_SIZE} sets the same here."
            )
        at_once = f"{self.concurrency} runs work at once" if self.concurrency else "any number of runs works at once"
        starts = f"{self.rate.max_executions} start in {self.rate.per_ms / 1000:g} s" if self.rate else ""
        return f"At most {at_once}{' and ' + starts if starts else ''} (by the {self.source}). {RAISE}"

    def as_json(self) -> dict[str, Any]:
        rate = {"limit": self.rate.max_executions, "periodMs": self.rate.per_ms} if self.rate else None
        return {"concurrency": self.concurrency, "rate": rate, "source": self.source}


def current() -> RunLimits:
    """The limits of whole runs, as this process knows them."""
    policies = admit.policies()
    override = policies.override("runs")
    source: Literal["override", "environment", "database"] = "database"
    if override and (override.concurrency or override.rate):
        source = "override"
    elif environment_limits_runs():
        source = "environment"
    rate = (override.rate if override else None) or policies.runs.rate
    return RunLimits(concurrency=policies.run_places, rate=rate, source=source)
