"""What a process loads is what it uses: each of these costs every worker and every command memory and time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.env import BASE_DIR

SHOW = "\nimport sys; print('\\n'.join(sys.modules))"
SETUP = "import django; django.setup()"
WORKER = f"{SETUP}\nfrom config.celery import app; app.loader.import_default_modules(); app.finalize()"
COMMAND_LINE = (
    "import runpy, sys; sys.argv = ['headrace', '-A', 'config', {words}]\n"
    "try: runpy.run_module('headrace', run_name='__main__')\n"
    "except SystemExit as ended: assert not ended.code"
)
UNUSED = frozenset({
    "apprise", "config.urls", "django.test", "dlq.admin", "flower", "jinja2", "jsonschema_rs", "ninja", "prompt_toolkit",
    "pydantic_monty", "rich", "sentry_sdk", "tornado", "unittest", "uvicorn", "workflows.admin", "workflows.api",
})  # fmt: skip


@pytest.mark.parametrize(
    "program",
    [SETUP, WORKER, COMMAND_LINE.format(words="'report'")],
    ids=["a command", "a worker", "Celery's command line"],
)
def test_a_process_loads_nothing_that_it_does_not_use(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program + SHOW], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines())
    assert "workflows.engine.pipeline.record" in loaded
    assert loaded & UNUSED == set()


def test_a_command_of_ours_does_not_load_the_web() -> None:
    program = (
        "import sys; sys.argv = ['manage.py', 'flows', 'validate', 'examples/flows/demo-task.yaml']\nimport runpy\n"
        "try: runpy.run_path('manage.py', run_name='__main__')\n"
        "except SystemExit: pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + SHOW], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    assert {"config.urls", "ninja", "tornado", "apprise"} & set(done.stdout.splitlines()) == set()


def test_the_lean_command_line_has_the_commands_of_celery_and_hides_those_of_others_from_nobody_else() -> None:
    program = COMMAND_LINE.format(words="'--help'") + (
        "\nfrom importlib import metadata, util; import sys\n"
        "assert metadata.entry_points(group='celery.commands') and 'click_repl' not in sys.modules\n"
        "assert util.find_spec('click_repl')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=BASE_DIR, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.split()}
    assert {"worker", "beat", "inspect"} <= listed
    assert "flower" not in listed
