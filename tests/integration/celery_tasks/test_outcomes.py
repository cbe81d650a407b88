"""What a Celery task may come to, and what that is for its step. Real workers of an application that has no Headrace in
it, and of one that has. The names are those of the table in docs/howto/run_celery_tasks.md."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.shop.workers import Shop
from tests.support.workers import WorkerPool, await_end, by_key, publish
from workflows import selectors, services
from workflows.models import Organization


def task(name: str, *args: Any, **more: Any) -> dict[str, Any]:
    config = {key: more.pop(key) for key in list(more) if key not in {"retry", "timeout", "critical", "needs"}}
    return {"id": name.rpartition(".")[2], "type": "celery_task", "needs": [], "critical": False, "timeout": "40s",
            "config": {"task": name, "args": list(args), **config}, **more}  # fmt: skip


def run(org: Organization, *steps: dict[str, Any]) -> dict[str, selectors.StepDetail]:
    """Run the steps, each by itself. Returns what became of them, by key."""
    slug = publish(org, [{**step, "id": f"{step['id']}-{n}"} for n, step in enumerate(steps)])
    detail = await_end(org, services.trigger(org, slug, {"n": 4}).run_ids[0], 90)
    return by_key(detail)


def said(step: selectors.StepDetail) -> tuple[str, str, str]:
    """Its status, and the category and name of its error."""
    error = (step.attempts[-1].error if step.attempts else None) or {}
    return step.step_run.status, error.get("category", ""), error.get("name", "")


@pytest.mark.parametrize("with_headrace", ["0", "1"], ids=["without our app", "with our app"])
def test_each_outcome_has_its_name(org: Organization, watchers: WorkerPool, shop: Shop, with_headrace: str) -> None:
    shop.start(SHOP_WITH_HEADRACE=with_headrace)
    found = run(
        org,
        task("shop.add", "${ input.n }", 2),
        task("shop.parcel", "small", priority=3),
        task("shop.silent"),
        task("shop.flaky", 2),
        task("shop.again"),
        task("shop.replaced", "one"),
        task("shop.replaced", "chain"),
        task("shop.returns", "time"),
        task("shop.returns", "object", output=False, ignore_result=True),
        task("shop.rejected", True),
    )
    outputs = [each.step_run.output for each in found.values()]
    assert [each.step_run.status for each in found.values()] == ["completed"] * len(found)
    assert outputs[0] == 6
    assert outputs[1]["queue"] == "shop.parcels"
    assert outputs[2:7] == [7, 2, 2, 5, 5]
    assert outputs[7] == {"at": "2026-01-02T00:00:00+00:00", "id": "00000000-0000-0000-0000-000000000001"}
    assert outputs[8:] == [None, "the second time"]
    assert len(shop.lines("shop.flaky")) == 3
    assert set(shop.lines("shop.again")) == {f"{found['again-4'].step_run.id}-1"}


@pytest.mark.parametrize("with_headrace", ["0", "1"], ids=["without our app", "with our app"])
def test_each_failure_has_its_name(org: Organization, watchers: WorkerPool, shop: Shop, with_headrace: str) -> None:
    shop.start(SHOP_WITH_HEADRACE=with_headrace)
    found = run(
        org,
        task("shop.fails"),
        task("shop.fails", retry={"attempts": 2, "delay": "1ms"}),
        task("shop.flaky", 9),
        task("shop.returns", "object"),
        task("shop.returns", "large"),
        task("shop.rejected", False),
        task("shop.dies"),
        task("shop.too_long"),
        task("shop.sleeps", 30, time_limit=1),
        task("shop.add", 1),
        task("shop.nothing"),
        task("shop.unknown", registered=False),
        task("celery.backend_cleanup"),
    )
    assert [said(each) for each in found.values()] == [
        ("failed", "transient", "ValueError"),
        ("failed", "transient", "ValueError"),
        ("failed", "transient", "ConnectionError"),
        ("failed", "invalid_output", "EncodeError"),
        ("failed", "invalid_output", "PayloadTooLarge"),
        ("failed", "business", "Reject"),
        ("failed", "resource", "WorkerLostError"),
        ("failed", "resource", "SoftTimeLimitExceeded"),
        ("failed", "resource", "TimeLimitExceeded"),
        ("failed", "invalid_input", "NonRetriable"),
        ("failed", "configuration", "ConfigurationFailure"),
        ("failed", "configuration", "NotRegistered"),
        ("failed", "configuration", "ConfigurationFailure"),
    ]
    assert len(found["fails-1"].attempts) == 2
    first, second = found["fails-0"].step_run.id, found["fails-1"].step_run.id
    assert sorted(shop.lines("shop.fails")) == sorted([f"{first}-1", f"{second}-1", f"{second}-2"])
    assert "a bad value" in found["fails-0"].attempts[0].error["message"]
