"""Ordinary Celery tasks: beat has the rules looked at every minute, and workers deliver what there is to say."""

from __future__ import annotations

from celery import shared_task

from dlq import alerts


@shared_task(name="headrace.evaluate_alerts")
def evaluate_alerts() -> dict[str, int]:
    """Look at every alert rule, and deliver."""
    change = alerts.evaluate()
    return {"fired": change.fired, "recovered": change.recovered, "delivered": alerts.deliver()}


@shared_task(name="headrace.deliver_alerts", ignore_result=True)
def deliver_alerts() -> None:
    """Deliver what is due."""
    alerts.deliver()


def deliver_soon() -> None:
    """The leader's job: have a worker deliver what is due."""
    if alerts.is_due():
        deliver_alerts.delay()
