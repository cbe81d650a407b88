"""What redaction knows of rows: of their own organization alone, within bounds, and what is beyond them is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.workers import publish
from workflows import services, this_process
from workflows.edge import redaction
from workflows.edge.redaction import MASK, AnyRules
from workflows.models import Organization, Run, StepRun
from workflows.presenters import redaction as masking
from workflows.services.access import hidden, redacting

CARD = "4111-1111-2222-9876"


@pytest.fixture
def ruled(org: Organization, other: Organization) -> Iterator[Organization]:
    """An organization with rules, beside another one with rules."""
    for each in (org, other):
        redacting.set_rules(each, ["card", "name"])
    this_process.forget(AnyRules)
    yield org
    for each in (org, other):
        redacting.set_rules(each, [])
    this_process.forget(AnyRules)


def run_of(org: Organization, given: Any, output: Any = None) -> Run:
    """A run that waits, with this input; its step has this output."""
    slug = publish(org, [{"id": "a", "type": "noop"}])
    run = Run.objects.get(id=services.trigger(org, slug, given, delay="1h").run_ids[0])
    StepRun.objects.filter(run_id=run.id).update(output=output)
    return run


def test_values_of_another_organization_mask_nothing(ruled: Organization, other: Organization) -> None:
    theirs = run_of(other, {"card": CARD})
    shown = [{"id": str(theirs.id), "message": f"is it {CARD}?"}]
    assert masking.answer(ruled.id, shown) == shown
    assert masking.answer(other.id, shown)[0]["message"] == f"is it {MASK}?"
    page = f'<a href="/runs/{theirs.id}/">it</a> <p>is it {CARD}?</p>'
    assert masking.page(page, of={ruled.id}) == page
    assert CARD not in masking.page(page, of={other.id})
    assert CARD not in masking.page(page)


def test_ids_within_payloads_and_texts_are_no_rows(ruled: Organization) -> None:
    run = run_of(ruled, {"card": CARD})
    shown = {"data": {"id": str(run.id)}, "message": f"{run.id} {CARD}"}
    assert masking.answer(ruled.id, shown) == shown
    assert masking.page(f"<p>{run.id} {CARD}</p>") == f"<p>{run.id} {CARD}</p>"


def test_a_rule_for_a_name_of_ours_masks_no_other_texts(ruled: Organization) -> None:
    shown = {
        "error": {"name": "ValueError", "message": "a ValueError"},
        "input": {"name": "Ada Lovelace"},
        "note": "Ada Lovelace",
    }
    assert masking.answer(ruled.id, shown) == {
        "error": {"name": "ValueError", "message": "a ValueError"}, "input": {"name": MASK}, "note": MASK,
    }  # fmt: skip


def test_the_outputs_of_steps_are_known_in_a_long_list_too(ruled: Organization) -> None:
    runs = [run_of(ruled, {}, {"card": f"{CARD}-{number}"}) for number in range(8)]
    rows = [{"id": str(run.id), "message": f"no {CARD}-{number} here"} for number, run in enumerate(runs)]
    assert {row["message"] for row in masking.answer(ruled.id, rows)} == {f"no {MASK} here"}


@pytest.mark.parametrize("bound", ["MOST_IDS", "MOST_RUNS", "MOST_STEPS", "MOST_BYTES", "MOST_KNOWN", "MOST_VALUES"])
def test_texts_of_rows_beyond_a_bound_are_not_shown(
    ruled: Organization, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    run = run_of(ruled, {"card": CARD}, {"card": f"{CARD}-of-step", "plain": 1})
    monkeypatch.setattr(redaction, bound, 1 if bound == "MOST_VALUES" else 0)
    row = {"id": str(run.id), "status": "failed", "createdAt": "2026-01-01T00:00:00Z", "attempts": 2,
           "message": f"no {CARD}-of-step", "input": {"plain": f"is {CARD}"}}  # fmt: skip
    shown = masking.answer(ruled.id, [row, {"message": "of no run"}])
    assert shown == [{**row, "message": MASK, "input": {"plain": MASK}}, {"message": "of no run"}]
    page = f'<p>kept</p><tr><td><a href="/runs/{run.id}/">{run.id}</a></td><td>no {CARD}-of-step</td></tr>'
    assert CARD not in masking.page(page, of={ruled.id})
    assert "<p>kept</p>" in masking.page(page, of={ruled.id})
    assert str(run.id) in masking.page(page, of={ruled.id})
    assert "kept" not in masking.page(page, [run.id], {ruled.id})
    assert CARD not in masking.page(f'{{"id": "{run.id}", "text": "{CARD}-of-step"}}')
    assert masking.text(f"no {CARD}-of-step", [run.id]) == MASK
    given = {"plain": f"is {CARD}-of-step"}
    form = hidden.editable(ruled.id, given, "input", [run.id])
    assert form == {"plain": MASK}
    assert hidden.restored(ruled.id, form, given, name="input", ids=[run.id]) == given
