"""Workers, web and commands behind pgbouncer in the mode `transaction`: `HEADRACE_DB_POOLER=transaction`."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.env import BASE_DIR
from tests.support.packaging.pooler import BINARY, SERVERS, Pooler
from tests.support.python_flows import basic, more
from tests.support.python_flows.basic import told
from tests.support.web import Web
from tests.support.workers import WorkerPool, await_end, await_that, publish
from workflows import services
from workflows.models import Organization, Run

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no pgbouncer")
EVERYTHING: list[dict[str, Any]] = [
    {"id": "wait", "type": "delay", "config": {"for": "200ms"}},
    {"id": "each", "type": "map", "config": {"items": [1, 2, 3], "parallelism": 2},
     "steps": [{"id": "double", "type": "data_transform", "config": {"expression": "item * 2"}}]},
    {"id": "tell", "type": "publish_event", "config": {"name": "pooler/told", "data": {}}},
    {"id": "limited", "type": "data_transform", "throttling": {"concurrency": 1},
     "config": {"expression": "steps.each.output.results"}},
    {"id": "compute", "type": "code_execution", "config": {"code": "6 * 7"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def pooler(worker_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooler]:
    made = Pooler(worker_environment["DATABASE_URL"], Path(os.environ["HEADRACE_VAR_DIR"]) / "pooler")
    yield made
    made.stop()


@pytest.fixture
def behind(pooler: Pooler, worker_environment: dict[str, str]) -> dict[str, str]:
    """The environment of processes that reach Postgres through it."""
    return {**worker_environment, "DATABASE_URL": pooler.url, "HEADRACE_DB_POOLER": "transaction"}


@pytest.fixture
def pooled(own_workers: WorkerPool, behind: dict[str, str]) -> WorkerPool:
    own_workers.environment = behind
    for profile in ("io", "io", "compute"):
        own_workers.start(profile)
    return own_workers


def test_flows_run_behind_a_pooler(org: Organization, pooled: WorkerPool, pooler: Pooler, tmp_path: Path) -> None:
    slug = publish(org, EVERYTHING)
    runs = [services.trigger(org, slug, {}).run_ids[0] for _ in range(20)]
    made = []
    for flow, data in (
        (basic.chain, None),
        (more.atomic, {"slug": f"pooled-{uuid.uuid4().hex[:8]}", "dir": str(tmp_path), "fail": 1}),
        (basic.parallel, {"dir": str(tmp_path), "items": 4}),
        (basic.async_flow, {"dir": str(tmp_path)}),
        (basic.retries, {"dir": str(tmp_path), "fail": 2}),
        (more.lines, {"dir": str(tmp_path)}),
    ):
        services.apply_definition(org, flow.spec())
        made.append(services.trigger(org, flow.slug, data).run_ids[0])
    for run_id in (*runs, *made):
        detail = await_end(org, run_id, 60)
        assert detail.run.status == "completed", detail.run.error
    assert told(tmp_path, "flaky") == 3
    (pool,) = pooler.pools()
    assert pool["cl_active"] + pool["cl_waiting"] > SERVERS >= pool["sv_active"] + pool["sv_idle"]


def test_a_killed_worker_loses_nothing_behind_a_pooler(org: Organization, pooled: WorkerPool, tmp_path: Path) -> None:
    services.apply_definition(org, basic.parallel.spec())
    runs = [
        services.trigger(org, basic.parallel.slug, {"dir": str(tmp_path), "items": 4}).run_ids[0] for _ in range(10)
    ]
    await_that(lambda: told(tmp_path, "left-1") > 0, 60, "a first step")
    pooled.kill(pooled.processes[0])
    assert {await_end(org, run_id, 60).run.status for run_id in runs} == {"completed"}


def test_web_and_commands_work_behind_a_pooler(
    org: Organization, api_key: str, pooled: WorkerPool, behind: dict[str, str]
) -> None:
    slug = publish(org, EVERYTHING)
    site = Web(behind, DATABASE_URL=f"{behind['DATABASE_URL']}?connect_timeout=5")
    try:
        client = httpx.Client(base_url=site.address, headers={"authorization": f"Bearer {api_key}"}, timeout=30)
        answers = [
            client.post(f"/api/workflows/{slug}/run", json={"triggerData": {}, "idempotencyKey": f"key-{number % 10}"})
            for number in range(20)
        ]
        assert {answer.status_code for answer in answers} == {202}, answers[0].text
        ids = {answer.json()["runId"] for answer in answers}
        assert len(ids) == 10
        for run_id in ids:
            assert await_end(org, uuid.UUID(run_id), 60).run.status == "completed"
        for path in ("/readyz", "/api/runs", f"/api/runs/{run_id}", "/api/workflows/queue/stats", "/api/limits"):
            assert client.get(path).status_code == 200, path
        client.close()
    finally:
        site.stop()
    for command in ("flows list", "doctor", "flows replay-check", f"runs list --org {org.slug}"):
        done = subprocess.run(
            [sys.executable, "manage.py", *command.split()], env=behind, cwd=BASE_DIR, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip
        assert "prepared statement" not in done.stdout, done.stdout
        assert "Traceback" not in done.stdout, done.stdout[-3000:]
    assert Run.objects.filter(org_id=org.id, status="completed").count() == 10
