"""Containers where somebody tries to break them: what a hostile review has found."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

import pytest

from tests.integration.containers.test_composition import container
from tests.support import probes
from tests.support.by_hand import NO, claim, end, start
from tests.support.workers import WorkerPool, await_end, by_key, publish, run_to_end, scalar
from workflows import services
from workflows.engine.containers import fan_out
from workflows.engine.pipeline import record as recording
from workflows.engine.state.records import Claim, StepResult
from workflows.engine.state.transitions import steps as step_transitions
from workflows.engine.waits import resolve
from workflows.models import Organization, Run, StepRun
from workflows.services import repair
from workflows.steps.outcome import Completed, Failed, FanOut, Outcome, WaitFor


def record(claimed: Claim, outcome: Outcome, output: str | None = None) -> None:
    recording.record([StepResult(claim=claimed, outcome=outcome, output=output)])


def inner_claims(run_id: UUID, key: str) -> list[Claim]:
    rows = StepRun.objects.filter(run_id=run_id, key=key, status="ready")
    claims = step_transitions.claim(
        [(str(row.id), row.attempt) for row in rows], worker=uuid.uuid4(), lease_s=600
    ).claims
    return sorted(claims, key=lambda each: each.path)


@pytest.mark.parametrize("lands", ["wait", "map", "hand back"])
def test_nothing_goes_on_in_a_container_that_stops(lands: str, org: Organization, published: list[Any]) -> None:
    """Item 0 fails while item 1's step executes, which then would wait for a week, or begin a map of its own."""
    nested = {"id": "s", "type": "map", "config": {"items": [1]}, "steps": [{"id": "x", "type": "noop"}]}
    body = nested if lands == "map" else {"id": "s", "type": "wait_for_event", "config": {"event": "x/y"}}
    run_id = start(org, [{"id": "all", "type": "map", "config": {"items": [0, 1]}, "steps": [body]}])
    record(claim(run_id, "all"), FanOut(items=[0, 1], parallelism=2))
    first, second = inner_claims(run_id, "s")
    record(first, Failed(error=NO))
    outcomes: dict[str, Outcome] = {
        "wait": WaitFor(kind="event", event_name="x/y", timeout_s=7 * 86_400),
        "map": FanOut(items=list(range(5)), parallelism=5),
        "hand back": Completed(),
    }
    record(second, outcomes[lands])
    assert Run.objects.get(id=run_id).status == "failed"
    assert not StepRun.objects.filter(run_id=run_id, key="x").exists()
    assert not StepRun.objects.filter(run_id=run_id, status__in=["ready", "running", "waiting", "pending"]).exists()


def test_a_run_does_not_end_while_a_step_in_a_failed_item_executes(org: Organization, workers: WorkerPool) -> None:
    slow = {"id": "slow", "type": "probe_thread", "needs": [], "config": {"hold_ms": 1500}}
    bad = {"id": "bad", "type": "raises", "needs": [], "config": {"how": "final"}}
    detail = run_to_end(org, container("map", slow, bad, items=[0], on_failure="continue"))
    row = StepRun.objects.get(run_id=detail.run.id, key="slow")
    assert row.status == "completed"
    assert row.ended_at
    assert detail.run.ended_at
    assert row.ended_at <= detail.run.ended_at


@pytest.mark.parametrize("type_", ["group", "map"])
@pytest.mark.parametrize(("how", "result"), [("fine", "p"), ("final", "instead")])
def test_a_result_is_the_last_steps_or_its_fallbacks(
    type_: str, how: str, result: str, org: Organization, workers: WorkerPool
) -> None:
    body = [
        {"id": "p", "type": "raises", "config": {"how": how}},
        {"id": "f", "type": "noop", "fallback_for": "p", "config": {"output": "instead"}},
    ]
    config = {"items": [1, 2]} if type_ == "map" else {}
    output = by_key(run_to_end(org, container(type_, *body, **config)))["after"].step_run.output
    assert output["results"] == [result] * 2 if type_ == "map" else output == result


