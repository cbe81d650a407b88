"""A release is installed over the one before while that one's workers go on: their code stays what they began with."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from config.env import BASE_DIR
from tests.support.packaging.host import Host
from tests.support.packaging.wheels import Environment, build
from tests.support.workers import await_that

FLOWS = """
import time

from headrace.workflows.functions import flow


def tell(what):
    from workflows.tasks import note
    note(what)
    return what


@flow("long-way", retry={"retries": 3, "delay": "100ms", "backoff": "fixed"})
def long_way(event, step):
    step.run("first", tell, "first")
    step.sleep("a-while", "100ms")
    said = step.wait_for_event("go", "shop/go", timeout="10m")
    step.atomic("second", tell, "second")
    both = step.parallel(lambda: step.run("left", tell, "left"), lambda: step.run("right", tell, "right"))
    step.send_event("tell", "shop/told", {"said": said.data})
    if not event.data.get("inner"):
        step.invoke("inner", "welcome", {"name": "Bob"})
    return both
"""
MORE = """
flow: all-ways
on: [{event: shop/told}]
steps:
  - {id: wait, type: delay, config: {for: 200ms}}
  - id: each
    type: map
    config: {items: [1, 2, 3]}
    steps: [{id: double, type: data_transform, config: {expression: "item * 2"}}]
  - {id: count, type: sandbox_sync, config: {code: "1 + 1"}}
"""
MIGRATION = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("headrace_workflows", "{last}")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE headrace_workflows_steprun ADD COLUMN of_next_release int NOT NULL DEFAULT 7",
            "ALTER TABLE headrace_workflows_steprun DROP COLUMN of_next_release",
        )
    ]
"""
WORKER = (
    "DJANGO_SETTINGS_MODULE=shop.settings celery -A headrace worker -P threads -c 4"
    " -n {name}@%h -Q headrace.io,headrace.tasks,headrace.compute"
)
WEB = "python manage.py runserver --noreload {port}"


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.install(build(tmp_path_factory.mktemp("wheel"), version="1.0.0"))
    made = Host(tmp_path_factory.mktemp("shop"), environment)
    (made.directory / "workflows" / "flows.py").write_text(FLOWS)
    (made.directory / "all_ways.yaml").write_text(MORE)
    try:
        made.follow("Settings")
        made.run("python manage.py organization create default --json > keys.json")
        (made.directory / "welcome.yaml").write_text(WELCOME)
        made.run("python manage.py flows apply welcome.yaml && python manage.py flows apply all_ways.yaml")
        made.run("python manage.py flows publish")
        yield made
    finally:
        made.stop()


WELCOME = """
flow: welcome
steps:
  - {id: greet, type: data_transform, config: {script: "'Welcome, ' + input['name']"}}
output: ${ steps['greet'].output }
"""


def trigger(host: Host, slug: str) -> str:
    answer = host.request("POST", f"/api/workflows/{slug}/run", json={"triggerData": {"name": "Ada"}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["runId"])


def go(host: Host) -> None:
    """What the long way waits for."""
    key = json.loads((host.directory / "keys.json").read_text())["eventKey"]
    assert host.request("POST", f"/e/{key}", json={"name": "shop/go", "data": {}}).status_code == 200


def put_aside(host: Host, *, back: bool = False) -> None:
    """Take the files away that a process could still read; or bring them back."""
    for path in list((host.packages.packages / "headrace").rglob("*.*~" if back else "*.*")):
        if path.suffix in {".sql~", ".lua~"}:
            path.rename(path.with_suffix(path.suffix.removesuffix("~")))
        elif path.suffix in {".sql", ".lua"} and not back:
            path.rename(path.with_suffix(f"{path.suffix}~"))


def workers_of(host: Host, run_id: str) -> set[str]:
    """The worker processes that have performed steps of a run."""
    rows = host.sql(f"SELECT DISTINCT worker_id FROM headrace_workflows_attempt WHERE run_id = '{run_id}'")
    return {str(worker) for (worker,) in rows}


def test_the_workers_of_a_release_go_on_while_the_next_one_is_installed(
    host: Host, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing that it needs is read from the package after its start: that is another one's by then."""
    old = host.start(WORKER.format(name="old"))
    web = host.start(WEB.format(port=host.port))
    host.await_ready()
    waits = trigger(host, "long-way")
    await_that(lambda: host.sql("SELECT 1 FROM headrace_workflows_wait WHERE event_name = 'shop/go'"), 60, "the wait")

    last = max((BASE_DIR / "workflows" / "migrations").glob("[0-9]*.py")).stem
    name = f"workflows/migrations/{int(last[:4]) + 1:04}_of_next_release.py"
    files = {name: MIGRATION.replace("{last}", last)}
    host.packages.install(build(tmp_path_factory.mktemp("next"), version="1.1.0", files=files))
    host.run("python manage.py migrate")
    put_aside(host)
    assert host.sql("SELECT column_default FROM information_schema.columns WHERE column_name = 'of_next_release'")

    go(host)  # the old worker is the only one: what it has not done so far it does now
    ended = host.await_run(waits)
    assert (ended["status"], ended["output"]) == ("completed", ["left", "right"]), ended["error"]
    among = host.request("GET", "/api/runs?workflow=all-ways").json()["runs"]
    done = [host.await_run(run["id"]) for run in among]
    assert [run["status"] for run in done] == ["completed"], [run["error"] for run in done]
    assert len(workers_of(host, waits)) == 1

    put_aside(host, back=True)
    late = trigger(host, "long-way")
    await_that(
        lambda: host.sql(f"SELECT 1 FROM headrace_workflows_wait WHERE run_id = '{late}'"), 60, "the second wait"
    )
    host.kill(web)
    host.start(WORKER.format(name="new"))
    host.start(WEB.format(port=host.port))
    host.await_ready()
    await_that(lambda: host.sql("SELECT count(*) FROM headrace_workflows_worker")[0][0] == 2, 60, "the new worker")
    old.terminate()
    assert old.wait(60) == 0
    go(host)
    ended = host.await_run(late)
    assert (ended["status"], ended["output"]) == ("completed", ["left", "right"]), ended["error"]
    assert len(workers_of(host, late)) == 2
    assert host.await_run(trigger(host, "welcome"))["output"] == "Welcome, Ada"
    assert "Traceback" not in (host.directory / "processes.log").read_text()
    assert host.notes().count("second") == 2
