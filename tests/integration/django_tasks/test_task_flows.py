"""The flows of tasks: published once, at first need, by content."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core import checks
from django.db import connection, connections, transaction
from django.test import override_settings

from tests.support.django_tasks import functions, settings
from tests.support.django_tasks.names import InvalidTaskError, task, task_backends
from tests.support.workers import await_that, nobody_dispatches
from workflows import this_process
from workflows.definitions.compiled import CompiledStep
from workflows.django_tasks import task_options
from workflows.engine.state import database, flow_cache
from workflows.engine.state.records import ReadyStep
from workflows.errors import FlowNotPublished
from workflows.models import Flow, FlowVersion, Organization, Run, Step
from workflows.services.django_tasks import flows

ENQUEUE = """
import django
django.setup()
from tests.support.django_tasks import functions
from workflows import this_process
from workflows.engine.pipeline.dispatcher import Dispatcher
from tests.support.workers import await_that, nobody_dispatches
with nobody_dispatches():
    print("ready", flush=True)
    input()
    print(*[functions.once.using(backend="another", queue_name={queue!r}).enqueue(f"{{n}}").id for n in range(3)])
"""


@pytest.fixture
def ready(tasks: Organization) -> Iterator[list[ReadyStep]]:
    this_process.forget(flows._Known)
    with nobody_dispatches() as steps:
        yield steps


def backend(**options: Any) -> Any:
    """Settings with these OPTIONS."""
    options.setdefault("organization", settings.ORGANIZATION)
    return override_settings(TASKS={"default": {"BACKEND": settings.BACKEND, "QUEUES": [], "OPTIONS": options}})


def flow_of(result: Any) -> Flow:
    return Run.objects.get(id=result.id).flow


def step_of(result: Any) -> CompiledStep:
    return flow_cache.flow_of(Run.objects.get(id=result.id).version_id).steps["task"]


def queue() -> str:
    """A queue of the test's own, and with it flows of its own."""
    return f"q-{uuid.uuid4().hex[:8]}"