def test_a_loops_condition_sees_what_stood_in_for_a_step(org: Organization, workers: WorkerPool) -> None:
    body = [
        {"id": "p", "type": "raises", "config": {"how": "final"}},
        {"id": "f", "type": "noop", "fallback_for": "p", "config": {"output": {"done": True}}},
    ]
    detail = run_to_end(org, container("loop", *body, until="steps['p'].output.done", max_iterations=3))
    assert (detail.run.status, by_key(detail)["after"].step_run.output["total"]) == ("completed", 1)


def test_a_while_that_reads_its_own_steps_says_so(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "poll", "type": "noop", "config": {"output": {"status": "${ index >= 2 ? 'done' : 'busy' }"}}}
    detail = run_to_end(org, container("loop", body, **{"while": "steps['poll'].output.status != 'done'"}))
    assert detail.run.status == "failed"
    guarded = {"while": "index == 0 || steps['poll'].output.status != 'done'"}
    detail = run_to_end(org, container("loop", body, **guarded))
    assert by_key(detail)["after"].step_run.output["total"] == 3


def test_max_failures_of_a_batch_counts_elements(org: Organization, workers: WorkerPool) -> None:
    body = {"id": "bad", "type": "raises", "if": "index == 0", "config": {"how": "final"}}
    for allowed, status in ((4, "failed"), (5, "completed")):
        steps = container("batch", body, items=list(range(10)), size=5, max_failures=allowed)
        assert run_to_end(org, steps).run.status == status


def test_a_resume_runs_a_container_again_that_was_undone(org: Organization, workers: WorkerPool) -> None:
    """What was refunded has to be charged again."""
    steps = [
        {
            "id": "all",
            "type": "map",
            "on_failure": "refund",
            "config": {"items": [1, 2, 3]},
            "steps": [{"id": "charge", "type": "probe_async", "config": {"label": "charge"}}],
        },
        {"id": "refund", "type": "noop"},
        {"id": "bad", "type": "raises", "needs": ["all"], "config": {"how": "final"}},
    ]
    run = run_to_end(org, steps).run
    again = await_end(org, repair.replay(org, run.id, by="me", mode="resume").run_id or run.id).run
    assert [span.label for span in probes.spans({str(again.id)})].count("charge") == 3


def test_items_that_read_an_edited_input_run_again(org: Organization, workers: WorkerPool) -> None:
    body = {
        "id": "x",
        "type": "raises",
        "retry": {"attempts": 1},
        "config": {"how": "${ item == 3 ? input.how : 'fine' }"},
    }
    slug = publish(org, container("map", body, items=[1, 2, 3], parallelism=1))
    run = await_end(org, services.trigger(org, slug, {"how": "final"}).run_ids[0]).run
    again = await_end(
        org, repair.replay(org, run.id, by="me", mode="resume", new_input={"how": "fine"}).run_id or run.id
    ).run
    assert (again.status, len(probes.spans({str(again.id)}))) == ("completed", 3)


def _begin(org: Organization, items: int, **options: Any) -> tuple[UUID, list[Claim]]:
    steps = [{"id": "all", "type": "map", "config": {"items": []}, "steps": [{"id": "x", "type": "noop"}]}]
    run_id = start(org, steps)
    outcome = FanOut(items=list(range(items)), parallelism=items, options=options)
    record(claim(run_id, "all"), outcome)
    return run_id, inner_claims(run_id, "x")


def test_the_outputs_in_a_container_have_a_bound(org: Organization, published: list[Any]) -> None:
    run_id, claims = _begin(org, 3_000, collect=False)
    for first in range(0, 3_000, 250):  # what can't be compressed: the size as it is stored counts
        text = [f'"{"".join(uuid.uuid4().hex for _ in range(490))}"' for _ in range(250)]
        group = claims[first : first + 250]
        recording.record(
            [StepResult(claim=each, outcome=Completed(), output=out) for each, out in zip(group, text, strict=True)]
        )
    run = Run.objects.get(id=run_id)
    assert run.status == "failed"
    assert "bytes together" in (run.error or {})["message"]


