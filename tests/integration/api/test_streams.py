"""Live updates by server-sent events: over ASGI as in production, resumable, and refused clearly."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Organization, StepRun
from workflows.streams import changes


@pytest.fixture(scope="module")
def asgi(live_db: None, worker_environment: dict[str, str]) -> Iterator[str]:
    """The site as uvicorn serves it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port), "--lifespan", "off"]
    process = subprocess.Popen(command, env=worker_environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        await_that(lambda: _answers(f"{address}/healthz"), 30, "the site")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def listen(url: str, key: str, found: list[dict[str, Any]], until: Any, last_id: str = "") -> None:
    """Collect messages {name, id, …data} until the stream ends or `until` holds."""
    headers = {"Authorization": f"Bearer {key}", **({"Last-Event-ID": last_id} if last_id else {})}
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream"
        message: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                message[name] = value
            elif "data" in message:
                found.append({"name": message["event"], "id": message["id"], **json.loads(message["data"])})
                message = {}
                if until(found):
                    return


STEPS = [
    {"id": "slow", "type": "probe_async", "config": {"hold_ms": 900}},
    {"id": "nap", "type": "delay", "config": {"for": "500ms"}},
    {"id": "flaky", "type": "raises", "config": {"how": "once:unknown"}, "retry": {"delay": "600ms"}},
]


def test_a_run_is_followed_live_and_again_from_where_one_was(
    org: Organization, workers: WorkerPool, api_key: str, asgi: str
) -> None:
    publish(org, STEPS)
    run_id = services.trigger(org, "flow").run_ids[0]
    found: list[dict[str, Any]] = []
    url = f"{asgi}/api/runs/{run_id}/stream"
    listen(url, api_key, found, lambda seen: any(m.get("stepId") == "nap" for m in seen))
    rest: list[dict[str, Any]] = []
    listen(url, api_key, rest, lambda _: False, last_id=found[-1]["id"])
    steps = [(m["stepId"], m["status"]) for m in found + rest if m["name"] == "step-status"]
    assert ("slow", "completed") in steps[: len(found)]
    assert steps[-1] == ("flaky", "completed")
    assert ("nap", "completed") in steps
    assert any(m.get("stepId") == "flaky" and m["status"] == "waiting" for m in rest)
    last = next(m for m in reversed(rest) if m["name"] == "step-status")
    assert (last["executionId"], last["channel"]) == (str(run_id), f"flows.{org.id}.{run_id}")
    assert last["retryCount"] == 1
    assert last["throttlingOverhead"] >= 0
    assert [m["name"] for m in rest][-2:] == ["run-status", "end"]
    ids = [int(m["id"]) for m in found]
    assert ids == sorted(ids)


def test_progress_is_seen_while_the_step_runs(org: Organization, workers: WorkerPool, api_key: str, asgi: str) -> None:
    publish(org, [{"id": "import", "type": "probe_progress", "config": {"hold_ms": 1500}}])
    run_id = services.trigger(org, "flow").run_ids[0]
    found: list[dict[str, Any]] = []
    listen(f"{asgi}/api/runs/{run_id}/stream", api_key, found, lambda _: False)
    reports = [m["progress"] for m in found if m.get("progress")]
    assert {"percent": 50.0, "message": "half of it"} in reports
    assert await_end(org, run_id).run.status == "completed"


def test_an_organization_is_followed_live(org: Organization, workers: WorkerPool, api_key: str, asgi: str) -> None:
    publish(org, STEPS)
    found: list[dict[str, Any]] = []

    def enough(seen: list[dict[str, Any]]) -> bool:
        return len([m for m in seen if m["name"] == "run-status"]) == 2

    reader = threading.Thread(target=listen, args=(f"{asgi}/api/stream?org={org.slug}", api_key, found, enough))
    reader.start()
    runs = [services.trigger(org, "flow").run_ids[0] for _ in range(2)]
    reader.join(30)
    assert {m["executionId"] for m in found} == {str(run_id) for run_id in runs}
    for run_id in runs:
        steps = [(m["stepId"], m["status"]) for m in found if m["executionId"] == str(run_id) and "stepId" in m]
        assert {("slow", "running"), ("slow", "completed"), ("flaky", "waiting"), ("flaky", "completed")} <= set(steps)
        assert len([each for each in steps if each == ("slow", "completed")]) == 1


def test_a_container_shows_how_far_it_is(org: Organization, workers: WorkerPool) -> None:
    body = [{"id": "nap", "type": "delay", "config": {"for": "100ms"}}]
    publish(org, [{"id": "all", "type": "map", "config": {"items": [1, 2, 3, 4], "parallelism": 1}, "steps": body}])
    run_id = services.trigger(org, "flow").run_ids[0]
    stream = changes.RunStream.open(org, run_id)
    messages: list[changes.Message] = []
    await_that(lambda: messages.extend(stream.poll()) or stream.is_over, what="the end")
    reports = [m.data["progress"]["percent"] for m in messages if m.name == "step-progress" and m.data["progress"]]
    assert reports == sorted(reports)
    assert 50.0 in reports or 25.0 in reports
    assert StepRun.objects.filter(run_id=run_id, key="nap").count() == 4


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/stream", {}, 401),
        ("/api/stream", {"Authorization": "Bearer nonsense"}, 401),
        ("/api/stream?org=somebody-else", {"Authorization": "KEY"}, 404),
        ("/api/runs/01900000-0000-7000-8000-000000000000/stream", {"Authorization": "KEY"}, 404),
        ("/api/stream", {"Authorization": "KEY", "Last-Event-ID": "x"}, 422),
        *(
            (f"/api/stream?lastEventId={last_id}", {"Authorization": "KEY"}, 422)
            for last_id in (
                "-1",
                "%2B1",
                "1.5",
                "1e9",
                "%C2%B2",
                "%00",
                "1%00",
                "%D9%A3",
                "%ED%A0%80",
                "9" * 17,
                "9" * 400,
            )
        ),
        ("/api/stream", {"Authorization": "KEY", "Last-Event-ID": "9" * 400}, 422),
        ("/api/runs/01900000-0000-7000-8000-000000000000/stream?lastEventId=%C2%B2", {"Authorization": "KEY"}, 422),
        ("/api/stream?org=%00", {"Authorization": "KEY"}, 422),
        ("/api/stream?org=%ED%A0%80", {"Authorization": "KEY"}, 404),
        ("/api/stream?org=", {"Authorization": "KEY"}, 404),
    ],
)
def test_a_stream_is_refused_with_the_reason(
    path: str, headers: dict[str, str], status: int, api_key: str, asgi: str
) -> None:
    sent = {name: f"Bearer {api_key}" if value == "KEY" else value for name, value in headers.items()}
    answer = httpx.get(asgi + path, headers=sent)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


@pytest.mark.parametrize("last_id", ["0", "1", "9" * 16])
def test_every_id_that_a_stream_can_have_is_taken(last_id: str, api_key: str, asgi: str) -> None:
    headers = {"Authorization": f"Bearer {api_key}", "Last-Event-ID": last_id}
    with httpx.stream("GET", f"{asgi}/api/stream", headers=headers, timeout=30) as answer:
        assert next(answer.iter_lines()) == "retry: 1000"
