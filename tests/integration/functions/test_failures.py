"""Flows in Python: transactions, caught failures, forks, resumes, and what is refused."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any

import pytest

from dlq import services as dead_letters
from dlq.models import DeadLetter
from tests.integration.functions.test_code_flows import journal, run
from tests.support import peer as peers
from tests.support.python_flows import basic, more
from tests.support.python_flows.basic import told
from tests.support.workers import await_end
from workflows import services
from workflows.models import Organization, Secret
from workflows.services import repair

pytestmark = pytest.mark.usefixtures("workers")


def test_a_write_and_the_record_of_its_step_are_one_transaction(org: Organization, tmp_path: Path) -> None:
    slug = f"a-{uuid.uuid4().hex[:12]}"
    detail = run(org, more.atomic, {"slug": slug, "dir": str(tmp_path), "fail": 2})
    assert detail.run.output == 2, detail.run.error
    assert told(tmp_path, f"{slug}-2") == 3
    assert Organization.objects.filter(slug=f"{slug}-2").count() == 1
    assert journal(detail.run.id) == [("one", "completed", 1), ("two", "completed", 3)]


@pytest.mark.parametrize(
    ("flow", "said"), [(more.within_atomic, "within atomic()"), (more.nested, "within another one")]
)
def test_a_step_in_the_wrong_place_is_refused_with_the_reason(org: Organization, flow: Any, said: str) -> None:
    detail = run(org, flow)
    assert detail.run.status == "failed"
    assert said in detail.run.error["message"]


def test_a_handled_failure_is_for_nobody_to_repair_and_its_replay_forks(org: Organization, tmp_path: Path) -> None:
    detail = run(org, more.caught, {"dir": str(tmp_path)})
    assert detail.run.output == "done", detail.run.error
    letter = DeadLetter.objects.get(run_id=detail.run.id)
    assert (letter.step_key, letter.status) == ("shaky", "handled")
    fork = dead_letters.replay(org, letter.id, by="test")
    assert fork.run_id is not None
    again = await_end(org, fork.run_id)
    assert again.run.origin_kind == "fork"
    assert [told(tmp_path, what) for what in ("first", "instead", "last")] == [1, 2, 2]


def test_a_resume_keeps_what_was_done_and_what_was_handled(org: Organization, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    detail = run(org, more.caught, {"dir": str(tmp_path)})
    assert detail.run.status == "failed"
    (tmp_path / "broken").unlink()
    resumed = repair.replay(org, detail.run.id, by="test", mode="resume")
    assert resumed.run_id is not None
    again = await_end(org, resumed.run_id)
    assert again.run.output == "done", again.run.error
    assert [told(tmp_path, what) for what in ("first", "instead", "last")] == [1, 1, 1]
    assert [key for key, _, _ in journal(resumed.run_id)] == ["first", "shaky", "instead", "last"]


def test_a_fork_from_a_step_runs_that_and_all_after_it(org: Organization) -> None:
    detail = run(org, basic.chain)
    forked = repair.fork_run(org, detail.run.id, ["add-3"])
    assert forked.run_id is not None
    again = await_end(org, forked.run_id)
    assert again.run.output["total"] == 15
    taken = {each.step_run.key: each.step_run.memoized_from is not None for each in again.steps}
    assert [taken[f"add-{number}"] for number in range(5)] == [True, True, True, False, False]


def test_limits_hold_for_the_steps_and_not_for_the_function(org: Organization) -> None:
    detail = run(org, more.limited)
    assert detail.run.status == "completed", detail.run.error
    changes = [(began, 1) for began, _ in detail.run.output] + [(ended, -1) for _, ended in detail.run.output]
    assert max(itertools.accumulate(change for _, change in sorted(changes))) == 2


def test_limits_hold_for_steps_that_visits_perform_themselves(org: Organization) -> None:
    """Twelve runs at once; each step takes its permit while the one before is recorded, or waits for its turn."""
    services.apply_definition(org, more.in_a_row.spec())
    run_ids = services.trigger_many(org, "code-in-a-row", [{}] * 12).run_ids
    spans = [span for run_id in run_ids for span in await_end(org, run_id, 60).run.output]
    changes = [(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans]
    assert len(spans) == 36
    assert max(itertools.accumulate(change for _, change in sorted(changes))) == 2


def test_requests_and_secrets(org: Organization) -> None:
    secret = Secret(organization=org, name="TOKEN")
    secret.value = "very-secret-token"
    secret.save()
    with peers.serve() as peer:
        detail = run(org, more.fetch, {"url": peer.url("/echo")})
        assert detail.run.status == "completed", detail.run.error
        assert detail.run.output == {"status": 200, "both": [200, 200], "said": "the token is ***"}
        assert peer.asked[0].headers["x-token"] == "very-secret-token"
        kept = str([(each.step_run.output, [a.input for a in each.attempts]) for each in detail.steps])
        assert "very-secret-token" not in kept
        assert run(org, more.async_fetch, {"url": peer.url("/echo")}).run.output == 200
