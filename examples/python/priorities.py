"""Jobs by urgency: many places for what is critical, few for what can wait, and a job that is worthless when it is
late."""

from __future__ import annotations

import datetime as dt

from examples.python.outside import Outside, Row
from workflows.functions import Event, ReceivedEvent, Step, flow

LEVEL = "event.data._priority == '{}'"
"""Of the events that `services.queue_job` sends; examples/flows/priority-jobs.yaml has all levels in one flow."""


@flow("critical-priority-job", on=Event("job/critical", if_=LEVEL.format("CRITICAL")), priority=600, concurrency=50)
def critical_priority_job(event: ReceivedEvent, step: Step) -> Row:
    """Fifty at a time, ten minutes ahead of what waits for the same limits."""
    return done(event, step)


@flow("background-job", on=Event("job/background", if_=LEVEL.format("BACKGROUND")), priority=-600, concurrency=2)
def background_job(event: ReceivedEvent, step: Step) -> Row:
    """Two at a time, when nothing else waits."""
    return done(event, step)


def done(event: ReceivedEvent, step: Step) -> Row:
    """Store that the job was done."""
    outside, data = Outside.of(step), event.data
    row = {"id": str(step.run_id), "type": data["_originalJobType"], "priority": data["_priority"]}
    step.run("process", outside.upsert, "jobs_done", row)
    return row


@flow("time-sensitive", on=Event("job/time-sensitive"))
def time_sensitive(event: ReceivedEvent, step: Step) -> Row:
    """Skipped when its deadline has passed; else it has the time until then."""
    outside, deadline = Outside.of(step), dt.datetime.fromisoformat(event.data["deadline"])
    result: Row = step.run("process-with-deadline", process_until, outside, deadline, event.data.get("path", "/work"))
    return result


def process_until(outside: Outside, deadline: dt.datetime, path: str) -> Row:
    """The work, with the time that is left as its timeout: what the clock says is asked in the step, where it is asked
    once."""
    left_s = (deadline - dt.datetime.now(dt.UTC)).total_seconds()
    if left_s <= 0:
        return {"status": "skipped", "reason": "deadline_passed"}
    answer = outside.call("GET", path, timeout_s=left_s).json()
    return {"status": "done", "answer": answer}