def test_results_that_are_too_large_fail_their_container_and_no_other(
    org: Organization, other: Organization, published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (large, claims), (small, others) = _begin(org, 300, collect=True), _begin(other, 1, collect=True)
    with monkeypatch.context() as dying:
        dying.setattr(fan_out, "conclude", lambda _: ([], []))
        text = f'"{"x" * 15_900}"'
        recording.record([StepResult(claim=each, outcome=Completed(), output=text) for each in claims])
        recording.record([StepResult(claim=each, outcome=Completed(), output="1") for each in others])
    monkeypatch.setattr("workflows.engine.waits.waits.GRACE_S", 0.0)
    resolve.rescue()
    assert "collect: false" in (Run.objects.get(id=large).error or {})["message"]
    assert StepRun.objects.get(run_id=small, key="all").output["results"] == [1]
    assert (
        scalar(
            "SELECT count(*) FROM headrace_workflows_fanout WHERE NOT concluded AND run_id IN (%s, %s)", large, small
        )
        == 0
    )


def test_a_timer_that_looks_for_due_waits_reads_no_others() -> None:
    from workflows.engine.state import database

    for name in (
        "expire_waits",
        "wake_steps",
        "due_runs",
        "waits_to_look_back",
        "left_over_waits",
        "left_over_fan_outs",
    ):
        assert "<= clock_timestamp()" not in database.statement(name)
        assert "< clock_timestamp()" not in database.statement(name)


def test_a_retry_of_a_step_in_an_ended_item_is_not_waited_for(org: Organization, published: list[Any]) -> None:
    body: list[dict[str, Any]] = [{"id": key, "type": "noop", "needs": []} for key in ("a", "b")]
    run_id = start(
        org, [{"id": "all", "type": "map", "config": {"items": [0], "on_failure": "continue"}, "steps": body}]
    )
    record(claim(run_id, "all"), FanOut(items=[0], max_failures=None))
    (first,), (second,) = inner_claims(run_id, "a"), inner_claims(run_id, "b")
    end(first, error=NO)
    assert Run.objects.get(id=run_id).is_live
    record(second, WaitFor(kind="event", event_name="x/y", timeout_s=7 * 86_400))
    assert Run.objects.get(id=run_id).status == "completed"


# --- what a resume takes over within an item ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "config", "when"),
    [
        ("group", {}, "true"),
        ("map", {"items": [1, 2], "parallelism": 1}, "index == 1"),
        ("batch", {"items": [1, 2], "size": 1}, "index == 1"),
        ("loop", {"until": "index == 4", "max_iterations": 4}, "index == 2"),
    ],
)
def test_a_resume_runs_no_step_again_that_was_done_in_an_item(
    type_: str, config: dict[str, Any], when: str, org: Organization, workers: WorkerPool
) -> None:
    """charge → ship, where shipping fails again and again: the card is not charged twice."""
    charge = {"id": "charge", "type": "probe_async", "config": {"label": "charge"}}
    ship = {"id": "ship", "type": "raises", "if": when, "config": {"how": "final"}}
    after = {"id": "tell", "type": "noop", "needs": ["charge", "ship"], "config": {"output": "told"}}
    slug = publish(org, container(type_, charge, ship, after, **config))
    run = await_end(org, services.trigger(org, slug).run_ids[0]).run
    assert run.status == "failed"
    again = await_end(org, repair.replay(org, run.id, by="me", mode="resume").run_id or run.id).run
    assert [span.label for span in probes.spans({str(again.id)})].count("charge") == 0


