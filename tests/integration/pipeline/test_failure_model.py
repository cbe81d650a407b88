"""Random flows with random failures on real workers, against a model that is simple enough to be believed.

What a flow without a fatal failure does is known exactly. Of one that fails, or is cancelled, the invariants are checked:
it ends, nothing of it stays open, every failure for good is one dead letter, what had begun is undone and nothing else.
Then it is resumed without failures: what counted is taken over, and the rest becomes what the model says.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from dlq.models import DeadLetter
from tests.support.workers import await_end, by_key, publish, statuses
from workflows import services
from workflows.models import Attempt, Organization, StepRun
from workflows.selectors.runs import RunDetail
from workflows.services import repair

pytestmark = pytest.mark.usefixtures("workers")
FLOWS = int(os.environ.get("HEADRACE_FAILURE_MODEL_FLOWS", "60"))


@dataclass
class Drawn:
    """A flow as drawn: its steps, in order, and what the model needs of them."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    needs: dict[str, list[str]] = field(default_factory=dict)
    fallback: dict[str, str] = field(default_factory=dict)
    primary: dict[str, str] = field(default_factory=dict)
    critical: dict[str, bool] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    compensations: dict[str, str] = field(default_factory=dict)

    def fatal(self, key: str) -> bool:
        return self.critical[key] and key not in self.fallback


def step(key: str, **more: Any) -> dict[str, Any]:
    how = f"${{ '{key}' in input.fail ? 'final' : 'fine' }}"
    return {"id": key, "type": "raises", "config": {"how": how}, **more}


def draw(chance: random.Random) -> Drawn:
    drawn = Drawn()
    names: list[str] = []
    for number in range(chance.randint(2, 7)):
        key = f"s{number}"
        needs = chance.sample(names, chance.randint(0, min(len(names), 3)))
        critical = chance.random() < 0.6
        more: dict[str, Any] = {"needs": needs} if critical else {"needs": needs, "critical": False}
        if chance.random() < 0.15:
            more["if"] = "false"
            drawn.skipped.add(key)
        drawn.needs[key], drawn.critical[key] = needs, critical
        if chance.random() < 0.3:
            drawn.compensations[key] = more["on_failure"] = f"u{number}"
            more["on_cancel"] = f"u{number}"
        drawn.steps.append(step(key, **more))
        names.append(key)
        if chance.random() < 0.35:
            other = f"f{number}"
            drawn.fallback[key], drawn.primary[other], drawn.critical[other] = other, key, critical
            drawn.steps.append(step(other, fallback_for=key))
    drawn.steps += [step(undo) for undo in drawn.compensations.values()]
    return drawn


def expected(drawn: Drawn, fail: set[str]) -> dict[str, str]:
    """What becomes of each step where none is cancelled."""
    found: dict[str, str] = {}
    for each in drawn.steps:
        key = each["id"]
        if key in drawn.compensations.values():
            continue
        if key in drawn.primary:
            tried = found[drawn.primary[key]] == "failed"
        else:
            after = [drawn.fallback.get(need, need) if found[need] == "failed" else need for need in drawn.needs[key]]
            tried = (not after or any(found[need] != "skipped" for need in after)) and key not in drawn.skipped
        found[key] = ("failed" if key in fail else "completed") if tried else "skipped"
    return found


def check(org: Organization, drawn: Drawn, detail: RunDetail, fail: set[str], model: dict[str, str]) -> None:
    got = statuses(detail)
    own = {key: status for key, status in got.items() if key not in drawn.compensations.values()}
    failed = {key for key, status in own.items() if status == "failed"}
    fatal = any(drawn.fatal(key) for key in failed)
    assert set(got.values()) <= {"completed", "failed", "skipped", "cancelled"}
    assert detail.run.status == ("failed" if fatal else "completed")
    if fatal:
        assert all(status in {model[key], "cancelled"} for key, status in own.items())
    else:
        assert own == model
        assert detail.run.sinks_left == 0
    begun = {key for key in own if by_key(detail)[key].attempts or by_key(detail)[key].step_run.memoized_from}
    begun -= {key for key, status in own.items() if status == "skipped"}
    due = begun if fatal else failed
    assert {key for key in got if key in drawn.compensations.values()} == {
        drawn.compensations[key] for key in due if key in drawn.compensations
    }
    letters = list(DeadLetter.objects.filter(run_id=detail.run.id).values_list("step_key", flat=True))
    buried = {key for key in failed if key not in drawn.fallback}
    buried |= {key for key, status in got.items() if status == "failed" and key in drawn.compensations.values()}
    assert sorted(letters) == sorted(buried)


@pytest.mark.timeout(300)
def test_random_flows_fail_as_the_model_says_and_resume(org: Organization) -> None:
    seed = int(os.environ.get("HEADRACE_FAILURE_MODEL_SEED", "0")) or random.randrange(10**9)
    chance = random.Random(seed)
    print(f"HEADRACE_FAILURE_MODEL_SEED={seed}")  # noqa: T201 (to draw the same again)
    for number in range(FLOWS):
        drawn = draw(chance)
        everything = [each["id"] for each in drawn.steps]
        fail = {key for key in everything if chance.random() < 0.25}
        slug = publish(org, drawn.steps, slug=f"f{number}")
        (run_id,) = services.trigger(org, slug, {"fail": sorted(fail)}).run_ids
        model = expected(drawn, fail)
        if chance.random() < 0.2:
            services.cancel_run(org, run_id)
            detail = await_end(org, run_id)
            assert detail.run.status in {"cancelled", "failed", "completed"}
            assert not StepRun.objects.filter(
                run_id=run_id, status__in=["pending", "ready", "running", "waiting"]
            ).exists()
        else:
            detail = await_end(org, run_id)
            check(org, drawn, detail, fail, model)
        if detail.run.status == "completed":
            continue
        repeat = repair.replay(org, run_id, by="me", mode="resume", new_input={"fail": []})
        assert repeat.run_id is not None
        second = await_end(org, repeat.run_id)
        assert second.run.status == "completed"
        before = statuses(detail)
        undone = {key for key, undo in drawn.compensations.items() if undo in before}
        for key, found in by_key(second).items():
            if found.step_run.memoized_from is None:
                continue
            assert found.step_run.status == before[key] in {"completed", "skipped", "failed"}
            assert key not in undone
            assert not Attempt.objects.filter(step_run_id=found.step_run.id).exists()
        ran = {
            key: found.step_run.status for key, found in by_key(second).items() if found.step_run.memoized_from is None
        }
        fresh = expected(drawn, {key for key, found in by_key(second).items() if found.step_run.status == "failed"})
        assert all(fresh[key] == status for key, status in ran.items()), (ran, fresh)
