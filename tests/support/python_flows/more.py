"""More flows in Python for the tests: transactions, caught failures, limits, the order of steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.db import transaction

from tests.support.python_flows.basic import tell
from workflows.errors import NonRetriable
from workflows.functions import Concurrency, ReceivedEvent, Step, StepFailed, flow
from workflows.models import Organization


@flow("code-atomic", retry={"retries": 2, "delay": "50ms", "backoff": "fixed"})
def atomic(event: ReceivedEvent, step: Step) -> Any:
    """Two writes, each with its record; the second fails as often as it is told."""
    slug = event.data["slug"]
    step.atomic("one", write, slug + "-1", 0, event.data["dir"])
    step.atomic("two", write, slug + "-2", event.data.get("fail", 0), event.data["dir"])
    return Organization.objects.filter(slug__startswith=slug).count()


def write(slug: str, fail: int, where: str) -> str:
    Organization.objects.create(slug=slug, name=slug)
    tell(where, slug)
    if len(list(Path(where).glob(f"{slug}.*"))) <= fail:
        raise RuntimeError("after the write")
    return slug


@flow("code-within-atomic")
def within_atomic(event: ReceivedEvent, step: Step) -> Any:
    """A step within an open transaction, which is refused."""
    with transaction.atomic():
        step.run("a", time.time)


@flow("code-nested")
def nested(event: ReceivedEvent, step: Step) -> Any:
    """A step within a step, which is refused."""
    return step.run("outer", lambda: step.run("inner", time.time))


@flow("code-caught")
def caught(event: ReceivedEvent, step: Step) -> Any:
    """A failure that is handled, and a step after it that fails for good while it is told to."""
    where = event.data["dir"]
    step.run("first", tell, where, "first")
    try:
        step.run("shaky", fail, "shaky")
    except StepFailed:
        step.run("instead", tell, where, "instead")
    step.run("last", last, where)
    return "done"


def fail(what: str) -> None:
    raise NonRetriable(what)


def last(where: str) -> str:
    if Path(where, "broken").exists():
        raise NonRetriable("broken")
    return tell(where, "last")


@flow("code-limited", concurrency=Concurrency(2))
def limited(event: ReceivedEvent, step: Step) -> Any:
    """Steps that hold a limit of two for a moment."""
    return step.map("hold", hold, range(6))


def hold(number: int) -> list[float]:
    began = time.time()
    time.sleep(0.15)
    return [began, time.time()]
