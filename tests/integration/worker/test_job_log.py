"""What is said of jobs: their log lines, and what Sentry is told."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from config.env import read
from tests.support import by_hand
from tests.support.workers import WorkerPool, await_end, await_that, open_queues, publish
from throttling.errors import EnvironmentValueError
from workflows import services
from workflows.engine.pipeline import record as recording
from workflows.engine.state.records import ReadyStep, StepResult
from workflows.errors import Category
from workflows.models import Organization, Secret
from workflows.steps.outcome import Completed, Failed, StepError

NOOP = {"id": "a", "type": "noop"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """The lines about a run: (level, fields)."""

    def of(run_id: object) -> list[tuple[str, dict[str, Any]]]:
        found = [(record.levelname, record.msg) for record in caplog.records if isinstance(record.msg, dict)]
        return [(level, line) for level, line in found if line.get("jobId") == str(run_id)]

    with caplog.at_level(logging.INFO, logger="workflows.jobs"):
        yield of


@pytest.mark.parametrize(("output", "size"), [(None, 0), ("[1, 2]", 6), ('"ä"', 4)])
def test_a_completed_job_says_how_large_its_result_is(
    org: Organization, published: list[ReadyStep], lines: Any, output: str | None, size: int
) -> None:
    run = by_hand.start(org, [NOOP])
    recording.record([StepResult(claim=by_hand.claim(run, "a"), outcome=Completed(), output=output)])
    ((level, line),) = lines(run)
    assert (level, line["event"], line["jobType"], line["resultSize"]) == ("INFO", "job completed", "flow", size)


def test_the_size_is_that_of_the_flows_own_output(org: Organization, published: list[ReadyStep], lines: Any) -> None:
    run = by_hand.start(org, [NOOP, {"id": "b", "type": "noop", "needs": []}], output={"x": "1234"})
    for key in ("a", "b"):
        recording.record([StepResult(claim=by_hand.claim(run, key), outcome=Completed(), output='"long enough"')])
    ((_, line),) = lines(run)
    assert line["resultSize"] == len('{"x": "1234"}') or line["resultSize"] == len('{"x":"1234"}')


def test_a_failed_job_is_an_error_with_its_stack(org: Organization, published: list[ReadyStep], lines: Any) -> None:
    run = by_hand.start(org, [NOOP])
    trace = 'Traceback (most recent call last):\n  File "a.py", line 3, in pay\nValueError: no money'
    error = StepError(category=Category.BUSINESS, name="ValueError", message="no money", traceback=trace)
    recording.record([StepResult(claim=by_hand.claim(run, "a"), outcome=Failed(error=error))])
    ((level, line),) = lines(run)
    assert (level, line["event"], line["jobType"], line["step"]) == ("ERROR", "job failed", "flow", "a")
    assert (line["error"], line["stack"], line["category"]) == ("ValueError: no money", trace, "business")


def test_a_job_that_is_cancelled_before_it_starts_says_so_too(
    org: Organization, published: list[ReadyStep], lines: Any
) -> None:
    """No worker had anything to do with it."""
    run = by_hand.start(org, [NOOP])
    services.cancel_run(org, run, reason="not wanted")
    ((level, line),) = lines(run)
    assert (level, line["event"], line["reason"]) == ("INFO", "job cancelled", "not wanted")


def test_a_started_job_says_by_what(org: Organization, own_workers: WorkerPool, lines: Any) -> None:
    open_queues()
    slug = publish(org, [NOOP])
    run = by_hand.visited(org, slug)
    found = {line["event"]: line for _, line in lines(run)}
    assert found["job started"]["trigger"] == "manual"
    assert found["job started"]["jobType"] == slug
    assert found["job completed"]["resultSize"] == 0


# --- Sentry -------------------------------------------------------------------------------------------------------------


class Project:
    """A Sentry project: what it was told."""

    def __init__(self, server: HTTPServer) -> None:
        self.items: list[tuple[str, dict[str, Any]]] = []
        self.dsn = f"http://public@{server.host}:{server.port}/1"
        server.expect_request("/api/1/envelope/").respond_with_handler(self._take)

    def _take(self, request: Request) -> Response:
        body = request.get_data()
        parts = (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).split(b"\n")
        for header, payload in zip(parts[1::2], parts[2::2], strict=False):
            kind = json.loads(header)["type"]
            if kind in {"event", "transaction"}:
                self.items.append((kind, json.loads(payload)))
        return Response("{}", content_type="application/json")

    def told(self, kind: str, run_id: object) -> dict[str, Any] | None:
        trace = str(run_id).replace("-", "")
        return next(
            (each for what, each in self.items if what == kind and each["contexts"]["trace"]["trace_id"] == trace), None
        )


def test_sentry_gets_failures_with_their_event_and_runs_with_spans(
    org: Organization, own_workers: WorkerPool, httpserver: HTTPServer
) -> None:
    project = Project(httpserver)
    secret = Secret(organization=org, name="TOKEN")
    secret.value = "s3cr3t-of-the-tests"
    secret.save()
    own_workers.start("io", SENTRY_DSN=project.dsn)
    own_workers.await_ready(1)
    failing = {"id": "b", "type": "raises", "config": {"how": "final"}}
    slug = publish(org, [NOOP, failing], slug="monitored-job", on=[{"event": "job/monitored"}])
    run = services.trigger(org, slug, {"orderId": 7, "note": "it is s3cr3t-of-the-tests"}).run_ids[0]
    await_end(org, run)
    event = await_that(lambda: project.told("event", run), 20, "the exception")
    (value,) = event["exception"]["values"]
    assert (value["type"], value["stacktrace"]["frames"][-1]["function"]) == ("NonRetriable", "fail")
    assert (event["tags"]["jobType"], event["tags"]["eventId"], event["tags"]["step"]) == (slug, str(run), "b")
    assert event["extra"]["eventData"] == {"orderId": 7, "note": "it is ***"}
    assert event["extra"]["link"].endswith(f"/runs/{run}/")
    trace = await_that(lambda: project.told("transaction", run), 20, "the transaction")
    assert (trace["transaction"], trace["contexts"]["trace"]["op"]) == (slug, "queue.process")
    assert trace["contexts"]["trace"]["status"] == "internal_error"
    assert [(span["op"], span["description"], span["status"]) for span in trace["spans"]] == [
        ("step.noop", "a", "ok"), ("step.raises", "b", "internal_error"),
    ]  # fmt: skip
    assert all(trace["start_timestamp"] <= span["timestamp"] <= trace["timestamp"] + 1 for span in trace["spans"])
    assert "s3cr3t-of-the-tests" not in json.dumps(project.items)


def test_a_failure_that_is_tried_again_is_no_exception_yet(
    org: Organization, own_workers: WorkerPool, httpserver: HTTPServer
) -> None:
    project = Project(httpserver)
    own_workers.start("io", SENTRY_DSN=project.dsn)
    own_workers.start("compute", SENTRY_DSN=project.dsn)
    own_workers.await_ready(3)
    code = "if attempt == 1:\n    raise RuntimeError('once')\nreturn 1"
    step = {"id": "a", "type": "sandbox_sync", "config": {"code": code}, "retry": {"attempts": 2, "delay": "1ms"}}
    run = services.trigger(org, publish(org, [step])).run_ids[0]
    assert await_end(org, run).run.status == "completed"
    trace = await_that(lambda: project.told("transaction", run), 20, "the transaction")
    assert [span["data"]["attempt"] for span in trace["spans"]] == [1, 2]
    assert project.told("event", run) is None


@pytest.mark.parametrize("bad", ["2", "-0.1", "often", "nan"])
def test_a_share_that_is_none_says_what_to_set(bad: str) -> None:
    with pytest.raises(EnvironmentValueError, match="SENTRY_TRACES_SAMPLE_RATE=.*set it to 0…1"):
        read({"SENTRY_TRACES_SAMPLE_RATE": bad})
