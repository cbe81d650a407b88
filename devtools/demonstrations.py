"""What `demo` runs, and what must come of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Example:
    """A run to be made, and what must come of it; `attempts` by step where it matters."""

    flow: str
    data: dict[str, Any]
    expected: str = "completed"
    attempts: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    """Members that the run's output must have."""


EXAMPLES = (
    Example(
        flow="ecommerce-order-processing",
        data={
            "orderId": "order-12345",
            "items": [{"sku": "WIDGET-001", "quantity": 2}],
            "paymentMethod": "stripe-payment-method-id",
        },
    ),
    Example(
        flow="ecommerce-order-processing",
        expected="failed",
        attempts={"validate-order": 2},
        data={"orderId": "order-12346", "items": [{"sku": "NO-SUCH-THING", "quantity": 1}], "paymentMethod": "card"},
        statuses={"process-payment": "cancelled"},
    ),
    Example(flow="demo-task", data={"taskId": "test-uuid-123", "simulateFailure": False, "delayMs": 1000}),
    Example(
        flow="demo-task",
        attempts={"step-1-initialize": 1, "step-2-process": 3},
        data={
            "taskId": "recovers",
            "simulateFailure": True,
            "failAtStep": "step-2-process",
            "failTimes": 2,
            "delayMs": 200,
        },
    ),
    Example(
        flow="demo-task",
        expected="failed",
        attempts={"step-3-simulate-delay": 1, "step-4-simulate-api-call": 6},
        data={
            "taskId": "retry-test-123",
            "simulateFailure": True,
            "failAtStep": "step-4-simulate-api-call",
            "delayMs": 200,
        },
        statuses={"step-5-finalize": "cancelled"},
    ),
    Example(flow="parallel-fan-in", data={"skus": ["WIDGET-001", "GADGET-002", "GIZMO-003"]}),
    Example(
        flow="conditional-refund",
        data={"refundId": "r-1", "amount": 40},
        attempts={"pay-at-once": 2},
        statuses={"ask-a-person": "skipped"},
    ),
    Example(
        flow="conditional-refund",
        data={"refundId": "r-2", "amount": 4000},
        statuses={"pay-at-once": "skipped", "ask-a-person": "completed"},
    ),
    Example(
        flow="shipment",
        data={
            "orderId": "o-77",
            "items": [{"sku": f"SKU-{number}", "quantity": number} for number in range(1, 6)],
        },
    ),
)
STARTED_BY_EVENT = ("refund-log", 2)


REPAIRED = ("validate-order", {"items": [{"sku": "WIDGET-001", "quantity": 1}]})
"""The step whose dead letter is resumed, and what is changed of its payload."""


