"""Flower beside a fresh `up`: asked by its API, and looked at in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.up.test_up import _ended
from tests.browser.test_dashboard import SHOTS, browser  # noqa: F401  (fixture)
from tests.support.instance import Instance
from tests.support.workers import await_that

TYPES = {
    "step-1-initialize": "data_transform",
    "step-2-process": "data_transform",
    "step-3-simulate-delay": "sandbox_async",
    "step-4-simulate-api-call": "code_execution",
    "step-5-finalize": "data_transform",
}


@pytest.fixture
def flower(instance: Instance) -> Iterator[httpx.Client]:
    login = (instance.credentials["username"], instance.credentials["password"])
    with httpx.Client(base_url=f"http://127.0.0.1:{instance.ports.flower}", auth=login, timeout=20) as client:
        yield client


def tasks_of(flower: httpx.Client, run_id: str) -> list[dict[str, Any]]:
    tasks = flower.get("/api/tasks", params={"search": run_id}).json().values()
    return [task for task in tasks if run_id in (task["args"] or "")]


def test_five_steps_are_five_tasks(instance: Instance, flower: httpx.Client) -> None:
    with instance.client() as client:
        asked = client.post("/api/workflows/demo-task/run", json={"triggerData": {"taskId": "t", "delayMs": 10}})
        run_id = asked.json()["runId"]
        run = await_that(lambda: _ended(client, run_id), 30, "the run's end")
    of_run = await_that(lambda: (tasks := tasks_of(flower, run_id)) and tasks[4:] and tasks, 10, "five tasks")
    await_that(lambda: {task["state"] for task in tasks_of(flower, run_id)} == {"SUCCESS"}, 10, "their success")
    assert {task["args"]: task["name"] for task in of_run} == {
        repr(("demo-task", run_id, key)): type_ for key, type_ in TYPES.items()
    }
    all_tasks = flower.get("/api/tasks").json()
    assert len(tasks_of(flower, run_id)) == 5
    assert not [task for task in all_tasks.values() if (task["name"] or "").startswith("workflows.")]
    assert {task["worker"].partition("@")[0] for task in of_run} == {"io", "compute"}
    assert len(run["steps"]) == 5


def test_two_workers_and_all_queues(instance: Instance, flower: httpx.Client) -> None:
    workers = await_that(lambda: (found := flower.get("/workers?json=1").json()["data"]) and found[1:] and found, 20)
    assert sorted(worker["hostname"].partition("@")[0] for worker in workers) == ["compute", "io"]
    assert all(worker["status"] for worker in workers)
    queues = flower.get("/api/queues/length").json()["active_queues"]
    assert [queue["name"] for queue in queues] == ["headrace.compute", "headrace.io", "headrace.tasks"]


def test_refreshes_at_once_are_all_answered(instance: Instance, flower: httpx.Client) -> None:
    """Each asks the workers, four ways at once: with a pool of four connections they would wait for each other."""
    names = [worker["hostname"] for worker in flower.get("/workers?json=1").json()["data"]]
    paths = ["/workers?refresh=1", "/api/workers?refresh=1", *(f"/worker/{name}" for name in names)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            answers = list(pool.map(flower.get, paths))
            assert [answer.status_code for answer in answers] == [200] * 4
    known = flower.get("/api/workers").json()
    assert {queue["name"] for worker in known.values() for queue in worker["active_queues"]} == {
        "headrace.compute", "headrace.io", "headrace.tasks",
    }  # fmt: skip


def test_the_workers_have_a_dispatcher_of_events(instance: Instance) -> None:
    import subprocess
    import sys

    from config.env import BASE_DIR

    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "config", "control", "enable_events"],
        cwd=BASE_DIR, env=instance.environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("task events already enabled") == 2, done.stdout


def test_its_page_is_linked_and_shows_them(instance: Instance, browser: Browser) -> None:  # noqa: F811
    username, password = instance.credentials["username"], instance.credentials["password"]
    context = browser.new_context(
        base_url=instance.credentials["baseUrl"],
        viewport={"width": 1280, "height": 900},
        http_credentials={"username": username, "password": password},
    )
    page = context.new_page()
    page.goto("/")
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Flower").click()
    expect(page).to_have_url(f"http://127.0.0.1:{instance.ports.flower}/")
    expect(page.locator("#workers-online")).to_have_text("2")
    expect(page.locator("#workers-table tbody tr")).to_have_count(2)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "flower-workers.png")
    page.get_by_role("link", name="Tasks").click()
    for type_ in set(TYPES.values()):
        expect(page.locator("#tasks-table").get_by_text(type_, exact=True).first).to_be_visible()
    page.screenshot(path=SHOTS / "flower-tasks.png")
    page.get_by_role("link", name="Broker").click()
    for queue in ("headrace.compute", "headrace.io", "headrace.tasks"):
        expect(page.get_by_text(queue, exact=True)).to_be_visible()
    page.screenshot(path=SHOTS / "flower-queues.png")
    context.close()
