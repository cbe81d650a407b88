"""A run of a flow in Python on the pages, over REST and in the admin: as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.integration.functions.test_code_flows import run
from tests.support.admin_site import staff
from tests.support.python_flows import basic
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.models import Flow, FlowVersion, Organization, StepRun

pytestmark = pytest.mark.usefixtures("workers")


@pytest.fixture
def failed(org: Organization, tmp_path: Path) -> Any:
    return run(org, basic.retries, {"dir": str(tmp_path), "fail": 99})


def test_the_page_of_the_run_shows_its_steps(org: Organization, failed: Any) -> None:
    reader = staff(superuser=True)
    reader.get(f"/?org={org.slug}")
    page = reader.get(f"/runs/{failed.run.id}/")
    assert page.status_code == 200
    for key in ("before", "flaky", "after"):
        assert key in page.content.decode()
    for address in ("state/", "steps/flaky/", "steps/before/output.json", "output.json"):
        assert reader.get(f"/runs/{failed.run.id}/{address}").status_code == 200, address
    assert reader.get("/flows/").status_code == 200


def test_rest_gives_its_steps_and_forks_from_one(org: Organization, failed: Any, api_key: str) -> None:
    client = Client(headers={"authorization": f"Bearer {api_key}"})
    answer = client.get(f"/api/runs/{failed.run.id}").json()
    assert [step["id"] for step in answer["steps"]] == ["main", "before", "flaky", "after"]
    forked = client.post(f"/api/runs/{failed.run.id}/fork", {"fromSteps": ["flaky"]}, content_type="application/json")
    assert forked.status_code == 202, forked.content
    refused = client.post(f"/api/runs/{failed.run.id}/fork", {"fromSteps": ["none"]}, content_type="application/json")
    assert refused.status_code == 422
    assert "flaky" in refused.json()["detail"]
    assert "code-retries" in client.get("/api/workflows").content.decode()


def test_the_admin_shows_flow_version_and_steps(org: Organization, failed: Any) -> None:
    admin = staff(superuser=True)
    flow = Flow.objects.get(organization=org, slug="code-retries")
    assert flow.kind == "code"
    step = StepRun.objects.get(run_id=failed.run.id, key="flaky")
    for address in (
        f"flow/{flow.id}/change/",
        f"flowversion/{FlowVersion.objects.get(flow=flow).id}/change/",
        f"run/{failed.run.id}/change/",
        f"steprun/{step.id}/change/",
    ):
        answer = admin.get(f"/admin/headrace_workflows/{address}")
        assert answer.status_code == 200, address


@pytest.mark.parametrize("type_", ["function", "python"])
def test_nobody_writes_a_definition_that_performs_code(type_: str) -> None:
    """An organization would have the code of another performed, whose flow has this id."""
    config = basic.chain.document()["steps"][0]["config"] if type_ == "function" else {}
    with pytest.raises(DefinitionProblems, match="flows publish"):
        parse({"flow": "code-chain", "steps": [{"id": "main", "type": type_, "config": config}]})
