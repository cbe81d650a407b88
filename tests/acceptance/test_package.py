"""The wheel in a project of somebody else: the how-to as it is written, beside another package called `workflows`, an app of
that name, a user model, a Celery app and tasks of the project's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from config.env import BASE_DIR
from devtools.packaging import tree
from devtools.packaging.rewriting import moved
from tests.support.packaging.host import Host
from tests.support.packaging.wheels import Environment, build
from tests.support.workers import await_that

SHARE = ("definitions", "dlq", "edge", "engine", "expressions", "http", "steps", "throttling")
"""Folders of `tests/unit` that run on the wheel …"""
OF_THE_REPOSITORY = ("BASE_DIR", "parents[", "from config", "tests.")
WRITES_ITS_IMPORTS = "test_memory_stays_bounded_while_bombs_are_evaluated"
"""… without the files that look at the repository, and one test with a script in a string."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.install(build(tmp_path_factory.mktemp("wheel")))
    made = Host(tmp_path_factory.mktemp("shop"), environment)
    try:
        for section in ("Settings", "A first run"):
            made.follow(section)
        yield made
    finally:
        made.stop()


def test_the_page_ends_with_a_run_that_completes(host: Host) -> None:
    answer, _ = json.JSONDecoder().raw_decode(host.said, host.said.index("{"))
    assert answer["queued"] is True
    run = host.await_run(answer["runId"])
    assert (run["status"], run["output"]) == ("completed", "Welcome, Ada"), run["error"]
    assert "headrace.W012" not in host.said
    assert host.run("python manage.py check") == "System check identified no issues (0 silenced).\n"


def test_events_come_in_and_what_is_no_address_is_a_problem_document(host: Host) -> None:
    key = json.loads((host.directory / "keys.json").read_text())["eventKey"]
    sent = host.request("POST", f"/e/{key}", json={"name": "user/signup", "data": {"name": "Bob"}})
    assert sent.status_code == 200
    await_that(lambda: host.sql("SELECT 1 FROM headrace_workflows_run WHERE event_name = 'user/signup' AND ended_at IS NOT NULL"))  # fmt: skip
    for path, status in (("/api/nothing", 404), ("/hooks/nobody", 404), ("/api/runs/no-id", 404)):
        refused = host.request("POST" if "hooks" in path else "GET", path)
        assert (refused.status_code, refused.json()["status"]) == (status, status), path


def test_the_projects_own_app_of_the_name_keeps_its_table(host: Host) -> None:
    assert host.sql("SELECT distance FROM workflows_run") == [(42,)]
    assert host.sql("SELECT count(*) FROM headrace_workflows_run")[0][0] >= 1
    assert host.sql("SELECT name FROM django_migrations WHERE app = 'workflows'") == [("0001_initial",)]
    assert host.run("python manage.py makemigrations --check --dry-run").strip() == "No changes detected"
    where = host.python(
        "import workflows, headrace.workflows as ours\nprint(json.dumps([workflows.__file__, ours.__file__]))"
    )
    assert where[0].startswith(str(host.directory))
    assert "site-packages/headrace/workflows" in where[1]


def test_the_projects_celery_app_is_what_it_was(host: Host) -> None:
    found = host.python("""
from celery import current_app
from headrace import celery_app as ours
from headrace.workflows import tasks
from shop.celery import app
import headrace.dlq.tasks
app.loader.import_default_modules()
ours.loader.import_default_modules()
ours.finalize(), app.finalize()
print(json.dumps({
    "current": current_app.main, "theirs": sorted(name for name in app.tasks if not name.startswith("celery.")),
    "steps": [name for name in ours.tasks if name.startswith("workflows.steps.")][:1],
    "conf": [app.conf.task_default_queue, app.conf.task_soft_time_limit, app.conf.broker_transport_options],
    "ours": [ours.conf.task_default_queue, ours.conf.task_soft_time_limit],
    "brokers": [app.conf.broker_url[-3:], ours.conf.broker_url[-3:]],
}))
""")
    assert found["current"] == "shop"
    assert found["theirs"] == [
        "headrace.celery_task_failed",  # which tells why a task of a step has failed
        "workflows.tasks.add", "workflows.tasks.charge", "workflows.tasks.flaky",
    ]  # fmt: skip
    assert len(found["steps"]) == 1
    assert found["conf"] == ["shop", 77, {"visibility_timeout": 2}]
    assert found["ours"] == ["headrace.tasks", None]
    assert found["brokers"] == ["/11", "/10"]


