"""The committed reference pages are what the code says; names in code and documents agree."""

from __future__ import annotations

import re

import pytest
from ruamel.yaml import YAML

from config.env import BASE_DIR
from workflows.engine.state.transitions import RUN_TRANSITIONS, STEP_TRANSITIONS
from workflows.management.reference_pages import PAGES, SETTINGS
from workflows.models import Run, StepRun

REFERENCE = BASE_DIR / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    assert (REFERENCE / f"{name}.md").read_text(encoding="utf-8") == PAGES[name](), "run `manage.py reference`"


def test_the_state_machine_names_every_status() -> None:
    for transitions, statuses in ((STEP_TRANSITIONS, StepRun.Status.values), (RUN_TRANSITIONS, Run.Status.values)):
        assert {t.target for t in transitions} == set(statuses)
        assert {t.source for t in transitions} <= {"", *statuses}
    shown = set(re.findall(r"^    (\S+) --> (\S+): (.+)$", PAGES["state_machine"](), re.MULTILINE))
    assert shown == {(t.source or "[*]", t.target, t.verb) for t in (*STEP_TRANSITIONS, *RUN_TRANSITIONS)}


def test_every_variable_that_the_code_reads_is_documented() -> None:
    known = {setting.name.strip("`") for setting in SETTINGS}
    pattern = re.compile(r'"((?:HEADRACE_[A-Z_]+)|DATABASE_URL|REDIS_URL|BROKER_URL|PORT)"')
    used: set[str] = set()
    for folder in ("config", "workflows", "throttling", "dlq"):
        for file in (BASE_DIR / folder).rglob("*.py"):
            if not file.name.startswith("reference_"):
                used |= set(pattern.findall(file.read_text(encoding="utf-8")))
    internal = {
        "HEADRACE_EMBEDDED",
        "HEADRACE_GROUP",
        "HEADRACE_GLOBAL_",
        "HEADRACE_AWS_SECRET_READ",
        "HEADRACE_SECRET_",
    }
    assert used - internal <= known


def test_docker_compose_is_complete() -> None:
    compose = YAML(typ="safe", pure=True).load((BASE_DIR / "docker-compose.yml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"postgres", "valkey", "migrate", "web", "worker-io", "worker-compute", "beat", "flower"}
    for name in ("web", "worker-io", "worker-compute", "beat", "flower"):
        environment = services[name]["environment"]
        assert {"DATABASE_URL", "REDIS_URL", "HEADRACE_SECRET_KEY"} <= environment.keys(), name
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert services[name]["restart"] == "unless-stopped"
    for name in ("worker-io", "worker-compute"):
        assert int(services[name]["stop_grace_period"].rstrip("s")) >= 45
    assert "noeviction" in " ".join(services["valkey"]["command"])
    assert all("healthcheck" in services[name] for name in ("postgres", "valkey", "web"))
    assert (BASE_DIR / "Dockerfile").exists()


def test_no_top_level_name_is_missing() -> None:
    for name in (
        "manage.py",
        "pyproject.toml",
        "config",
        "workflows",
        "throttling",
        "dlq",
        "templates",
        "tests",
        "docker-compose.yml",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        ".ci/run",
    ):
        assert (BASE_DIR / name).exists(), name
