"""Flows in Python: `@flow` on a function that takes `(event, step)`."""

from workflows.errors import NonRetriable, RetryAfter
from workflows.functions.declarations import (
    Batch,
    CancelOn,
    Concurrency,
    Cron,
    Debounce,
    Event,
    Idempotency,
    RateLimit,
    Singleton,
    Throttle,
    Webhook,
)
from workflows.functions.failures import StepFailed
from workflows.functions.flows import FunctionFlow, flow
from workflows.functions.payloads import ReceivedEvent
from workflows.functions.tools import Step

__all__ = [
    "Batch",
    "CancelOn",
    "Concurrency",
    "Cron",
    "Debounce",
    "Event",
    "FunctionFlow",
    "Idempotency",
    "NonRetriable",
    "RateLimit",
    "ReceivedEvent",
    "RetryAfter",
    "Singleton",
    "Step",
    "StepFailed",
    "Throttle",
    "Webhook",
    "flow",
]
