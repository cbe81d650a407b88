"""Respect for the limits of others, and of one's own: by key, by header, by a bucket of tokens, in batches; and what
many small steps cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from examples.python.outside import Outside, Row, chunks
from workflows.functions import Concurrency, Event, ReceivedEvent, Step, Throttle, flow

BATCH_SIZE = 100


# --- the limits of others ---------------------------------------------------------------------------------------------


@flow("rate-limited-api", on=Event("api/call"), concurrency=Concurrency(10, key="event.data.apiProvider"))
def rate_limited_api(event: ReceivedEvent, step: Step) -> Row:
    """Ten calls at a time to each provider. Where the answer says that none is left, the run sleeps until there are."""
    outside = Outside.of(step)
    result: Row = step.run("api-call", call_api, outside, event.data["path"])
    if result["remaining"] == 0:
        step.sleep_until("rate-limit-wait", result["resetAt"])
    return result


def call_api(outside: Outside, path: str) -> Row:
    """Returns {answer, remaining, resetAt}: what the headers say of the quota."""
    answer = outside.call("GET", path)
    reset = dt.datetime.fromtimestamp(float(answer.headers["x-ratelimit-reset"]), dt.UTC)
    remaining = int(answer.headers["x-ratelimit-remaining"])
    return {"answer": answer.json(), "remaining": remaining, "resetAt": reset.isoformat()}


@flow("token-bucket", on=Event("job/token-bucket"))
def token_bucket(event: ReceivedEvent, step: Step) -> Row:
    """A hundred tokens, ten more each second; exact over all workers. What waits for one holds no worker, and is not
    woken to look."""
    outside = Outside.of(step)
    bucket = {"limit": 10, "period": "1s", "algorithm": "gcra", "burst": 100}
    row = {"id": str(step.run_id), **event.data}
    step.run("process", outside.upsert, "tokens_used", row, throttling={"rate": bucket})
    return row


@flow("batch-rate-limited", on=Event("batch/process"))
def batch_rate_limited(event: ReceivedEvent, step: Step) -> Row:
    """A hundred at a time, with a second between (not after the last)."""
    outside, processed = Outside.of(step), 0
    batches = list(chunks(event.data["items"], BATCH_SIZE))
    for number, batch in enumerate(batches):
        processed += step.run("process-batch", process_batch, outside, batch)
        if number < len(batches) - 1:
            step.sleep("batch-delay", "1s")
    return {"processed": processed}


def process_batch(outside: Outside, items: Sequence[Row]) -> int:
    """Returns how many were processed."""
    return len(outside.upsert("batch_items", *items))


# --- one's own --------------------------------------------------------------------------------------------------------


@flow("rate-limited-job", on=Event("job/rate-limited"), concurrency=Concurrency(5, key="event.data.userId"))
def rate_limited_job(event: ReceivedEvent, step: Step) -> Row:
    """Five at a time for each user: one with a thousand jobs keeps nobody else waiting."""
    outside = Outside.of(step)
    result: Row = step.run("work", work_for, outside, event.data["userId"], event.data.get("path", "/work"))
    return result


def work_for(outside: Outside, user_id: str, path: str) -> Row:
    """Work for a user."""
    return {"userId": user_id, "answer": outside.call("GET", path).json()}


@flow("throttled-job", on=Event("job/throttled"), throttle=Throttle(20, "60s", key="event.data.userId"))
def throttled_job(event: ReceivedEvent, step: Step) -> Row:
    """Twenty starts a minute for each user. All are made, and wait their turn."""
    return {"userId": event.data["userId"]}


# --- what steps cost --------------------------------------------------------------------------------------------------


@flow("expensive-job", on=Event("job/process"))
def expensive_job(event: ReceivedEvent, step: Step) -> Row:
    """Three steps: three records, and each is tried again by itself."""
    outside = Outside.of(step)
    a = step.run("step-a", get, outside, "a")
    b = step.run("step-b", get, outside, "b")
    c = step.run("step-c", get, outside, "c")
    return {"a": a, "b": b, "c": c}


@flow("optimized-job", on=Event("job/process"))
def optimized_job(event: ReceivedEvent, step: Step) -> Row:
    """One step: one record, and all three are tried again where one fails. Good for what only reads."""
    outside = Outside.of(step)
    found: Row = step.run("fetch-all", lambda: {name: get(outside, name) for name in ("a", "b", "c")})
    return found


def get(outside: Outside, name: str) -> bool:
    """What the address answers."""
    return bool(outside.call("GET", f"/{name}").json()["ok"])
