"""When a job has failed for good: dead letter and chat, Sentry, a watch on how many there are, and logs."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from dlq.models import DeadLetter
from examples.python.outside import Outside, Row
from workflows.functions import Cron, Event, NonRetriable, ReceivedEvent, Step, StepFailed, flow
from workflows.models import Run

# --- dead letter and chat ---------------------------------------------------------------------------------------------


@flow("critical-job-failed")
def critical_job_failed(event: ReceivedEvent, step: Step) -> Row:
    """After all retries of critical-job. The dead letter itself is written by Headrace, with its tries and tracebacks;
    this keeps a row of the team's own, and tells them."""
    outside, failed = Outside.of(step), event.data
    row = {
        "id": failed["run"]["id"], "event_name": failed["event"]["name"], "event_data": failed["event"]["data"],
        "error_message": failed["error"]["message"], "failed_at": failed["run"]["endedAt"], "status": "failed",
    }  # fmt: skip
    step.run("log-to-dlq", outside.upsert, "dead_letter_queue", row)
    text = f"Job failed after all retries: {failed['event']['name']}"
    details = {"eventId": failed["event"]["id"], "error": failed["error"]["message"]}
    step.run("alert", outside.slack, "alerts", text, f"failed:{failed['run']['id']}", **details)
    return row


@flow("critical-job", on=Event("critical/process"), retries=5, on_failure=critical_job_failed)
def critical_job(event: ReceivedEvent, step: Step) -> Row:
    """A job that must not fail silently: six tries, then `on_failure`."""
    outside = Outside.of(step)
    answer: Row = step.run("process", process, outside, event.data, str(step.run_id))
    return answer


def process(outside: Outside, data: Row, key: str) -> Row:
    """The work. Raises NonRetriable for data that is marked as invalid."""
    if data.get("invalid"):
        raise NonRetriable("The data is invalid")
    answer: Row = outside.call("GET", data.get("path", "/work"), key=key).json()
    return answer


@flow("monitor-dlq", on=Cron("*/5 * * * *"))
def monitor_dlq(event: ReceivedEvent, step: Step) -> Row:
    """Every five minutes: a word in the chat where more than ten jobs failed within the hour. (The shipped alert rule
    `dead-letters` says the same without a flow.)"""
    outside, threshold = Outside.of(step), event.data.get("threshold", 10)
    count = step.run("count-dlq", count_dead_letters, step.run_id, step.now() - dt.timedelta(hours=1))
    if count > threshold:
        text = f":warning: High DLQ volume: {count} failed jobs in the last hour"
        step.run("send-alert", outside.slack, "alerts", text, f"dlq:{step.run_id}", severity="warning")
    return {"dlqCount": count, "alerted": count > threshold}


def count_dead_letters(run_id: UUID, since: dt.datetime) -> int:
    """How many dead letters the run's organization has since then that nobody has dealt with."""
    org_id = Run.objects.values_list("org_id", flat=True).get(id=run_id)
    return DeadLetter.objects.filter(org_id=org_id, status="failed", failed_at__gte=since).count()


# --- Sentry -----------------------------------------------------------------------------------------------------------


@flow("monitored-job", on=Event("job/monitored"))
def monitored_job(event: ReceivedEvent, step: Step) -> Row:
    """A span around the work, in the step: the code of the flow runs again after each wait, a step does not. What
    fails is reported once, by a step of its own."""
    outside = Outside.of(step)

    def work() -> Row:
        import sentry_sdk  # noqa: PLC0415  (large: only where it is used)

        with sentry_sdk.start_transaction(name="job.monitored", op="queue.process") as transaction:
            with transaction.start_child(op="process.main", name="Main processing"):
                answer = process(outside, event.data, str(step.run_id))
            transaction.set_status("ok")
            return answer

    try:
        answer: Row = step.run("process", work)
    except StepFailed as failure:
        step.run("report", report_to_sentry, "monitored-job", event.id, event.data, failure.message)
        raise
    return answer


@flow("reporting-example-failed")
def reporting_example_failed(event: ReceivedEvent, step: Step) -> Row:
    """After reporting-example has failed: Sentry, and a row with the error."""
    outside, failed = Outside.of(step), event.data
    origin, message = failed["event"], failed["error"]["message"]
    step.run("report", report_to_sentry, "reporting-example", origin["id"], origin["data"], message)
    row = {
        "id": failed["run"]["id"], "event_id": origin["id"], "event_name": origin["name"],
        "event_data": origin["data"], "error_message": message,
    }  # fmt: skip
    step.run("store-error", outside.upsert, "job_errors", row)
    return row


@flow("reporting-example", on=Event("job/reported"), on_failure=reporting_example_failed)
def reporting_example(event: ReceivedEvent, step: Step) -> Row:
    """A job whose failure another flow reports."""
    outside = Outside.of(step)
    answer: Row = step.run("process", process, outside, event.data, str(step.run_id))
    return answer


def report_to_sentry(job_type: str, event_id: str, data: Row, message: str) -> str | None:
    """Report a failure. Returns its id there; None where sentry_sdk has not been initialized."""
    import sentry_sdk  # noqa: PLC0415  (large: only where it is used)

    with sentry_sdk.new_scope() as scope:
        scope.set_tags({"jobType": job_type, "eventId": event_id})
        scope.set_extra("eventData", data)
        return scope.capture_message(message, level="error")


# --- logs -------------------------------------------------------------------------------------------------------------


@flow("logging-example", on=Event("job/logged"))
def logging_example(event: ReceivedEvent, step: Step) -> Row:
    """`step.logger`: each line once, with run, flow and step, kept with the try and masked. `job started`, `job
    completed` and `job failed` are logged for every run in any case."""
    outside = Outside.of(step)
    step.logger.info("Job started", jobId=event.id, jobType="logging-example", data=event.data)

    def work() -> Row:
        step.logger.debug("Processing step started")
        result = process(outside, event.data, str(step.run_id))
        step.logger.debug("Processing step completed", result=result)
        return result

    try:
        result: Row = step.run("process", work)
    except StepFailed as failure:
        step.logger.error("Job failed", jobId=event.id, jobType="logging-example", error=failure.message)
        raise
    step.logger.info("Job completed", jobId=event.id, jobType="logging-example", result=result)
    return result
