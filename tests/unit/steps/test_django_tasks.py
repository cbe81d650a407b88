"""The parts of the task backend that need no database: values, paths, slugs, and which package has the names."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.services.django_tasks.options import TaskSource, flow_of, slug_of
from workflows.steps.django_tasks import lookup, results
from workflows.steps.django_tasks.values import plain
from workflows.steps.registry import COMPUTE_QUEUE, IO_QUEUE, REGISTRY, TASKS_LANE, Mode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_stays_what_it_is(value: Any) -> None:
    assert plain(value, "args") == value
    assert json.loads(json.dumps(plain(value, "args"))) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [((1, [2, (3,)]), [1, [2, [3]]]), (b"caf\xc3\xa9", "café"), ({"a": (1,)}, {"a": [1]}), (range(3), [0, 1, 2])],
)
def test_what_json_has_under_another_name_is_taken(value: Any, expected: Any) -> None:
    assert plain(value, "args") == expected


@pytest.mark.parametrize("value", [{1, 2}, object(), {None: 1}, {(1,): 2}, [1, [lambda: 0]], 1j])
def test_what_is_no_json_is_named_with_its_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^args[^:]*: unsupported type"):
        plain(value, "args")


def test_a_place_far_inside_is_cut() -> None:
    value: Any = object()
    for _ in range(100):
        value = [value]
    with pytest.raises(TypeError) as refused:
        plain(value, "args")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("tests.support.no_such_module.f", "has no no_such_module.f"),
        ("no_such_package.tasks.f", "there is no module 'no_such_package'"),
        ("json.dumps", "is no task any more: it is a function"),
        ("json.decoder.JSONDecoder.decode", "is no task any more"),
    ],
)
def test_what_is_no_task_is_a_fault_of_the_configuration(path: str, said: str) -> None:
    with pytest.raises(lookup.TaskGone, match=said) as refused:
        lookup.task_at(path)
    assert refused.value.category == "configuration"


def test_a_module_that_can_not_be_imported_says_why(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_tasks.py").write_text("1 / 0\n")
    (tmp_path / "missing_tasks.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(lookup.TaskGone, match="broken_tasks raises ZeroDivisionError"):
        lookup.task_at("broken_tasks.f")
    with pytest.raises(lookup.TaskGone, match="missing_tasks raises ModuleNotFoundError: No module named 'no_such_lib"):
        lookup.task_at("missing_tasks.f")


def source(path: str = "shop.tasks.send", **more: Any) -> TaskSource:
    return TaskSource(path=path, backend="default", queue_name="default", **more)


def test_slugs_differ_by_backend_queue_and_path() -> None:
    sources = [
        source(),
        source("shop.tasks.Send"),
        source("shop_tasks.send"),
        TaskSource(path="shop.tasks.send", backend="other", queue_name="default"),
        TaskSource(path="shop.tasks.send", backend="default", queue_name="other"),
        source("p" * 300 + ".é"),
    ]
    slugs = {slug_of(each) for each in sources}
    assert len(slugs) == len(sources)
    assert all(len(slug) <= 100 for slug in slugs)
    assert slug_of(source()).startswith("task-shop-tasks-send-")
    assert slug_of(source(is_async=True)) == slug_of(source())  # what the code says of it makes a version, no flow


def test_a_step_runs_where_its_task_belongs() -> None:
    blocking, compute = REGISTRY["django_task"], REGISTRY["django_compute_task"]
    asynchronous = dict(flow_of(source(is_async=True), {}).steps[0].config)
    assert (blocking.mode_of({}), blocking.lane_of({}), blocking.queue) == (Mode.THREAD, TASKS_LANE, IO_QUEUE)
    assert (blocking.mode_of(asynchronous), blocking.lane_of(asynchronous)) == (Mode.ASYNC, IO_QUEUE)
    spec = flow_of(source(is_async=True), {"compute": True})
    assert spec.steps[0].type == "django_compute_task"
    assert (compute.mode_of(spec.steps[0].config), compute.lane_of({})) == (Mode.THREAD, COMPUTE_QUEUE)


def test_a_result_was_enqueued_when_its_id_was_made() -> None:
    moment = 1_790_000_000_123
    id_ = uuid.UUID(int=moment << 80 | 7 << 76 | 2 << 62)
    assert results.enqueued_at(id_).timestamp() == moment / 1000


SHIM = """
import importlib.util, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
import django_tasks.backends.base, django_tasks.backends.immediate, django_tasks.signals
import django
for name in [name for name in sys.modules if name.split(".")[0] == "django_tasks"]:
    sys.modules["django.tasks" + name.removeprefix("django_tasks")] = sys.modules.pop(name)
tasks = django.tasks = sys.modules["django_tasks"] = sys.modules["django.tasks"]  # it imports from itself
tasks.__spec__ = importlib.util.spec_from_loader("django.tasks", None)
exceptions, base = sys.modules["django.tasks.exceptions"], sys.modules["django.tasks.base"]
exceptions.InvalidTask, exceptions.InvalidTaskBackend = exceptions.InvalidTaskError, exceptions.InvalidTaskBackendError
del exceptions.InvalidTaskError, exceptions.InvalidTaskBackendError
base.Task.__class_getitem__ = base.TaskResult.__class_getitem__ = None
django.setup()
from django.conf import settings
from workflows import django_tasks
from workflows.steps.django_tasks import api, perform, results
assert api.BaseTaskBackend is sys.modules["django.tasks.backends.base"].BaseTaskBackend
assert all(getattr(api, name) is not None for name in api.__all__)
assert "django_tasks" not in settings.INSTALLED_APPS
assert not [name for name in sys.modules if name.startswith("django_tasks.")]
assert isinstance(tasks.task_backends["default"], django_tasks.HeadraceBackend)
assert [*tasks.task_backends["default"].check()] == []
print("django.tasks")
"""


def test_the_names_come_from_django_where_it_has_them() -> None:
    """Django 6 needs Python 3.12. Here the modules of the package take the places, the names of the errors and the lack
    of subscripts that they have there."""
    done = subprocess.run([sys.executable, "-c", SHIM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "django.tasks"), done.stderr
