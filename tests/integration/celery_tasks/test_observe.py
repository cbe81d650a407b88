"""Observe-only mode: the tasks of an application that is not touched. Its workers and its producer are real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.test import Client

from dlq.alerting import metrics
from dlq.models import AlertRule
from tests.support.shop.workers import Shop
from tests.support.workers import await_that
from workflows import this_process
from workflows.engine.observe import buffer as buffers
from workflows.engine.observe.buffer import Buffer, Seen
from workflows.engine.observe.lost import Search
from workflows.engine.observe.signals import _on_ended, _on_sending, _on_sent, _on_started
from workflows.engine.observe.writer import Observer
from workflows.engine.sql import observed as sql
from workflows.models import ObservationLoss, ObservedTask, Organization
from workflows.selectors.observed import observed_counts

ON = {"SHOP_WITH_HEADRACE": "1", "HEADRACE_OBSERVE": "1"}


@pytest.fixture(autouse=True)
def nothing_observed(live_db: None) -> Iterator[None]:
    """Only for these tests: what others have stored is there again after each."""
    of_others = list(ObservedTask.objects.all())
    ObservedTask.objects.all().delete()
    ObservationLoss.objects.all().delete()
    yield
    ObservedTask.objects.all().delete()
    ObservedTask.objects.bulk_create(of_others)


def produce(shop: Shop, code: str, **more: str) -> None:
    """Send tasks from a process of the application."""
    setup = "import django; django.setup(set_prefix=False)\nfrom tests.support.shop import *\nfrom celery import chain, chord, group\n"
    environment = {**shop.everything, "DJANGO_SETTINGS_MODULE": "config.settings", **ON, **more}
    subprocess.run([sys.executable, "-c", setup + code], env=environment, check=True, timeout=60)


def await_ended(count: int, **where: Any) -> None:
    """Wait until so many tasks have ended."""

    def states() -> list[tuple[str, str]]:
        return list(ObservedTask.objects.filter(**where).values_list("name", "state"))

    try:
        await_that(lambda: ObservedTask.objects.filter(**where).exclude(ended_at=None).count() == count, 60, "ends")
    except AssertionError as error:
        raise AssertionError(f"{error}: {states()}") from None


def rows(**where: Any) -> dict[str, ObservedTask]:
    return {row.name: row for row in ObservedTask.objects.filter(**where)}


def test_plain_tasks_appear_with_their_history(org: Organization, shop: Shop) -> None:
    """Nothing of the application is edited; what fails, is retried, ignored, rejected or killed is told apart."""
    shop.start(**ON)
    produce(
        shop,
        "add.delay(1, 2); fails.delay(); flaky.delay(2); ignored.delay()\n"
        "sleeps.apply_async((30,), time_limit=1); app.send_task('shop.unknown', queue='shop')\n"
        "add.apply_async((1, 1), expires=0.001, queue='shop.parcels')",
    )
    await_ended(7)
    produce(shop, "dies.delay()")  # what its process has seen in the last half second goes with it
    await_ended(8)
    found = rows()
    states = {name: (row.state, row.error) for name, row in found.items() if name != "shop.add"}
    assert states == {
        "shop.fails": ("failed", "ValueError"),
        "shop.flaky": ("succeeded", ""),
        "shop.ignored": ("ignored", ""),
        "shop.dies": ("failed", "WorkerLostError"),
        "shop.sleeps": ("failed", "TimeLimitExceeded"),
        "shop.unknown": ("failed", "NotRegistered"),
    }
    assert sorted((row.state, row.error) for row in ObservedTask.objects.filter(name="shop.add")) == [
        ("revoked", "Expired"), ("succeeded", ""),
    ]  # fmt: skip
    flaky, fails = found["shop.flaky"], found["shop.fails"]
    assert (flaky.retries, flaky.starts) == (2, 3)
    assert fails.message == "a bad value"
    assert fails.sent_at is not None
    assert fails.started_at is not None
    assert fails.ended_at is not None
    assert fails.sent_at <= fails.started_at <= fails.ended_at
    assert fails.hostname.startswith("shop0")
    assert fails.queue == "shop"
    assert not ObservedTask.objects.exclude(arguments="").exists()


def test_chains_groups_and_chords_belong_together(org: Organization, shop: Shop) -> None:
    shop.start(**ON)
    produce(shop, "chain(add.s(1, 2), add.s(3)).delay(); chord([add.s(1, 1), add.s(2, 2)], returns.si('time')).delay()")
    await_ended(5)
    first = ObservedTask.objects.exclude(parent_id="").filter(name="shop.add").get()
    assert {row.root_id for row in ObservedTask.objects.filter(id__in=[first.id, first.parent_id])} == {first.parent_id}
    groups = set(ObservedTask.objects.exclude(group_id="").values_list("group_id", flat=True))
    assert len(groups) == 1
    assert ObservedTask.objects.filter(group_id__in=groups).count() == 3  # the body of the chord belongs to it


def test_arguments_are_kept_only_where_that_is_asked_for(org: Organization, shop: Shop) -> None:
    shop.start(**ON)
    produce(shop, "add.delay(41, b=1)", HEADRACE_OBSERVE_ARGUMENTS="1")
    await_ended(1)
    assert ObservedTask.objects.get().arguments == "(41,) {'b': 1}"


def test_nothing_is_observed_without_the_switch(org: Organization, shop: Shop) -> None:
    shop.start(SHOP_WITH_HEADRACE="1")
    produce(shop, "print(add.delay(1, 2).get(timeout=30))", HEADRACE_OBSERVE="0")
    assert shop.lines("shop.add")
    assert not ObservedTask.objects.exists()


def test_without_its_database_the_application_goes_on(org: Organization, shop: Shop) -> None:
    """Postgres is away: tasks are sent and executed, and nothing is raised into them."""
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    shop.start(**ON, **away)
    produce(shop, "assert [add.delay(n, 1).get(timeout=30) for n in range(20)] == list(range(1, 21))", **away)
    assert len(shop.lines("shop.add")) == 20
    assert not ObservedTask.objects.exists()


def test_what_is_dropped_is_counted(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MAX_TASKS", 5)
    observer = Observer()
    for number in range(8):
        observer.buffer.sent(f"t{number}", time.time(), name="a.b")
    observer.buffer.ended("t0", time.time(), "succeeded")  # the buffer is full, and knows it
    assert observer._write()
    assert ObservedTask.objects.count() == 5
    assert ObservedTask.objects.get(id="t0").state == "succeeded"
    assert ObservationLoss.objects.get().dropped == 3


def test_a_receiver_raises_nothing_whatever_it_is_given(org: Organization) -> None:
    class Wild:
        def __str__(self) -> str:
            raise RuntimeError("not even that")

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    with this_process.replaced(Observer, Observer()):
        for given in (
            {},
            {"sender": Wild(), "headers": {"id": Wild()}},
            {"task_id": "x", "task": Wild(), "state": "FAILURE"},
        ):
            for receiver in (_on_sending, _on_sent, _on_started, _on_ended):
                receiver(**given)
        dropped = this_process.own(Observer).buffer.take(10)[1]
    assert dropped >= 3


def test_a_task_is_sent_before_a_worker_has_it(org: Organization) -> None:
    """A worker may begin before the producer hears that the broker has the task: that is no time of sending."""
    message = {"headers": {"id": "quick"}, "sender": "a.b"}
    with this_process.replaced(Observer, Observer()):
        _on_sending(**message)
        begun_at = time.time()
        _on_sent(**message)
        (quick,) = this_process.own(Observer).buffer.take(10)[0]
        _on_sent(headers={"id": "other"}, sender="a.b")  # of a sender that has not told when it began
        (other,) = this_process.own(Observer).buffer.take(10)[0]
    assert quick.sent_at is not None
    assert other.sent_at is not None
    assert quick.sent_at <= begun_at <= other.sent_at


def test_signs_may_come_in_any_order(org: Organization) -> None:
    """The producer may write after the worker, and a worker that has it again opens it again."""

    def store(**facts: Any) -> None:
        sql.store_observations(seen=json.dumps([Seen("t", **facts).as_json()]), org="")

    store(state="succeeded", seen_at=20.0, started_at=10.0, ended_at=20.0, starts=1, name="a.b")
    store(state="sent", seen_at=30.0, sent_at=5.0, queue="q")
    row = ObservedTask.objects.get()
    assert (row.state, row.queue, row.name, row.starts) == ("succeeded", "q", "a.b", 1)
    assert row.ended_at is not None
    store(state="retrying", seen_at=15.0, error="Old")  # older than what is known
    assert ObservedTask.objects.get().state == "succeeded"
    store(state="started", seen_at=40.0, started_at=40.0, starts=1)
    row = ObservedTask.objects.get()
    assert (row.state, row.starts, row.ended_at) == ("started", 2, None)


def test_a_retry_that_is_told_after_the_next_try_changes_nothing(org: Organization) -> None:
    """A worker tells of a retry once its message is sent: another one may have been quicker."""

    def store(buffer: Buffer) -> None:
        sql.store_observations(seen=json.dumps([each.as_json() for each in buffer.take(10)[0]]), org="")

    slow, quick = Buffer(), Buffer()
    slow.started("t", 10.0, retries=0)
    store(slow)
    slow.sent("t", 10.1, retries=1)
    quick.started("t", 10.2, retries=1)
    quick.ended("t", 10.3, "succeeded")
    slow.ended("t", 10.4, "retrying", began=10.0)
    store(quick)
    store(slow)
    row = ObservedTask.objects.get()
    assert (row.state, row.retries, row.starts, row.ended_at is not None) == ("succeeded", 1, 2, True)
    same = Buffer()
    same.started("u", 10.0)
    same.started("u", 10.2, retries=1)
    same.ended("u", 10.3, "succeeded")
    same.ended("u", 10.4, "retrying", began=10.0)
    same.started("v", 10.0)
    same.ended("v", 10.4, "retrying", began=10.0)
    store(same)
    assert dict(ObservedTask.objects.values_list("id", "state")) == {
        "t": "succeeded", "u": "succeeded", "v": "retrying",
    }  # fmt: skip


def test_one_bad_observation_takes_no_other_along(org: Organization) -> None:
    observer = Observer()
    observer.buffer.ended("good", time.time(), "failed", message="nul \0 and \ud800")
    observer.buffer.ended("bad", time.time(), "no state")
    observer.buffer.sent("large", time.time(), retries=10**12)
    assert observer._write()
    assert list(ObservedTask.objects.values_list("id", "message")) == [("good", "nul \\0 and \\ud800")]
    assert observer._write()
    assert ObservationLoss.objects.get().dropped == 2


def test_old_and_surplus_rows_are_deleted(org: Organization) -> None:
    now = time.time()
    seen = [Seen(f"t{n}", "succeeded", now - 86_400 * n).as_json() for n in range(10)]
    sql.store_observations(seen=json.dumps(seen), org="")
    sql.forget_observed(keep_s=86_400 * 5.5, most=1_000, batch=100)
    assert ObservedTask.objects.count() == 6
    sql.forget_observed(keep_s=86_400 * 365, most=4, batch=100)
    assert sorted(ObservedTask.objects.values_list("id", flat=True)) == ["t0", "t1", "t2", "t3", "t4"]


def test_lost_is_said_only_with_evidence(org: Organization, shop: Shop) -> None:
    """A task that waits, or that a worker has, is not lost; nor is one of a queue whose workers do not observe."""
    from tests.support.shop import app

    app.conf.update(broker_url=shop.broker, result_backend=shop.broker)
    shop.start(**ON)
    produce(
        shop,
        "gone = add.apply_async((1, 1), queue='shop'); held = sleeps.delay(60); waits = add.apply_async((1, 1), queue='nobody')",
    )
    await_that(lambda: rows(name="shop.sleeps", state="started"), 60, "one is executed")
    with redis.Redis.from_url(shop.broker) as store:
        assert store.llen("nobody") == 1
    first = ObservedTask.objects.filter(name="shop.add", queue="shop").get()
    await_that(lambda: rows(id=first.id, state="succeeded"), 30, "it has ended")
    # as if the broker had lost it, and nobody had told of a start
    ObservedTask.objects.filter(id=first.id).update(
        state="sent", started_at=None, ended_at=None, hostname="", seen_at=first.sent_at
    )
    ObservedTask.objects.filter(name="shop.sleeps").update(queue="shop")
    search = Search(app)
    assert search.look(0.0) == []  # once is no evidence
    assert search.look(0.0) == [first.id]
    assert rows(id=first.id)["shop.add"].state == "lost"
    assert search.look(0.0) == []
    assert ObservedTask.objects.get(queue="nobody").state == "sent"
    assert ObservedTask.objects.get(name="shop.sleeps").state == "started"


def test_a_full_buffer_still_hears_of_what_it_has() -> None:
    buffer = Buffer()
    buffer.put_back([Seen("a", "sent", 1.0)], 2)
    buffer.started("a", 2.0)
    seen, dropped = buffer.take(10)
    assert (seen[0].state, seen[0].starts, dropped, len(buffer)) == ("started", 1, 2, 0)


def test_the_api_shows_them_page_by_page(org: Organization, other: Organization, api_key: str) -> None:
    """Those of the organization that the installation says; of others nothing is seen."""
    now = time.time()
    seen = [
        Seen(f"{n}/ä", "failed" if n % 2 else "succeeded", now - n, name="a.b", root_id="0/ä", sent_at=now - n - 9,
             started_at=now - n - 2, ended_at=now - n, starts=1, error="ValueError" if n % 2 else "").as_json()
        for n in range(5)
    ]  # fmt: skip
    silent = Seen("silent", "started", now - 7_200).as_json()
    sql.store_observations(seen=json.dumps([*seen, silent]), org=org.slug)
    sql.store_observations(seen=json.dumps([Seen("theirs", "sent", now).as_json()]), org=other.slug)
    client = Client(headers={"authorization": f"Bearer {api_key}"})
    first = client.get("/api/observed?limit=4").json()
    assert [task["id"] for task in first["tasks"]] == ["0/ä", "1/ä", "2/ä", "3/ä"]
    assert (first["tasks"][0]["duration"], first["tasks"][0]["waited"]) == (2.0, 7.0)
    rest = client.get("/api/observed", {"limit": 4, "cursor": first["nextCursor"]}).json()
    assert [(task["id"], task["state"]) for task in rest["tasks"]] == [("4/ä", "succeeded"), ("silent", "unknown")]
    assert rest["nextCursor"] is None
    for state, count in (("failed", 2), ("unknown", 1), ("started", 0)):
        assert len(client.get("/api/observed", {"state": state}).json()["tasks"]) == count
    assert client.get("/api/observed?state=wrong").status_code == 422
    assert client.get("/api/observed?cursor=wrong").status_code == 422
    detail = client.get("/api/observed/3%2F%C3%A4").json()
    assert (detail["error"], len(detail["family"])) == ({"name": "ValueError", "message": ""}, 4)
    assert client.get("/api/observed/theirs").json()["code"] == "observed_task_not_found"
    counts = observed_counts()
    assert (counts["observedTasks"], counts["observedFailed"], counts["observedUnknown"]) == (7, 2, 1)


def test_an_alert_rule_counts_their_failures(org: Organization) -> None:
    now = time.time()
    seen = [Seen(f"t{n}", "failed", now, name="a.b", ended_at=now).as_json() for n in range(11)]
    sql.store_observations(seen=json.dumps(seen), org=org.slug)
    rule = AlertRule.objects.get(name="observed-failures")
    assert [(each.org_id, each.value, each.step) for each in metrics.read(rule)] == [(org.id, 11.0, "a.b")]
