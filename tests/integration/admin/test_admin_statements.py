"""The lists of the admin read with the same number of statements, however many rows they show."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django_celery_beat.models import SolarSchedule

from tests.integration.admin.world import LABELS, MODELS, NOOP, ROWS, World, address_of
from tests.support.admin_site import staff
from tests.support.pages.statements import counted, repeated
from tests.support.workers import publish
from workflows import services
from workflows.admin import scoped
from workflows.models import (
    Flow,
    FlowVersion,
    Organization,
    RetentionRule,
    RetentionState,
    Run,
    Step,
    StepRun,
    Trigger,
)
from workflows.services.access import redacting
from workflows.services.retention import rules

FEW, MANY = 2, 8
ALONE = {SolarSchedule, RetentionState}
"""Models of which the world makes one row."""


def another_flow(world: World) -> str:
    return publish(world.org, NOOP, slug=f"more-{uuid.uuid4().hex[:8]}", on={"cron": "5 5 * * *"})


def another_run(world: World) -> None:
    services.trigger(world.org, another_flow(world), delay="1h")


def another_organization(_: World) -> Organization:
    return Organization.objects.create(slug=f"more-{uuid.uuid4().hex[:8]}", name="More")


def another_rule(world: World) -> None:
    rules.set_rule(another_organization(world), "failed", 50, by="me")


OTHERS: dict[type[Model], Callable[[World], Any]] = {
    **dict.fromkeys((Flow, FlowVersion, Step, Trigger), another_flow),
    **dict.fromkeys((Run, StepRun), another_run),
    RetentionRule: another_rule,
    Organization: another_organization,
}
"""How there come to be more rows of a model of which ROWS has always the same one."""


@pytest.fixture(autouse=True)
def more_organizations(world: World) -> Iterator[None]:
    """Those that tests make go afterwards. One has rules of redaction: what is shown is read for then."""
    ruled = another_organization(world)
    redacting.set_rules(ruled, ["input.secret"])
    yield
    redacting.set_rules(ruled, [])
    Organization.objects.filter(slug__startswith="more-").delete()


def statements(client: Client, model: type[Model]) -> tuple[int, Counter[str]]:
    """How many rows the list shows, and the statements that it took."""
    with counted() as found:
        answer = client.get(address_of(model))
    assert answer.status_code == 200
    return len(answer.context["cl"].result_list), found


@pytest.mark.parametrize("model", MODELS, ids=LABELS)
def test_a_list_takes_as_many_statements_for_many_rows_as_for_few(model: type[Model], world: World) -> None:
    boss = staff(superuser=True)
    make = OTHERS.get(model, ROWS[model])
    for _ in range(FEW):
        make(world)
    statements(boss, model)
    before, few = statements(boss, model)
    for _ in range(MANY - FEW):
        make(world)
    after, many = statements(boss, model)
    is_full = before >= MANY  # of rows that other tests have left
    assert after > before or is_full or model in ALONE, "a maker of other rows belongs in OTHERS"
    assert repeated(few, many) == []
    assert [sql for sql, times in many.items() if times >= MANY] == []


def test_filters_and_lists_of_forms_offer_so_many_and_take_any(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    boss = staff(superuser=True)
    names = [another_organization(world).slug for _ in range(3)]
    monkeypatch.setattr(scoped, "MOST_CHOICES", 2)
    listing = boss.get(address_of(Flow)).content.decode()
    assert "(the first 2)" in listing
    add = boss.get(f"{address_of(RetentionRule)}add/").content.decode()
    assert '<input type="text" name="organization"' in add, "its id is written, or looked up"
    sent = {"organization": str(Organization.objects.get(slug=names[-1]).pk), "subject": "failed", "days": "9"}
    assert boss.post(f"{address_of(RetentionRule)}add/", sent).status_code == 302
    assert RetentionRule.objects.get(organization__slug=names[-1]).days == 9
