"""Celery tasks as steps of flows in Python."""

from __future__ import annotations

from tests.integration.functions.test_code_flows import run
from tests.support.python_flows import more
from tests.support.shop.workers import Shop
from tests.support.workers import WorkerPool
from workflows.models import Organization


def test_tasks_are_steps_of_a_flow_in_python(org: Organization, watchers: WorkerPool, shop: Shop) -> None:
    shop.start(SHOP_WITH_HEADRACE="0")
    detail = run(org, more.tasks, patience_s=60)
    assert detail.run.status == "completed", detail.run.error
    assert (detail.run.output["first"], detail.run.output["both"]) == (6, [7, 8])
    assert detail.run.output["failed"]
    assert run(org, more.async_tasks, patience_s=60).run.output == 6
