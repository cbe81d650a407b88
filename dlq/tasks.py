"""Ordinary Celery tasks: beat has the rules looked at every minute, and workers deliver what there is to say."""

from __future__ import annotations

from dlq.alerting import evaluation
from workflows.this_process.celery_app import app, has_beat_rows


@app.task(shared=False, name="headrace.evaluate_alerts")
def evaluate_alerts() -> dict[str, int]:
    """Look at every alert rule, and deliver."""
    change = evaluation.evaluate()
    return {"fired": change.fired, "recovered": change.recovered, "delivered": evaluation.deliver()}


@app.task(shared=False, name="headrace.deliver_alerts", ignore_result=True)
def deliver_alerts() -> None:
    """Deliver what is due."""
    evaluation.deliver()


def evaluate_without_beat() -> None:
    """The leader's job: look at every rule where celery-beat does not have it done."""
    if not has_beat_rows():
        evaluation.evaluate()


def deliver_soon() -> None:
    """The leader's job: have a worker deliver what is due."""
    if evaluation.is_due():
        deliver_alerts.delay()
