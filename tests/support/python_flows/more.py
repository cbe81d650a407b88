"""More flows in Python for the tests: transactions, caught failures, limits, the order of steps."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction

from tests.support.python_flows.basic import tell, told
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


@flow("code-gathers")
def gathers(event: ReceivedEvent, step: Step) -> Any:
    """The same small gather again and again: of the second one on, its worker knows how long the steps take."""
    where, rounds = event.data["dir"], event.data["rounds"]
    return [
        step.map("note", note, [(where, f"{turn}-{number}") for number in range(3)]) for turn in range(rounds)
    ]  # fmt: skip


def note(given: tuple[str, str]) -> str:
    return tell(*given)


@flow("code-branches", retry={"retries": 1, "delay": "50ms", "backoff": "fixed"})
def branches(event: ReceivedEvent, step: Step) -> Any:
    """Branches in each round: one that is as the round says (`limited`, `slow`, `bad`), a plain step, two in a row.
    `raises`: the last round raises what fails in it."""
    limits = {"limited": {"concurrency": 5}}
    found: list[Any] = []
    rounds = event.data["rounds"]
    for number, how in enumerate(rounds):
        found.append(
            step.parallel(
                lambda number=number, how=how: step.run(how, BRANCHES[how], number, throttling=limits.get(how)),
                lambda: step.run("plain", next_of, 0),
                lambda: step.run("second", next_of, step.run("first", next_of, 0)),
                return_exceptions=number + 1 < len(rounds) or not event.data.get("raises"),
            )
        )
    return [[each if isinstance(each, int) else each.error for each in values] for values in found]


def next_of(number: int) -> int:
    return number + 1


def linger(number: int) -> int:
    time.sleep(0.1)
    return number


def bad(number: int) -> int:
    raise NonRetriable("bad")


BRANCHES = {"quick": next_of, "limited": next_of, "slow": linger, "bad": bad}


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


@flow("code-order", retry={"retries": 0})
def order(event: ReceivedEvent, step: Step) -> Any:
    """Steps in the order that a file says: code that changes while a run is on its way."""
    where = Path(event.data["dir"])
    names = (where / "order").read_text(encoding="utf-8").split()
    for name in names:
        if name == "go":
            step.wait_for_event("go", "code/go", match="data.dir", timeout="30s")
        else:
            step.run(name, tell, str(where), name)
    return names


@flow("code-patched")
def patched(event: ReceivedEvent, step: Step) -> Any:
    """A new step before the last one, for runs that have not come that far before the change."""
    where = Path(event.data["dir"])
    step.run("first", tell, str(where), "first")
    if (where / "changed").exists() and step.patched("check"):
        step.run("check", tell, str(where), "check")
    step.wait_for_event("go", "code/go", match="data.dir", timeout="30s")
    return step.run("last", tell, str(where), "last")


@flow("code-people")
def people(event: ReceivedEvent, step: Step) -> Any:
    """An approval, a callback, and a row that is awaited."""
    url = step.callback_url("paid")
    step.run("ask", Path(event.data["dir"], "url").write_text, url)
    decision = step.wait_for_approval("allow", title="Allow?", timeout="30s")
    paid = step.wait_for_callback("paid", timeout="30s")
    rows = Organization.objects.filter(slug=event.data["slug"])
    found = step.wait_for_model("row", rows, timeout="30s", poll="1s")
    return {"approved": decision["approved"], "paid": paid, "found": found is not None}


@flow("code-lines", retry={"retries": 1, "delay": "50ms", "backoff": "fixed"})
def lines(event: ReceivedEvent, step: Step) -> Any:
    """Lines of the code before and between waits, and of a step that belongs to a transaction. Its last part fails once."""
    where = event.data["dir"]
    step.logger.info("before the sleep")
    step.sleep("a-while", "50ms")
    step.logger.info("between")
    step.sleep("once-more", "50ms")
    step.atomic("write", lambda: step.logger.info("in the transaction"))
    step.logger.info("after")
    tell(where, "end")
    if told(Path(where), "end") == 1:
        raise RuntimeError("not yet")
    return step.attempt


@flow("code-deadlines", retry={"retries": 5, "delay": "50ms", "backoff": "fixed"})
def deadlines(event: ReceivedEvent, step: Step) -> Any:
    """Steps that have to end by a time: one that does, one that has passed, one that takes too long."""
    where, ended = event.data["dir"], []
    now = dt.datetime.fromisoformat(step.run("now", lambda: dt.datetime.now(dt.UTC).isoformat()))
    step.run("in-time", tell, where, "in-time", deadline=now + dt.timedelta(minutes=5))
    for name, deadline in (("passed", now - dt.timedelta(seconds=1)), ("slow", now + dt.timedelta(seconds=4))):
        try:
            step.run(name, tell_slowly, where, name, deadline=deadline)
        except StepFailed as failure:
            ended.append([name, failure.error, failure.attempts])
    return ended


@flow("code-async-deadlines", retry={"retries": 5, "delay": "50ms", "backoff": "fixed"})
async def async_deadlines(event: ReceivedEvent, step: Step) -> Any:
    """The same, async: alone and side by side."""
    where = event.data["dir"]
    now = dt.datetime.fromisoformat(await step.run("now", lambda: dt.datetime.now(dt.UTC).isoformat()))
    late, soon = now - dt.timedelta(seconds=1), now + dt.timedelta(seconds=4)
    ended = await asyncio.gather(
        step.run("passed", tell_later, where, "passed", deadline=late),
        step.run("slow", tell_later, where, "slow", deadline=soon),
        return_exceptions=True,
    )
    return [[failure.name, failure.error, failure.attempts] for failure in ended]


def tell_slowly(where: str, what: str) -> None:
    tell(where, what)
    time.sleep(15)


async def tell_later(where: str, what: str) -> None:
    tell(where, what)
    await asyncio.sleep(30)


@flow("code-events")
def several_events(event: ReceivedEvent, step: Step) -> Any:
    """Several events in one step."""
    return step.send_event("tell", [{"name": "code/several", "data": {"n": n}} for n in range(3)])


@flow("code-rows")
def rows(event: ReceivedEvent, step: Step) -> Any:
    """A row that is awaited, by a field of its own or by a relation; looked at by itself once an hour."""
    users = get_user_model().objects.filter(username=event.data["name"])
    if event.data.get("group"):
        users = users.filter(groups__name=event.data["group"])
    return step.wait_for_model("row", users, poll="1h", timeout=event.data.get("timeout", "1d"))


@flow("code-slow")
def slow(event: ReceivedEvent, step: Step) -> Any:
    """A step that is too slow for its timeout, then one that waits for ever."""
    where = event.data["dir"]
    try:
        step.run("slow", time.sleep, 30, timeout="300ms", retries=0)
    except StepFailed as failure:
        step.run("late", tell, where, failure.error)
    step.run("hang", hang, where, timeout="60s")


def hang(where: str) -> None:
    tell(where, "hang")
    while not Path(where, "over").exists():
        time.sleep(0.05)


@flow("code-fetch")
def fetch(event: ReceivedEvent, step: Step) -> Any:
    """Requests, in a row and side by side; a secret that is masked in what is kept."""
    url = event.data["url"]
    first = step.fetch("first", url, method="POST", headers={"X-Token": step.secret("TOKEN")}, json={"n": 1})
    both = step.parallel(lambda: step.fetch("left", url), lambda: step.fetch("right", url))
    said = step.run("say", lambda: f"the token is {step.secret('TOKEN')}")
    return {"status": first["status"], "both": [each["status"] for each in both], "said": said}


@flow("code-async-fetch")
async def async_fetch(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    answer = await step.fetch("first", event.data["url"])
    return answer["status"]


@flow("code-in-a-row", concurrency=Concurrency(2))
def in_a_row(event: ReceivedEvent, step: Step) -> Any:
    """Steps one after the other, each under the limit of the flow."""
    return [step.run(f"hold-{number}", hold_for, 0.05) for number in range(3)]


def hold_for(seconds: float) -> list[float]:
    began = time.time()
    time.sleep(seconds)
    return [began, time.time()]


@flow("code-tasks")
def tasks(event: ReceivedEvent, step: Step) -> Any:
    """Celery tasks of another application, one after the other and side by side; one that fails is caught."""
    first = step.task("first", "shop.add", 4, 2)
    both = step.parallel(
        lambda: step.task("left", "shop.add", first, 1), lambda: step.task("right", "shop.add", first, 2)
    )
    try:
        step.task("bad", "shop.fails", retries=0)
    except StepFailed as failure:
        return {"first": first, "both": both, "failed": failure.error}


@flow("code-async-tasks")
async def async_tasks(event: ReceivedEvent, step: Step) -> Any:
    """The same, async."""
    return await step.task("first", "shop.add", 4, 2)
