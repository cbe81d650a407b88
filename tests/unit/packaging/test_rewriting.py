"""What changes in a file that moves under `headrace.`, and what does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from devtools.packaging import tree
from devtools.packaging.rewriting import CannotMove, defined, moved
from tests.unit.house.test_structure import ROOT

NAMES = {
    "workflows": frozenset(),
    "workflows.steps": frozenset(),
    "workflows.steps.types": frozenset(),
    "workflows.dashboard.links": frozenset({"flower"}),
    "workflows.dashboard.login": frozenset({"braked"}),
    "dlq.tasks": frozenset({"deliver"}),
}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from workflows.steps import registry\n", "from headrace.workflows.steps import registry\n"),
        ("from workflows import (\n    steps,\n)\n", "from headrace.workflows import (\n    steps,\n)\n"),
        ("import workflows.steps as s\n", "import headrace.workflows.steps as s\n"),
        ("import os, dlq.tasks as t, throttling.gate as g\n", "import os, headrace.dlq.tasks as t, headrace.throttling.gate as g\n"),
        ("def f():\n    from  dlq import tasks\n", "def f():\n    from  headrace.dlq import tasks\n"),
        ("from . import workflows\n", "from . import workflows\n"),
        ("from workflows_of_others import x\n", "from workflows_of_others import x\n"),
        ("from llama.workflows import x\n", "from llama.workflows import x\n"),
        ("import_module('workflows.steps.types')\n", "import_module('headrace.workflows.steps.types')\n"),
        ("x = 'workflows.dashboard.login.braked'\n", "x = 'headrace.workflows.dashboard.login.braked'\n"),
        ("x = 'é', 'workflows.steps'\n", "x = 'é', 'headrace.workflows.steps'\n"),
        ("x = 'workflows.steps.noop'\n", "x = 'workflows.steps.noop'\n"),  # a task
        ("x = f'workflows.steps.{name}'\n", "x = f'workflows.steps.{name}'\n"),
        ("x = 'workflows.steps.*'\n", "x = 'workflows.steps.*'\n"),
        ("x = {'workflows': 1, 'dlq': 2}\n", "x = {'workflows': 1, 'dlq': 2}\n"),
        ("log = structlog.get_logger('workflows.jobs')\n", "log = structlog.get_logger('headrace.workflows.jobs')\n"),
        ("class C(AppConfig):\n    name = 'workflows'\n", "class C(AppConfig):\n    name = 'headrace.workflows'\n"),
        ("class C(AppConfig):\n    label = 'headrace_workflows'\n", "class C(AppConfig):\n    label = 'headrace_workflows'\n"),
        ("# from workflows import x\n'''from workflows import x'''\n", "# from workflows import x\n'''from workflows import x'''\n"),
    ],
)  # fmt: skip
def test_names_of_modules_move_and_nothing_else(before: str, after: str) -> None:
    assert moved(before, NAMES) == after


def test_a_migration_of_the_wheel_replaces_nothing() -> None:
    before = 'class Migration(migrations.Migration):\n    replaces = [("workflows", "0001_initial")]\n    x = 1\n'
    after = "class Migration(migrations.Migration):\n    replaces = []\n    x = 1\n"
    assert moved(before, NAMES, "workflows/migrations/0001_initial.py") == after
    assert moved(before, NAMES, "workflows/models/run.py") == before


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("import workflows.steps\n", "workflows/x.py"),
        ("from \\\n  workflows import x\n", "workflows/x.py"),
        ("from headrace import workflows\n", "headrace/x.py"),
        ("class Migration:\n    replaces = [\n        ('workflows', '0001'),\n    ]\n", "workflows/migrations/0001.py"),
    ],
)
def test_what_would_mean_something_else_is_refused(source: str, path: str) -> None:
    with pytest.raises(CannotMove):
        moved(source, NAMES, path)


def test_the_names_that_a_module_defines() -> None:
    assert defined("import os\nA: int = 1\nB = C = 2\ndef d(): e = 1\nclass F: pass\n") == {"A", "B", "C", "d", "F"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "headrace"
    tree.make(ROOT, target)
    return target


def test_the_package_has_everything_that_it_runs_with(package: Path) -> None:
    for name in (
        "py.typed", "workflows/py.typed", "throttling/lua/admit.lua", "workflows/engine/sql/trigger/insert_runs.sql",
        "dlq/sql/bury.sql", "templates/headrace/base.html", "static/headrace/live.js", "workflows/tasks.py", "celery.py",
        "workflows/migrations/0001_initial.py",
    ):  # fmt: skip
        assert (package / name).exists(), name
    for app in ("workflows", "dlq", "throttling"):
        ours = {path.relative_to(ROOT / app).as_posix() for path in (ROOT / app).rglob("*.sql")}
        assert {path.relative_to(package / app).as_posix() for path in (package / app).rglob("*.sql")} == ours


def test_the_package_has_nothing_of_the_repositorys_project(package: Path) -> None:
    assert {path.name for path in package.iterdir() if path.is_dir()} == {
        "dlq", "static", "templates", "throttling", "workflows",
    }  # fmt: skip
    text = "\n".join(path.read_text() for path in package.rglob("*.py"))
    assert "replaces = [(" not in text
    assert 'name = f"headrace' not in text
    assert not list((package / "workflows" / "management").rglob("reference*.py"))
    assert not (package / "templates" / "admin" / "djcelery").exists(), "that is celery-beat's own"


def test_a_module_that_needs_the_repository_can_not_be_in_the_package(tmp_path: Path) -> None:
    for app in ("dlq", "throttling", "workflows", "headrace", "templates", "static"):
        (tmp_path / app).mkdir()
    (tmp_path / "dlq" / "a.py").write_text("def f():\n    from config.settings import X\n")
    with pytest.raises(tree.Leftover, match=r"dlq/a\.py imports config\.settings"):
        tree.make(tmp_path, tmp_path / "package")


def test_every_extra_is_in_the_environment_of_the_repository() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = {name for names in project["project"]["optional-dependencies"].values() for name in names}
    groups = project["dependency-groups"]
    assert extras <= {*groups["project"], *groups["embedded"]}
    assert {"dev", "project"} == set(project["tool"]["uv"]["default-groups"])