LATE, SOON = (dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes) for minutes in (-1, 5))
CODE_EXAMPLES = (
    Example(flow="my-job", data={"value": 21}, output={"success": True, "result": 42}),
    Example(flow="my-job", data={}, expected="failed"),
    Example(flow="my-function", data={"eventId": "e-1"}, output={"eventId": "e-1"}),
    Example(
        flow="demo-task-in-python",
        data={"taskId": "recovers", "simulateFailure": True, "failTimes": 1, "delayMs": 200},
        output={"success": True},
    ),
    Example(
        flow="order-in-python",
        data={"orderId": "order-1", "items": [{"sku": "WIDGET-001", "quantity": 2}]},
        output={"charged": 2500},
    ),
    Example(flow="send-email-campaign", data={"campaignId": "spring"}, output={"sent": 120, "failed": 0}),
    Example(
        flow="import-with-progress",
        data={"file": "people.csv?records=240", "importType": "contacts"},
        output={"total": 240, "successful": 216, "failed": 24},
    ),
    Example(flow="process-import", data={"importId": "i-1", "file": "people.csv?records=250"}, output={"batches": 3}),
    Example(
        flow="throttled-bulk-import",
        data={"records": [{"id": "1", "email": "a@example.org"}]},
        output={"successful": 1},
    ),
    Example(flow="item-process", data={"item": {"id": "one"}}, output={"processed": 1}),
    Example(
        flow="items-process-batch",
        data={"items": [*({"id": f"i-{number}"} for number in range(9)), {"name": "no id"}]},
        output={"total": 10, "failed": 1},
    ),
    Example(
        flow="idempotent-payment",
        data={"orderId": "order-1", "amount": 2500, "idempotencyKey": "k-1"},
        output={"status": "processed"},
    ),
    *(
        Example(flow=flow, data={})
        for flow in (
            "cleanup-expired-sessions",
            "cleanup-expired-tokens",
            "daily-cleanup",
            "sync-external-data",
            "every-five-minutes",
            "expensive-job",
            "optimized-job",
            "monitored-job",
            "logging-example",
        )
    ),
    Example(flow="sync-github-metrics", data={}, output={"repositories": 7}),
    Example(flow="generate-sitemap", data={}, output={"pages": 7}),
    Example(flow="create-or-update-user", data={"email": "user@example.com", "name": "User"}),
    Example(flow="resilient-job", data={"path": "/data?fail=1"}, output={"ok": True}),
    Example(
        flow="custom-retry-job", data={"path": "/a?fail=1&fail_as=429", "retryAfter": "200ms"}, output={"ok": True}
    ),
    Example(flow="custom-retry-job", data={"path": "/b?fail=9&fail_as=422"}, expected="failed"),
    Example(
        flow="risky-operation",
        data={"path": "/c?fail=9&fail_as=500"},
        output={"error": "Non-retriable error"},
    ),
    Example(
        flow="error-handling-example",
        data={"email": "a@example.org", "path": "/d?fail=1&fail_as=429&retry_after=1"},
        output={"success": True},
    ),
    Example(
        flow="error-handling-example",
        data={"email": "a@example.org", "path": "/e?fail=9&fail_as=403"},
        expected="failed",
    ),
    Example(
        flow="graceful-example",
        data={"to": "a@example.org", "primary": "/v3/mail/send?fail=9"},
        output={"provider": "fallback"},
    ),
    Example(flow="critical-job", data={"invalid": True}, expected="failed"),
    Example(flow="reporting-example", data={"invalid": True}, expected="failed"),
    Example(flow="monitor-dlq", data={}),
    Example(flow="time-sensitive", data={"deadline": LATE.isoformat()}, output={"reason": "deadline_passed"}),
    Example(flow="time-sensitive", data={"deadline": SOON.isoformat()}, output={"status": "done"}),
    Example(
        flow="rate-limited-api",
        data={"apiProvider": "p-1", "path": "/limited?remaining=0&reset_s=2"},
        output={"remaining": 0},
    ),
    Example(flow="token-bucket", data={"n": 1}, output={"n": 1}),
    Example(
        flow="batch-rate-limited", data={"items": [{"id": f"b-{n}"} for n in range(150)]}, output={"processed": 150}
    ),
    Example(flow="rate-limited-job", data={"userId": "u-1"}, output={"userId": "u-1"}),
    Example(flow="throttled-job", data={"userId": "u-1"}, output={"userId": "u-1"}),
    Example(flow="hello-world", data={}, output={"name": "workflow-from-headrace"}),
    Example(flow="create-workflow", data={"name": "test"}),
    Example(flow="long-running-job", data={"seconds": 0.5}, output={"answeredAfter": 0.5}),
)
"""Of examples/python: those without long waits."""

SENT_EVENTS = (
    {"name": "user/signup", "data": {"userId": "abc123", "email": "user@example.com"}},
    {"name": "job/critical", "data": {"_priority": "CRITICAL", "_originalJobType": "security.alert"}},
    {"name": "job/background", "data": {"_priority": "BACKGROUND", "_originalJobType": "archive"}},
    *({"name": "item/gathered", "data": {"item": {"id": f"g-{number}"}}} for number in range(5)),
    *({"name": "site/changed", "data": {}} for _ in range(3)),
)
FOLLOWERS = (
    ("on-user-signup", 1), ("critical-priority-job", 1), ("background-job", 1), ("items-gathered", 1),
    ("sitemap-on-change", 1), ("process-import-batch", 3), ("critical-job-failed", 1), ("my-job-failed", 1),
    ("reporting-example-failed", 1), ("next-workflow", 1), ("report-generate", 1), ("stripe-webhook", 1),
)  # fmt: skip
"""The flows that start by events, by other flows and by a webhook, and how often."""
REPORT = {
    "reportType": "analytics",
    "dateRange": {"start": "2026-01-01", "end": "2026-01-31"},
    "userId": "u-1",
}
"""What is asked for by an event, whose job is polled."""