def test_a_resume_goes_on_within_an_item(org: Organization, published: list[Any]) -> None:
    """By hand: of a, b, c in a row b fails; the resumed run has a, runs b, then c."""
    body = [{"id": key, "type": "noop", "config": {"output": f"${{ item }}{key}"}} for key in ("a", "b", "c")]
    items = {"items": [0, 1], "parallelism": 2}
    run_id = start(org, [{"id": "all", "type": "map", "config": items, "steps": body}])
    record(claim(run_id, "all"), FanOut(items=[0, 1], parallelism=2))
    first, second = inner_claims(run_id, "a")
    record(first, Completed(), '"0a"')
    record(second, Completed(), '"1a"')
    first, second = inner_claims(run_id, "b")
    record(second, Completed(), '"1b"')
    record(*_last(run_id, "c"), '"1c"')
    record(first, Failed(error=NO))
    assert Run.objects.get(id=run_id).status == "failed"
    again = repair.replay(org, run_id, by="me", mode="resume").run_id
    assert again is not None
    record(claim(again, "all"), FanOut(items=[0, 1], parallelism=2))
    rows = StepRun.objects.filter(run_id=again).exclude(path="").order_by("path", "position")
    assert [(row.path, row.key, row.status, row.output, row.memoized_from is None) for row in rows] == [
        ("all[0]", "a", "completed", "0a", False), ("all[0]", "b", "ready", None, True),
        ("all[0]", "c", "pending", None, True),
        ("all[1]", "a", "completed", "1a", False), ("all[1]", "b", "completed", "1b", False),
        ("all[1]", "c", "completed", "1c", False),
    ]  # fmt: skip
    record(*_last(again, "b"), '"0b"')
    record(*_last(again, "c"), '"0c"')
    output = StepRun.objects.get(run_id=again, key="all").output
    assert (output["results"], Run.objects.get(id=again).status) == (["0c", "1c"], "completed")


def _last(run_id: UUID, key: str) -> tuple[Claim, Outcome]:
    return inner_claims(run_id, key)[-1], Completed()


def test_a_resume_keeps_the_halves_of_a_batch(org: Organization, published: list[Any]) -> None:
    from workflows.engine.pipeline.retry_decision import describe

    steps = [
        {"id": "all", "type": "batch", "config": {"items": [1, 2], "size": 2}, "steps": [{"id": "x", "type": "noop"}]}
    ]
    run_id = start(org, steps)
    whole = FanOut(items=[[1, 2]], sizes=[2])
    record(claim(run_id, "all"), whole)
    record(inner_claims(run_id, "x")[0], Failed(error=describe(MemoryError("full"))))
    record(inner_claims(run_id, "x")[0], Completed(), "1")
    record(inner_claims(run_id, "x")[0], Failed(error=NO))
    again = repair.replay(org, run_id, by="me", mode="resume").run_id
    assert again is not None
    record(claim(again, "all"), whole)
    (half,) = inner_claims(again, "x")
    record(half, Completed(), "2")
    output = StepRun.objects.get(run_id=again, key="all").output
    assert (output["total"], output["successful"], output["results"]) == (2, 2, [1, 2])


def test_a_resume_of_a_loop_keeps_its_rounds(org: Organization, published: list[Any]) -> None:
    body = {"id": "next", "type": "noop"}
    run_id = start(org, [{"id": "all", "type": "loop", "config": {"until": "index == 4"}, "steps": [body]}])
    options = {"while": None, "until": "index == 4", "max_iterations": 9, "on_limit": "fail", "collect": True}
    record(claim(run_id, "all"), FanOut(items=[None], options=options))
    record(*_last(run_id, "next"), "10")
    record(*_last(run_id, "next"), "11")
    record(inner_claims(run_id, "next")[0], Failed(error=NO))
    again = repair.replay(org, run_id, by="me", mode="resume").run_id
    assert again is not None
    record(claim(again, "all"), FanOut(items=[None], options=options))
    record(*_last(again, "next"), "12")
    record(*_last(again, "next"), "13")
    assert StepRun.objects.get(run_id=again, key="all").output["results"] == [10, 11, 12, 13]
