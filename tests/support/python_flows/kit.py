"""Flows for the tests of the test kit: waits of all kinds, and code that is at fault."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
from collections.abc import Callable
from typing import Any

from workflows.functions import CancelOn, Cron, Event, ReceivedEvent, Step, StepFailed, flow
from workflows.functions.failures import StepCallRefused

numbers = itertools.count()


@flow(
    "kit-onboarding",
    on=Event("kit/signup", if_="event.data.plan == 'pro'"),
    cancel_on=[CancelOn("kit/left", match="data.user")],
    timeout="30d",
)
def onboarding(event: ReceivedEvent, step: Step) -> Any:
    """Everything that can be waited for."""
    user = event.data["user"]
    link = step.callback_url("confirmed")
    step.run("mail", send_mail, user, link=link)
    body = step.wait_for_callback("confirmed", timeout="7d")
    if body is None:
        return {"state": "unconfirmed"}
    decision = step.wait_for_approval("grant", approvers=["group:sales"], timeout="2d")
    if not decision["approved"]:
        return {"state": "refused", "by": decision.get("by")}
    paid = step.wait_for_event("paid", "kit/paid", if_="async.data.user == event.data.user && async.data.cents > 100")
    step.sleep_until("new-year", dt.datetime(2031, 1, 1, tzinfo=dt.UTC))
    return {"state": "in", "cents": paid.data["cents"], "at": step.now().isoformat()}


def send_mail(user: str, *, link: str) -> str:
    raise AssertionError(f"a test sends no mail to {user} ({link})")


@flow("kit-outside")
def outside(event: ReceivedEvent, step: Step) -> Any:
    """Reaches what no test should."""
    found = step.fetch("rates", "https://rates.example/today")
    child = step.invoke("settle", "kit-nowhere", {"rate": found["body"]})
    return {"rate": found["body"], "settled": child}


@flow("kit-random-order")
def random_order(event: ReceivedEvent, step: Step) -> Any:
    """Asks for another step each time."""
    step.run("first", int)
    step.run(f"second-{next(numbers)}", int)
    return step.run("third", int)


@flow("kit-random-output")
def random_output(event: ReceivedEvent, step: Step) -> Any:
    """Returns something else each time."""
    step.run("first", int)
    return random.random()


@flow("kit-parent", on_failure="kit-follow-up")
def parent(event: ReceivedEvent, step: Step) -> Any:
    """Runs a child, and fails with it unless that is caught."""
    try:
        return step.invoke("child", child, event.data)
    except StepFailed as failure:
        if event.data.get("caught"):
            return {"caught": failure.error}
        raise


@flow("kit-child")
async def child(event: ReceivedEvent, step: Step) -> Any:
    """Does what it is told."""
    await step.sleep("nap", "1h")
    first, second = await asyncio.gather(step.run("one", later, 1), step.run("two", later, 2))
    await step.send_event("told", "kit/told", {"sum": first + second})
    return await step.run("work", later, event.data.get("value"))


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    if value == "bad":
        raise ValueError(value)
    return value


@flow("kit-follow-up")
def follow_up(event: ReceivedEvent, step: Step) -> Any:
    """Hears of failures."""
    return {"flow": event.data["run"]["flow"], "error": event.data["error"]["name"]}


@flow("kit-nightly", on=Cron("0 3 * * *"))
def nightly(event: ReceivedEvent, step: Step) -> Any:
    """By a schedule: a log, a report of progress, a secret."""
    step.logger.info("begins", cron=event.data["cron"])
    step.progress(50, "half")
    step.run("key", len, step.secret("API_KEY"))
    step.logger.info("goes on")
    return step.patched("new-way")


@flow("kit-refused-options")
def refused_options(event: ReceivedEvent, step: Step) -> dict[str, str]:
    """Deadlines and lists of events that can't be: what each call is told."""
    calls: dict[str, Callable[[str], Any]] = {
        "naive": lambda name: step.run(name, int, deadline=dt.datetime(2030, 1, 1)),  # noqa: DTZ001
        "text": lambda name: step.run(name, int, deadline="5m"),  # type: ignore[arg-type]
        "none": lambda name: step.send_event(name, []),
        "nameless": lambda name: step.send_event(name, [{"data": {}}]),
        "both": lambda name: step.send_event(name, [{"name": "a"}], {"n": 1}),
        "wide": lambda name: step.send_event(name, [{"name": "a"}] * 1_001),
    }
    told = {}
    for name, call in calls.items():
        try:
            call(name)
        except StepCallRefused as error:
            told[name] = str(error)
    return told


@flow("kit-no-time", retry={"retries": 5, "delay": "1h", "backoff": "fixed"})
def no_time(event: ReceivedEvent, step: Step) -> list[Any]:
    """A step that fails, and whose next try would begin after its deadline."""
    try:
        step.run("fails", int, "x", deadline=step.now() + dt.timedelta(minutes=30))
    except StepFailed as failure:
        return [failure.error, failure.attempts, failure.message]
    return []


@flow("kit-late")
def late(event: ReceivedEvent, step: Step) -> list[Any]:
    """A step within its deadline, and one after it."""
    by = step.now() + dt.timedelta(hours=1)
    soon = step.run("soon", int, "1", deadline=by)
    step.sleep("a-while", "2h")
    try:
        step.run("late", int, "2", deadline=by)
    except StepFailed as failure:
        return [soon, failure.error]
    return [soon]


@flow("kit-several-events")
def several(event: ReceivedEvent, step: Step) -> Any:
    """Two events in one step."""
    return step.send_event("tell", [{"name": "kit/a", "data": {"n": 1}}, {"name": "kit/b"}])
