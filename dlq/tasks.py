"""Ordinary Celery tasks: beat has the rules looked at every minute, and workers deliver what there is to say."""

from __future__ import annotations

from celery import shared_task

from dlq.alerting import evaluation


@shared_task(name="headrace.evaluate_alerts")
def evaluate_alerts() -> dict[str, int]:
    """Look at every alert rule, and deliver."""
    change = evaluation.evaluate()
    return {"fired": change.fired, "recovered": change.recovered, "delivered": evaluation.deliver()}


@shared_task(name="headrace.deliver_alerts", ignore_result=True)
def deliver_alerts() -> None:
    """Deliver what is due."""
    evaluation.deliver()


def deliver_soon() -> None:
    """The leader's job: have a worker deliver what is due."""
    if evaluation.is_due():
        deliver_alerts.delay()