def test_the_projects_tasks_run_on_its_own_workers_and_a_late_one_is_delivered_again(host: Host) -> None:
    worker = "celery -A shop worker -P prefork -c 1 -Q shop --without-mingle --without-gossip -n shop@%h"
    first = host.start(worker, SHOP_CHARGE_S="600")
    send = "from workflows.tasks import add, charge, flaky\n"
    host.python(send + "add.delay(1, 2); flaky.delay()\nprint('null')")
    await_that(lambda: {"add 3", "flaky 1"} <= set(host.notes()), 60, "the tasks")
    host.python(send + "charge.delay('o-1')\nprint('null')")
    await_that(lambda: "begin o-1" in host.notes(), 60, "the late task")
    host.kill(first)
    await_that(host.is_overdue, 30, "the message of the killed worker is overdue")
    host.start(worker)
    await_that(lambda: "end o-1" in host.notes(), 60, "the task of the killed worker")
    assert host.notes().count("begin o-1") >= 2


def test_people_log_in_as_the_project_says_and_see_the_pages(host: Host) -> None:
    found = host.python("""
from django.contrib.auth import get_user_model
from django.test import Client
get_user_model().objects.create_superuser("boss", password="a long password")
client = Client(SERVER_NAME="localhost")
away = client.get("/headrace/")
client.login(username="boss", password="a long password")
pages = ["/headrace/", "/headrace/flows/", "/headrace/approvals/", "/headrace/api/docs", "/headrace/api/openapi.json",
         "/admin/", "/admin/headrace_workflows/flow/", "/admin/headrace_dlq/deadletter/"]
from django.contrib.staticfiles import finders
print(json.dumps({
    "away": [away.status_code, away["Location"]],
    "pages": {page: client.get(page).status_code for page in pages},
    "static": bool(finders.find("headrace/live.js") and finders.find("headrace/vendor/htmx-2.min.js")),
    "top": 'data-api="/headrace/api/"' in client.get("/headrace/").content.decode(),
}))
""")
    assert found["away"] == [302, "/admin/login/?next=/headrace/"]
    assert set(found["pages"].values()) == {200}, found["pages"]
    assert found["static"]
    assert found["top"]


def test_a_share_of_the_suite_passes_on_the_wheel(host: Host) -> None:
    names, suite = tree.names_of(BASE_DIR), host.directory / "suite"
    for room in SHARE:
        (suite / room).mkdir(parents=True, exist_ok=True)
        for path in (BASE_DIR / "tests" / "unit" / room).glob("*.*"):
            text = path.read_text()
            if path.suffix == ".py":
                text = moved(text, names, path.as_posix())
            if not any(part in text for part in OF_THE_REPOSITORY):
                (suite / room / path.name).write_text(text)
    (suite / "pytest.ini").write_text("[pytest]\nfilterwarnings = ignore\n")
    options = f"-q -p no:cacheprovider --import-mode importlib --ds shop.settings -rN -k 'not {WRITES_ITS_IMPORTS}'"
    passed = host.run(f"python -m pytest {options} {suite}")
    assert int(re.findall(r"(\d+) passed", passed)[0]) > 300
    assert "failed" not in passed


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("HEADRACE = {}", "headrace.E004"),
        ("HEADRACE = {**HEADRACE, 'PUBLIC_URL': ''}\nDEBUG = False\nALLOWED_HOSTS = ['*']", "headrace.W006"),
        ("HEADRACE = {**HEADRACE, 'STEP_EVENTS': 'perhaps'}", "headrace.E003"),
        ("HEADRACE = {**HEADRACE, 'REDIS': 'x'}", "The setting HEADRACE knows no REDIS"),
        ("DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'x'}}", "headrace.E001"),
        ("DATABASE_ROUTERS = ['shop.routers.Elsewhere']\nDATABASES['other'] = DATABASES['default']", "headrace.E002"),
        ("ROOT_URLCONF = 'shop.no_urls'", "headrace.E008"),
        ("TEMPLATES[0]['OPTIONS']['context_processors'] = []", "headrace.E009"),
        ("INSTALLED_APPS.remove('headrace.dlq')", "headrace.E007"),
    ],
)
def test_check_says_what_is_missing(host: Host, change: str, finding: str) -> None:
    (host.directory / "shop" / "no_urls.py").write_text("urlpatterns = []\n")
    router = "class Elsewhere:\n    def db_for_write(self, model, **hints):\n        return 'other'\n"
    (host.directory / "shop" / "routers.py").write_text(router)
    (host.directory / "shop" / "changed.py").write_text(f"from shop.settings import *\n{change}\n")
    done = host.attempt("python manage.py check --settings shop.changed")
    assert finding in done.stdout
    assert (done.returncode != 0) == ("W0" not in finding)


def test_what_is_removed_leaves_the_project_as_it_was(host: Host) -> None:
    """The last test of the module: it takes everything away."""
    host.follow("Remove it")
    assert {name for name in host.tables() if name.startswith("headrace")} == set()
    assert host.sql("SELECT proname FROM pg_proc WHERE proname LIKE 'headrace%'") == []
    assert host.sql("SELECT distance FROM workflows_run") == [(42,)]
