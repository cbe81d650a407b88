"""What alerts say: a sentence for the metric, its value with its unit, the flow, the step and a link."""

from __future__ import annotations

from uuid import UUID

from dlq.alerting import metrics
from dlq.models import AlertRule, DeadLetter
from dlq.models.alert import Metric
from workflows.models import Organization, Run
from workflows.this_process.configuration import configuration

_SENTENCES = {
    Metric.DEAD_LETTERS: "High DLQ volume: {value} within {window}.",
    Metric.QUEUE_DEPTH: "Queue depth: {value} ready and not started. Consider scaling up.",
    Metric.WAITING_RUNS: "Queue backlog growing: {value} waiting. Consider scaling up.",
    Metric.FAILURE_RATE: "High failure rate detected: {value} of the runs that ended within {window}.",
    Metric.RETRY_RATE: "High retry rate detected: {value} of the steps tried within {window}.",
    Metric.THROTTLING_OVERHEAD: "High throttling overhead detected: {value}.",
    Metric.RETRIES: "Step required {value}.",
    Metric.PROCESSING_TIME: "Long processing time: {value} on average within {window}.",
    Metric.ZOMBIES: "Workers were lost: {value} running that nobody has taken over.",
    Metric.THROUGHPUT: "Low throughput: {value} within {window}.",
    Metric.PRIORITY_TARGET: "A step waits longer than its priority allows: {value} of the target.",
    Metric.OBSERVED_FAILURES: "Tasks of the application failed: {value} within {window}.",
    Metric.UNCONFIGURED: "API authentication or configuration failed: {value} within {window}.",
}
_UNITS = {
    Metric.DEAD_LETTERS: ("failed job", "failed jobs"),
    Metric.QUEUE_DEPTH: ("step", "steps"),
    Metric.WAITING_RUNS: ("run", "runs"),
    Metric.RETRIES: ("retry", "retries"),
    Metric.ZOMBIES: ("step", "steps"),
    Metric.THROUGHPUT: ("run a minute", "runs a minute"),
    Metric.OBSERVED_FAILURES: ("task", "tasks"),
    Metric.UNCONFIGURED: ("failure", "failures"),
}


def value_of(metric: str, value: float) -> str:
    """A metric's value with its unit: `11 failed jobs`, `5.0%`, `12,345 ms`."""
    kind = Metric(metric)
    if kind in {Metric.FAILURE_RATE, Metric.RETRY_RATE, Metric.PRIORITY_TARGET}:
        return f"{value:.1%}"
    if kind is Metric.THROTTLING_OVERHEAD:
        return f"{round(value * 1000):,} ms"
    if kind is Metric.PROCESSING_TIME:
        return f"{value:.1f} s"
    one, several = _UNITS[kind]
    return f"{value:,.10g} {one if value == 1 else several}"


def title(rule: AlertRule, reading: metrics.Reading) -> str:
    """One line: the rule and the value."""
    return f"{rule.name}: {value_of(rule.metric, reading.value)}"


def message(rule: AlertRule, reading: metrics.Reading) -> str:
    """The sentence, the rule and its threshold, and where to look."""
    organization = Organization.objects.filter(id=reading.org_id).values_list("slug", flat=True).first() or ""
    value, limit = value_of(rule.metric, reading.value), value_of(rule.metric, rule.threshold)
    return "\n".join(
        [
            _SENTENCES[Metric(rule.metric)].format(value=value, window=_window(rule.window_s)),
            f"Rule: {rule.name}, severity {rule.severity}: {Metric(rule.metric).label} {rule.comparison} {limit}.",
            f"Organization: {organization}.",
            *_where(reading.run_id, reading.step),
        ]
    )


def failure_message(letter: DeadLetter) -> str:
    """Of a failure of a flow that wants to be told of each."""
    return "\n".join(
        [
            f"Flow {letter.flow.slug}, step {letter.step_key or '(the run itself)'}: {letter.error_message[:1000]}",
            f"Event id: {letter.event_id or letter.run_id}. Execution: {letter.run_id}. Attempts: {letter.attempts}.",
            f"Link: {configuration().public_url}/runs/{letter.run_id}/",
        ]
    )


def _where(run_id: UUID | None, step: str) -> list[str]:
    """A run that shows it; else the list of runs."""
    if run_id is None:
        return [f"Link: {configuration().public_url}/"]
    flow = Run.objects.filter(id=run_id).values_list("flow__slug", flat=True).first()
    lines = [f"Flow: {flow}{f', step: {step}' if step else ''}. Execution: {run_id}."] if flow else []
    return [*lines, f"Link: {configuration().public_url}/runs/{run_id}/"]


def _window(seconds: int) -> str:
    for size, name in ((3_600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return f"the last {name}" if count == 1 else f"the last {count} {name}s"
    return f"the last {seconds} seconds"
