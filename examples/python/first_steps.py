"""Where to begin: the template, a function with the schema of its event, the demo task, and an order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from examples.python.outside import Outside, Row
from workflows.functions import (
    Event,
    Idempotency,
    NonRetriable,
    ReceivedEvent,
    Step,
    StepFailed,
    Throttle,
    flow,
)


@flow("my-job-failed")
def my_job_failed(event: ReceivedEvent, step: Step) -> Row:
    """What follows when my-job has failed for good: `event.data` has error, event and run."""
    return {"failed": event.data["run"]["id"], "error": event.data["error"]["message"]}


@flow("my-job", on=Event("my/event"), retries=5, concurrency=10, on_failure=my_job_failed)
def my_job(event: ReceivedEvent, step: Step) -> Row:
    """The template: validate, process, notify."""
    outside = Outside.of(step)
    step.run("validate", validate, event.data)
    result = step.run("process", process_data, event.data)
    step.run("notify", outside.slack, "jobs", "my-job is done", f"done:{step.run_id}", result=result)
    return {"success": True, "result": result}


def validate(data: Mapping[str, Any]) -> None:
    """Raises NonRetriable for data that can't be processed."""
    if "value" not in data:
        raise NonRetriable("value is missing")


def process_data(data: Mapping[str, Any]) -> int:
    """The work."""
    return int(data["value"]) * 2


class MyEvent(BaseModel):
    """The data of `my/event.triggered`. What does not fit is refused where it is sent."""

    eventId: str = Field(min_length=1)


@flow("my-function", name="My Function", on=Event("my/event.triggered", model=MyEvent), retries=3)
def my_function(event: ReceivedEvent, step: Step) -> Row:
    """A function with the schema of its event."""
    seen = step.run("remember", lambda: event.data.eventId)
    return {"eventId": seen}


# --- the demo task ----------------------------------------------------------------------------------------------------


class DemoTask(BaseModel):
    """The data of `demo/task.requested`."""

    taskId: str = Field(min_length=1)
    simulateFailure: bool = False
    failAtStep: str = "step-4-simulate-api-call"
    failTimes: int = 1_000
    delayMs: int = Field(1_000, ge=0)
    force: bool = False


@flow(
    "demo-task-in-python",
    on=Event("demo/python-task.requested", model=DemoTask),
    retry="demo",
    idempotency=Idempotency("input.taskId", force="has(input.force) && input.force"),
    throttle=Throttle(20, "60s"),
)
def demo_task(event: ReceivedEvent, step: Step) -> Row:
    """Five steps, each of which can be told to fail (examples/flows/demo-task.yaml is the same)."""
    task: DemoTask = event.data

    def work(name: str, result: Row) -> Row:
        if task.simulateFailure and task.failAtStep == name and step.attempt < task.failTimes:
            raise RuntimeError(f"simulated failure at {name}, try {step.attempt + 1}")
        return result

    step.run("step-1-initialize", work, "step-1-initialize", {"initialized": True})
    step.run("step-2-process", work, "step-2-process", {"processed": len(task.taskId)})
    step.run("step-3-simulate-delay", work, "step-3-simulate-delay", {"sleepsMs": task.delayMs})
    step.sleep("delay", task.delayMs)
    step.run("step-4-simulate-api-call", work, "step-4-simulate-api-call", {"status": 200})
    done: Row = step.run("step-5-finalize", work, "step-5-finalize", {"taskId": task.taskId, "success": True})
    return done


# --- an order ---------------------------------------------------------------------------------------------------------


class Line(BaseModel):
    """An article of an order."""

    sku: str
    quantity: int = Field(ge=1)


class Order(BaseModel):
    """The data of `order/placed`."""

    orderId: str = Field(min_length=1)
    items: list[Line] = Field(min_length=1)


PRICES = {"WIDGET-001": 1_250, "GADGET-002": 4_900}
CRITICAL = {"concurrency": 2, "rate": {"limit": 10, "period": "10s"}}


@flow("order-in-python", name="E-commerce Order Processing", on=Event("order/placed", model=Order))
def order(event: ReceivedEvent, step: Step) -> Row:
    """An order: validate, charge, update the inventory, and a mail that may fail."""
    outside, placed = Outside.of(step), event.data
    total = step.run("validate-order", total_of, placed)
    charge = step.run(
        "process-payment", outside.charge, total, "eur", placed.orderId, retries=4, throttling=CRITICAL
    )  # five tries, two at a time
    inventory = {line.sku: 100 - line.quantity for line in placed.items}
    rows = [{"id": sku, "available": available} for sku, available in inventory.items()]
    step.run("update-inventory", outside.upsert, "inventory", *rows)
    try:
        mail = f"order:{placed.orderId}"
        step.run("send-notification", outside.send_mail, "customer@example.org", "order", mail, retries=0)
    except StepFailed as failure:  # not critical: the order is good without it
        step.logger.warning("the mail was not sent", error=failure.message)
    return {"orderId": placed.orderId, "charged": total, "charge": charge["id"], "inventory": inventory}


def total_of(placed: Order) -> int:
    """In cents. Raises NonRetriable for articles that are unknown."""
    unknown = [line.sku for line in placed.items if line.sku not in PRICES]
    if unknown:
        raise NonRetriable(f"unknown articles: {', '.join(unknown)}")
    return sum(PRICES[line.sku] * line.quantity for line in placed.items)
