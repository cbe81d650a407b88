"""The addresses of a run's page: what they take, for whom, and what a poll of a live page costs."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.support.admin_site import staff
from tests.support.by_hand import claim, start
from tests.support.workers import leave_nothing
from workflows.engine.pipeline.record import record
from workflows.engine.state.records import StepResult
from workflows.models import Organization, StepRun
from workflows.models.run import first_id
from workflows.steps.outcome import Completed

STEPS = [{"id": "a", "type": "noop"}, {"id": "b", "type": "delay", "config": {"for": "1h"}}]
NONSENSE = ["9" * 5_000, "-1", "²", "1.5", "all'", "💩", "%00", "0x1"]


@pytest.fixture
def run_id(org: Organization, published: list[Any]) -> Iterator[uuid.UUID]:
    made = start(org, STEPS)
    output = json.dumps({"x": "y" * 50_000})
    record([StepResult(claim=claim(made, "a"), outcome=Completed(output=json.loads(output)), output=output)])
    yield made
    leave_nothing(org)


@pytest.fixture
def reader(org: Organization) -> Client:
    client = staff(superuser=True)
    assert client.get(f"/?org={org.slug}").status_code == 200  # the session keeps the organization
    return client


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("name", ["line", "part"])
def test_nonsense_names_no_part(reader: Client, run_id: uuid.UUID, name: str, text: str) -> None:
    answer = reader.get(f"/runs/{run_id}/parts/?{name}={text}")
    assert answer.status_code in {200, 422}
    if answer.status_code == 200:
        assert (answer.json()["parts"], answer.json()["lines"]) == ({}, [])


@pytest.mark.parametrize("path", ["steps/none/", "steps/%00/", "steps/none/output.json", "steps/a/secret.json",
                                  "secret.json", "steps/💩/", "steps/a%0Ab/input.json"])  # fmt: skip
def test_what_is_not_there_is_not_found(reader: Client, run_id: uuid.UUID, path: str) -> None:
    assert reader.get(f"/runs/{run_id}/{path}").status_code in {404, 422}


def id_of(at: dt.datetime) -> uuid.UUID:
    """A uuid7 of a moment."""
    return uuid.UUID(int=first_id(at.timestamp()).int | 7 << 76 | 2 << 62)


def test_a_link_to_a_run_or_event_that_is_deleted_says_so(reader: Client) -> None:
    made_at = timezone.now() - dt.timedelta(days=40)
    old, fresh = (id_of(at) for at in (made_at, timezone.now() - dt.timedelta(days=1)))
    for path in (f"/runs/{old}/", f"/runs/{old}/steps/a/", f"/events/{old}/"):
        answer = reader.get(path)
        assert answer.status_code == 404, path
        said = answer.content.decode()
        assert f"made on {made_at:%Y-%m-%d}" in said, path
        assert "are kept for 30 days here" in said
    for id_ in (fresh, uuid.uuid4()):
        said = reader.get(f"/runs/{id_}/").content.decode()
        assert "There is no such run in this organization." in said
        assert "made on" not in said


def test_another_organization_sees_nothing_of_it(run_id: uuid.UUID, other: Organization) -> None:
    stranger = staff(superuser=True)
    stranger.get(f"/?org={other.slug}")
    for path in (
        "",
        "state/",
        "parts/?line=all",
        "steps/a/",
        "steps/a/output.json",
        "input/",
        "output/",
        "output.json",
    ):
        assert stranger.get(f"/runs/{run_id}/{path}").status_code == 404, path


def test_a_poll_reads_no_body_and_says_when_nothing_has_changed(reader: Client, run_id: uuid.UUID) -> None:
    with CaptureQueriesContext(connection) as queries:
        first = reader.get(f"/runs/{run_id}/state/")
    columns = [query["sql"].partition(" FROM ")[0] for query in queries]
    assert not [each for each in columns if '"output"' in each or '"input"' in each or '"logs"' in each]
    assert len(first.content) < 1_000
    assert first.json()["endMs"] is None
    same = reader.get(f"/runs/{run_id}/state/", headers={"If-None-Match": first["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    StepRun.objects.filter(run_id=run_id, key="b").update(progress={"percent": 5, "message": "x", "at": ""})
    changed = reader.get(f"/runs/{run_id}/state/", headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    differing = [one != two for one, two in zip(first.json()["lines"], changed.json()["lines"], strict=True)]
    assert differing == [False, True]
    (line,) = reader.get(f"/runs/{run_id}/parts/?line=1").json()["lines"]
    assert (line["key"], line["hash"], "5 %" in line["summary"]) == ("b", changed.json()["lines"][1], True)


def test_a_body_is_shown_in_part_and_downloaded_whole(reader: Client, run_id: uuid.UUID) -> None:
    assert "y" * 50_000 in reader.get(f"/runs/{run_id}/steps/a/").content.decode()
    answer = reader.get(f"/runs/{run_id}/steps/a/output.json")
    assert answer["Content-Disposition"] == f'attachment; filename="{run_id}-a-output.json"'
    assert json.loads(answer.content) == {"x": "y" * 50_000}
    assert reader.get(f"/runs/{run_id}/output/").content.decode().count("null") == 1
