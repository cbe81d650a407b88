"""Groups of plain requests: a bad one among good ones."""

from __future__ import annotations

from typing import Any

from tests.support.workers import nobody_dispatches, publish
from workflows.engine.intake import plain_runs
from workflows.models import AccessKey, Organization, Run


def wanted(org: Organization, key: str, *texts: str) -> tuple[plain_runs.Wanted, list[Any]]:
    settled: list[Any] = []
    made = plain_runs.Wanted(
        digest=AccessKey.digest_of(key), slug="flow", inputs=[{}] * len(texts), texts=texts,
        user_ids=[""] * len(texts), tags=[()] * len(texts), settle=settled.append,
    )  # fmt: skip
    return made, settled


def test_a_bad_neighbour_in_a_group_harms_nobody(org: Organization, api_key: str) -> None:
    """One whose text Postgres refuses, one whose key is unknown, and good ones around them."""
    publish(org, [{"id": "a", "type": "noop"}])
    good, bad, unknown = '{"n": 1}', "{", '{"n": 2}'
    items = [wanted(org, api_key, good, good) for _ in range(5)]
    items.insert(2, wanted(org, api_key, good, bad))
    items.insert(4, wanted(org, "hr_api_unknown", unknown))
    with nobody_dispatches():
        plain_runs.write([item for item, _ in items])
    outcomes = [outcome for _, (outcome,) in items]
    assert [outcome is None for outcome in outcomes] == [False, False, True, False, True, False, False]
    stored = {id_ for outcome in outcomes if outcome for id_ in outcome}
    assert stored == set(Run.objects.filter(org_id=org.id).values_list("id", flat=True))
    assert len(stored) == 10
