"""What stands in the database from the first migration on: the shipped alert rules, and beat's row that
evaluates them where beat is the clock.

Neither is changed again: a rule that somebody has edited or switched off stays so; a deleted one is made anew.
"""

from __future__ import annotations

from typing import Any

from workflows.edge.tables import has_table
from workflows.this_process.celery_app import has_beat_rows

RULES: tuple[dict[str, Any], ...] = (
    {"name": "dead-letters", "metric": "dead_letters", "threshold": 10, "window_s": 3600, "severity": "warning"},
    {"name": "queue-depth", "metric": "queue_depth", "threshold": 1000, "severity": "critical"},
    {"name": "backlog", "metric": "waiting_runs", "threshold": 50, "severity": "warning"},
    {"name": "waiting", "metric": "waiting_runs", "threshold": 100, "severity": "warning"},
    {"name": "failure-rate", "metric": "failure_rate", "threshold": 0.05, "min_runs": 20, "severity": "warning"},
    {"name": "failure-rate-high", "metric": "failure_rate", "threshold": 0.10, "min_runs": 20, "severity": "critical"},
    {"name": "retry-rate", "metric": "retry_rate", "threshold": 0.20, "min_runs": 20, "severity": "warning"},
    {"name": "throttling-overhead", "metric": "throttling_overhead", "threshold": 10, "severity": "warning"},
    {"name": "retries", "metric": "retries", "comparison": ">=", "threshold": 2, "severity": "info"},
    {"name": "processing-time", "metric": "processing_time", "threshold": 30, "severity": "info"},
    {"name": "priority-targets", "metric": "priority_target", "threshold": 1, "severity": "warning"},
    {"name": "zombies", "metric": "zombies", "threshold": 0, "severity": "critical"},
    {"name": "auth-or-configuration", "metric": "auth_or_configuration", "threshold": 0, "severity": "critical"},
    {"name": "observed-failures", "metric": "observed_failures", "threshold": 10, "window_s": 3600,
     "severity": "warning"},
    {"name": "throughput", "metric": "throughput", "comparison": "<", "threshold": 1, "severity": "warning",
     "enabled": False},
)  # fmt: skip
TASK = "headrace: alert rules, every minute"


def ship(**_: Any) -> None:
    """Receiver of `post_migrate`."""
    from dlq.models import AlertRule  # noqa: PLC0415  (models must be loaded)

    if not has_table(AlertRule):
        return
    for rule in RULES:
        AlertRule.objects.get_or_create(name=rule["name"], defaults=rule)
    if not has_beat_rows():
        return
    from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: PLC0415

    minute = {"every": 60, "period": IntervalSchedule.SECONDS}  # there may be several rows alike: some made by hand
    interval = IntervalSchedule.objects.filter(**minute).order_by("id").first()
    PeriodicTask.objects.get_or_create(
        name=TASK,
        defaults={
            "task": "headrace.evaluate_alerts",
            "interval": interval or IntervalSchedule.objects.create(**minute),
            "queue": "headrace.tasks",
            "expire_seconds": 55,
        },
    )