def test_four_processes_at_once_publish_one_version(tasks: Organization, worker_environment: dict[str, str]) -> None:
    name = queue()
    environment = {**worker_environment, "DJANGO_SETTINGS_MODULE": "tests.support.django_tasks.settings"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ENQUEUE.format(queue=name)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said: list[str] = []
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        said += output.split()
    found = Flow.objects.get(organization=tasks, name__contains=name)
    assert found.versions.count() == 1
    assert len(said) == 12
    assert {str(run.id) for run in Run.objects.filter(flow=found)} == set(said)
    assert len(set(said)) == 3  # by the task's own idempotency


def test_a_flow_outlives_the_transaction_that_needed_it_first(ready: list[ReadyStep], tasks: Organization) -> None:
    name = queue()
    bound = functions.add.using(queue_name=name, backend="another")
    with contextlib.suppress(RuntimeError), transaction.atomic():
        bound.enqueue(1)
        raise RuntimeError
    assert Flow.objects.filter(organization=tasks, name__contains=name).count() == 1
    assert not Run.objects.filter(flow__name__contains=name).exists()
    bound.enqueue(2)
    assert Run.objects.filter(flow__name__contains=name).count() == 1
    assert len(ready) == 1


def test_an_organization_of_the_same_transaction_has_its_flow_in_it(ready: list[ReadyStep]) -> None:
    slug = f"t-{uuid.uuid4().hex[:12]}"
    with backend(organization=slug):
        with contextlib.suppress(RuntimeError), transaction.atomic():
            Organization.objects.create(slug=slug, name="New")
            functions.add.enqueue(1)
            functions.add.enqueue(2)
            raise RuntimeError
        assert not Flow.objects.filter(organization__slug=slug).exists()
        with transaction.atomic():
            Organization.objects.create(slug=slug, name="New")
            results = [functions.add.enqueue(number) for number in range(3)]
        assert {flow_of(result).organization.slug for result in results} == {slug}
    assert len(ready) == 3


def test_a_transaction_that_holds_the_flow_waits_for_nobody(ready: list[ReadyStep], tasks: Organization) -> None:
    name = queue()
    with backend():
        first = functions.add.using(queue_name=name).enqueue(1)
    with backend(retry={"attempts": 7}), transaction.atomic():
        Flow.objects.select_for_update().get(id=flow_of(first).id)
        second = functions.add.using(queue_name=name).enqueue(2)
    assert step_of(second).policy.retry.max_attempts == 7
    assert flow_of(second).versions.count() == 2


def test_a_snapshot_from_before_the_flow_is_told_so(ready: list[ReadyStep]) -> None:
    bound = functions.add.using(queue_name=queue(), backend="another")

    def in_an_old_snapshot() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT count(*) FROM django_migrations")
            bound.enqueue(1)

    with pytest.raises(FlowNotPublished, match="in a new transaction"):
        in_an_old_snapshot()
    assert not ready
    in_an_old_snapshot()
    assert len(ready) == 1


def test_two_transactions_that_wait_for_the_same_flow_both_end(ready: list[ReadyStep]) -> None:
    """One has published it in itself, and needs another flow before it can commit."""
    name, other = queue(), queue()
    with backend():
        found = flow_of(functions.add.using(queue_name=name).enqueue(1))
    published, second_waits = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            Flow.objects.select_for_update().get(id=found.id)
            functions.add.using(queue_name=name).enqueue(2)
            published.set()
            second_waits.wait(30)
            functions.add.using(queue_name=other).enqueue(3)
        connections.close_all()

    def second() -> None:
        published.wait(30)
        with transaction.atomic():
            functions.add.using(queue_name=name).enqueue(4)
        connections.close_all()

    with backend(retry={"attempts": 7}), ThreadPoolExecutor(2) as threads:
        done = [threads.submit(first), threads.submit(second)]
        await_that(_waits_for_a_row, what="the second one at the row of the first")
        second_waits.set()
        for each in done:
            each.result(60)
    assert Run.objects.filter(flow__name__contains=name).count() == 3
    assert Run.objects.filter(flow__name__contains=other).count() == 1
    assert found.versions.count() == 2


def _waits_for_a_row() -> bool:
    """Whether a connection without a lock_timeout waits for another's transaction: publishing in the caller's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            " AND clock_timestamp() - query_start > interval '2500 milliseconds'"
        )
        return bool(cursor.fetchone()[0])


def test_versions_are_known_by_their_content(ready: list[ReadyStep]) -> None:
    name = queue()

    def enqueue(attempts: int) -> Any:
        with backend(retry={"attempts": attempts}):
            return functions.add.using(queue_name=name).enqueue(1)

    results = [enqueue(attempts) for attempts in (2, 5, 2, 5, 2)]  # old and new processes in turns
    assert [step_of(result).policy.retry.max_attempts for result in results] == [2, 5, 2, 5, 2]
    assert flow_of(results[0]).versions.count() == 2


def test_a_deleted_flow_is_published_again(ready: list[ReadyStep], tasks: Organization) -> None:
    name = queue()
    bound = functions.add.using(queue_name=name, backend="another")
    first = bound.enqueue(1)
    found = flow_of(first)
    Run.objects.filter(flow=found).delete()
    Flow.objects.filter(id=found.id).update(current=None)
    FlowVersion.objects.filter(flow=found).delete()
    found.delete()
    second = bound.enqueue(2)
    assert flow_of(second).id != found.id


def test_nearer_options_replace_farther_ones(ready: list[ReadyStep]) -> None:
    path = "tests.support.django_tasks.functions"
    with backend(
        retry={"attempts": 2},
        timeout="10m",
        queues={"slow": {"timeout": "2h", "concurrency": 3}},
        tasks={f"{path}.one_at_a_time": {"throttling": {"rate": {"limit": 1, "period": "1s"}}}},
    ):
        step = step_of(functions.add.enqueue(1))
        assert (step.policy.retry.max_attempts, step.timeout_ms) == (2, 600_000)
        slow = functions.add.using(queue_name="slow").enqueue(1)
        assert step_of(slow).timeout_ms == 7_200_000
        assert flow_of(slow).current.definition["concurrency"] == [{"limit": 3}]
        definition = flow_of(functions.one_at_a_time.enqueue("x")).current.definition["steps"][0]
        assert definition["timeout"] == "20s"  # of the code
        assert definition["throttling"]["rate"]["limit"] == 1  # of the settings, which replace the code's
        assert "concurrency" not in definition["throttling"]


def test_options_that_can_not_be_used_are_named(ready: list[ReadyStep]) -> None:
    with pytest.raises(InvalidTaskError, match=r"functions\.badly_set can't be used: concurrency\[0\]\.limit"):
        functions.badly_set.enqueue()
    with backend(retry={"attempts": 0, "delya": "1s"}), pytest.raises(InvalidTaskError, match="delya"):
        functions.add.enqueue(1)
    assert not ready


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": 3}, "there is no option 'retries'; there are organization, queues, tasks, retry"),
        ({"retry": {"attempts": 0}}, r"\['OPTIONS'\]: retry.attempts"),
        ({"organization": 5}, "must be the slug"),
        ({"queues": []}, "must be a dict of dicts"),
        ({"queues": {"slow": 5}}, r"\['slow'\] must be a dict of options"),
        ({"queues": {"slow": {"retry": 5}}}, "retry"),
        ({"tasks": {"shop.tasks.send": {"tiemout": "1s"}}}, "no option 'tiemout'"),
        ({"throttling": {"limit": "no such place!"}}, "throttling.limit"),
    ],
)
def test_the_system_check_names_what_is_wrong(live_db: None, options: dict[str, Any], said: str) -> None:
    with backend(**options):
        found = list(task_backends["default"].check())
    assert any(isinstance(each, checks.Error) and re.search(said, each.msg) for each in found), found


def test_the_system_check_finds_nothing_where_nothing_is_wrong(live_db: None) -> None:
    with override_settings(TASKS=settings.TASKS):
        assert [message for alias in settings.TASKS for message in task_backends[alias].check()] == []
    with backend(tasks={"shop.tasks.send": {"timeout": "1m"}}):
        (warning,) = task_backends["default"].check()
        assert isinstance(warning, checks.Warning)
        assert "shop.tasks.send is gone" in warning.msg
    undeclared = {"BACKEND": settings.BACKEND, "QUEUES": ["default"], "OPTIONS": {"queues": {"slow": {}}}}
    with override_settings(TASKS={"default": undeclared}):
        (error,) = task_backends["default"].check()
        assert "QUEUES of the backend has no such queue" in error.msg


def test_an_unknown_option_of_the_code_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="task_options\\(retires=…\\): there is no such option"):
        task_options(retires=3)


def test_enqueuing_takes_two_statements_once_the_flow_is_known(ready: list[ReadyStep]) -> None:
    functions.add.enqueue(1)
    with connection.execute_wrapper(_Counted()), connection.cursor():
        before = _statements()
        functions.add.enqueue(2)
        assert _statements() - before == 2


class _Counted:
    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise AssertionError(f"the ORM is not asked: {sql}")


def _statements() -> int:
    return sum(database.counter().by_name.values())


def test_a_long_path_has_a_slug(ready: list[ReadyStep], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a" * 190
    monkeypatch.setattr(functions, name, task(functions.function_at(functions.__name__, name)), raising=False)
    result = getattr(functions, name).enqueue()
    assert len(flow_of(result).slug) <= 100
    assert functions.add.enqueue(1).id != result.id


def test_a_version_that_is_not_the_current_one_is_published_again_where_it_was_deleted(
    ready: list[ReadyStep], tasks: Organization
) -> None:
    """As retention does with one that no run has; this process remembers it."""
    name = queue()
    bound = functions.add.using(queue_name=name, backend="another")
    run = Run.objects.get(id=bound.enqueue(1).id)
    flow = Flow.objects.get(id=run.flow_id)
    later = FlowVersion.objects.get(id=run.version_id)
    later.id, later.number, later.checksum = uuid.uuid4(), later.number + 1, "another"
    later.save(force_insert=True)
    Flow.objects.filter(id=flow.id).update(current_id=later.id)
    Run.objects.filter(id=run.id).delete()
    Step.objects.filter(version_id=run.version_id).delete()
    FlowVersion.objects.filter(id=run.version_id).delete()
    again = Run.objects.get(id=bound.enqueue(2).id)
    assert again.version_id != run.version_id
    assert FlowVersion.objects.filter(id=again.version_id).exists()
