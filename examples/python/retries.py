"""What is tried again, when, and what is not: by default, by hand, by the kind of error, and what to do instead."""

from __future__ import annotations

import httpx

from examples.python.outside import Outside, Row
from workflows.errors import Category, NonRetriableError, RetriableError
from workflows.functions import Event, NonRetriable, ReceivedEvent, Step, StepFailed, flow


@flow("resilient-job", on=Event("job/process"), retries=5)
def resilient_job(event: ReceivedEvent, step: Step) -> Row:
    """Five retries, each after twice the time: an API that is down for a minute is no failure."""
    outside = Outside.of(step)
    answer: Row = step.run("api-call", fetch_json, outside, event.data.get("path", "/data"), str(step.run_id))
    return answer


def fetch_json(outside: Outside, path: str, key: str) -> Row:
    """What the address answers. An answer that is no success is an error, and its status says of which kind."""
    answer: Row = outside.call("GET", path, key=key).json()
    return answer


@flow("custom-retry-job", on=Event("job/custom"), retries=3)
def custom_retry_job(event: ReceivedEvent, step: Step) -> Row:
    """The code decides by the error: again later, never again, or as always."""
    outside, data = Outside.of(step), event.data

    def process() -> Row:
        step.logger.info(f"Attempt {step.attempt} of 4")  # 0, 1, 2, 3
        try:
            return risky_operation(outside, data["path"], str(step.run_id))
        except RiskyError as error:
            if error.code == "RATE_LIMITED":
                raise RetriableError("Rate limited, will retry", retryAfter=data.get("retryAfter", "60s")) from error
            if error.code == "INVALID_INPUT":
                raise NonRetriableError("Invalid input", error) from error
            raise

    answer: Row = step.run("process", process)
    return answer


class RiskyError(Exception):
    """The operation did not work; `code` says why: RATE_LIMITED, INVALID_INPUT or UNKNOWN."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the operation did not work: {code}")
        self.code = code


def risky_operation(outside: Outside, path: str, key: str) -> Row:
    """What the address answers. Raises RiskyError."""
    try:
        return fetch_json(outside, path, key)
    except httpx.HTTPStatusError as error:
        codes = {429: "RATE_LIMITED", 400: "INVALID_INPUT", 422: "INVALID_INPUT"}
        raise RiskyError(codes.get(error.response.status_code, "UNKNOWN")) from error


@flow("risky-operation", on=Event("job/risky"), retry={"retries": 3, "delay": "100ms"})
def risky_operation_job(event: ReceivedEvent, step: Step) -> Row:
    """Only a rate limit is worth another try; every other error is a result."""
    outside = Outside.of(step)

    def call() -> Row:
        try:
            return risky_operation(outside, event.data["path"], str(step.run_id))
        except RiskyError as error:
            if error.code == "RATE_LIMITED":
                step.logger.warning("Rate limited, will retry")
                raise  # it is tried again
            return {"error": "Non-retriable error"}

    answer: Row = step.run("risky-operation", call)
    return answer


@flow("error-handling-example", on=Event("job/error-example"), retries=5)
def error_handling_example(event: ReceivedEvent, step: Step) -> Row:
    """By default: 429 waits as long as it is told, 5xx and lost connections are tried again, 4xx are not, and 401 and
    403 alert. So nothing has to be said but what is the job's own."""
    outside = Outside.of(step)
    step.run("validate-input", require_email, event.data)
    try:
        answer = step.run("call-api", fetch_json, outside, event.data["path"], str(step.run_id))
    except StepFailed as failure:
        if failure.category in {Category.AUTH, Category.CONFIGURATION}:
            text, key = "API authentication failed", f"auth:{step.run_id}"
            step.run("send-alert", outside.slack, "alerts", text, key, attempts=failure.attempts)
        raise
    return {"success": True, "answer": answer}


def require_email(data: Row) -> None:
    """Raises NonRetriable for data without an email."""
    if not data.get("email"):
        raise NonRetriable("Email is required", category=Category.INVALID_INPUT)


@flow("graceful-example", on=Event("job/graceful"))
def graceful_example(event: ReceivedEvent, step: Step) -> Row:
    """The second mail service, where the first one does not answer (beside examples/flows/graceful-email.yaml)."""
    outside, data = Outside.of(step), event.data
    try:
        result = step.run("try-primary", send_by, outside, data.get("primary", "/v3/mail/send"), data, retries=0)
    except StepFailed as failure:
        step.logger.warning("Primary provider failed, trying fallback", error=failure.message)
    else:
        return {"provider": "primary", "result": result}
    result = step.run("try-fallback", send_by, outside, data.get("fallback", "/v3/mail/send"), data)
    return {"provider": "fallback", "result": result}


def send_by(outside: Outside, path: str, data: Row) -> Row:
    """Send the mail by the provider at this path."""
    answer: Row = outside.call("POST", path, {"to": data["to"]}, key=f"{path}:{data['to']}").json()
    return answer
