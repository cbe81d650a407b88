"""The configuration of a step of a task object, and what ends of tasks mean."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import Celery, states
from celery.exceptions import Ignore, NotRegistered, Reject, TaskRevokedError
from kombu.exceptions import EncodeError

from workflows import this_process
from workflows.engine.celery_tasks import ends, sending, user_app
from workflows.engine.celery_tasks.callbacks import is_ours
from workflows.engine.celery_tasks.lost import Holder, Inspector
from workflows.engine.celery_tasks.user_app import UserApp
from workflows.errors import ConfigurationFailure, NonRetriable, RetryAfter
from workflows.steps.types.celery_task import CeleryTaskConfig, config_of

app = Celery("unit", set_as_current=False)


@app.task(name="unit.charge")
def charge(order: int, amount: float = 1.0) -> None: ...


def test_the_configuration_of_a_task_object_and_of_its_name() -> None:
    expected = {"task": "unit.charge", "args": [7], "kwargs": {"amount": 2.5}}
    assert config_of(charge, 7, amount=2.5) == expected == config_of("unit.charge", 7, amount=2.5)
    assert CeleryTaskConfig.model_validate(expected).args == [7]


def test_a_signature_brings_its_options_along() -> None:
    signature = charge.s(7).set(queue="slow", priority=3, soft_time_limit=10)
    assert config_of(signature, amount=2) == {
        "task": "unit.charge", "args": [7], "kwargs": {"amount": 2}, "queue": "slow", "priority": 3,
        "soft_time_limit": 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: config_of(charge.s(1) | charge.s(2)), "no single task"),
        (lambda: config_of(charge.s(1).set(countdown=5)), "countdown"),
        (lambda: config_of(charge, object()), "argument 1"),
        (lambda: config_of(charge, amount=float("nan")), "argument amount"),
        (lambda: config_of(charge, dt.datetime.now(dt.UTC)), "isoformat"),
        (lambda: config_of(len), "@shared_task"),
        (lambda: config_of(None), "@shared_task"),
    ],
)
def test_what_is_no_task_of_a_step_says_why(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationFailure, match=said):
        given()


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", "nul\0", "x" * 256])
def test_a_name_that_no_task_has_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="task"):
        CeleryTaskConfig.model_validate({"task": name})


@pytest.mark.parametrize(
    ("error", "category", "final"),
    [
        (ValueError("x"), "transient", False),
        (NonRetriable("x"), "business", True),
        (SoftTimeLimitExceeded(), "resource", False),
        (TimeLimitExceeded(3), "resource", False),
        (WorkerLostError("signal 9"), "resource", False),
        (NotRegistered("a.b"), "configuration", False),
        (TaskRevokedError("revoked"), "business", True),
        (Reject("no"), "business", True),
        (EncodeError("object"), "invalid_output", False),
        (PermissionError("x"), "transient", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_exception_has_a_category(error: BaseException, category: str, final: bool) -> None:
    end = ends.of_exception(error, "a traceback")
    assert (end["error"]["category"], end["error"]["final"], end["error"]["name"]) == (
        category, final, type(error).__name__,
    )  # fmt: skip
    assert end["error"]["traceback"] == "a traceback"


def test_a_wait_that_the_other_side_asks_for_is_kept() -> None:
    assert ends.of_exception(RetryAfter(12))["error"]["retry_after_s"] == 12


def test_results_become_plain_json_or_a_failure() -> None:
    value = {"at": dt.date(2026, 1, 2), 1: (decimal.Decimal("1.50"), uuid.UUID(int=7)), "n": None}
    assert ends.of_result(value) == {
        "state": "SUCCESS",
        "result": {"at": "2026-01-02", "1": ["1.50", "00000000-0000-0000-0000-000000000007"], "n": None},
    }
    nested: list[Any] = []
    nested.append(nested)
    for bad in (object(), {1, 2}, float("nan"), "\0", nested):
        assert ends.of_result(bad)["error"]["category"] == "invalid_output"


def test_only_messages_about_ends_are_read() -> None:
    told = ends.of_message([[5], {"task_id": "x-1"}, {}])
    assert told is not None
    assert (told.task_id, told.end["result"], told.is_vague) == ("x-1", 5, False)
    failed = ends.of_message([["x-1"], {"task_id": "x-1", "failed": True}, {}])
    assert failed is not None
    assert failed.is_vague
    first = ends.of_message({"args": [5], "kwargs": {"task_id": "x-1"}, "task": "…"})
    assert first is not None
    assert first.end["result"] == 5
    other: Any
    for other in (None, "text", 7, [], [[1]], [[1], None], [[1], {"task_id": 3}], {}, {"kwargs": []}):
        assert ends.of_message(other) is None


def test_what_a_backend_has_stored() -> None:
    done = {"status": states.SUCCESS, "result": {"a": 1}}
    assert ends.of_meta(done, wants_output=True) == {"state": "SUCCESS", "result": {"a": 1}}
    assert ends.of_meta(done, wants_output=False) == {"state": "SUCCESS", "result": None}
    for going_on in (states.PENDING, states.STARTED, states.RETRY, "OWN"):
        assert ends.of_meta({"status": going_on, "result": None}, wants_output=True) is None
    revoked = ends.of_meta({"status": states.REVOKED, "result": "terminated"}, wants_output=True)
    assert revoked is not None
    assert revoked["error"]["category"] == "business"


def test_a_replaced_task_goes_on_and_an_ignored_one_is_over() -> None:
    assert ends.of_ignored(Ignore("Replaced by new task")) is None
    assert ends.of_ignored(Ignore()) == {"state": "SUCCESS", "result": None}


def test_ids_of_tasks_of_steps_are_known() -> None:
    assert is_ours(f"{uuid.uuid4()}-1")
    assert is_ours(f"{uuid.uuid4()}-12.3")
    for other in (str(uuid.uuid4()), "x-1", "", None, f"{uuid.uuid4()}-1x"):
        assert not is_ours(other)


def test_a_holder_that_answers_again_is_not_silent() -> None:
    inspector = Inspector.__new__(Inspector)
    inspector._holders = {}
    inspector.note(["t"], {}, {"w": 1})
    assert inspector._holders == {}  # nobody has said that it had it
    inspector.note(["t"], {"w": {"t": []}}, {"w": 1})
    inspector.note(["t"], {}, {"w": 1})
    assert inspector._holders["t"] == Holder(worker="w", pid=1)  # it answers: it may only be retried
    inspector.note(["t"], {}, {})
    inspector.note(["t"], {}, {"w": 2})  # another process in its name
    assert inspector._holders["t"].silent == 2
    inspector.note(["t"], {"v": {"t": []}}, {"v": 3})
    assert inspector._holders["t"] == Holder(worker="v", pid=3)


def test_an_app_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (("nothing.there:app", "can't be imported"), ("config.env:BASE_DIR", "no Celery app")):
        monkeypatch.setenv("HEADRACE_CELERY_APP", name)
        with pytest.raises(ConfigurationFailure, match=said):
            UserApp()


def test_only_tasks_that_are_allowed_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_CELERY_TASKS", "shop.*, mail.send")
    with this_process.replaced(UserApp, UserApp()):
        for name in ("shop.charge", "mail.send"):
            user_app.check_allowed(name)
        for name in ("mail.delete", "workflows.steps.noop", "celery.backend_cleanup", "headrace.evaluate_alerts"):
            with pytest.raises(ConfigurationFailure, match=name):
                user_app.check_allowed(name)


def test_a_task_that_is_not_registered_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    user = UserApp()
    user.app = app
    with this_process.replaced(UserApp, user):
        user_app.check_registered("unit.charge")
        with pytest.raises(ConfigurationFailure, match=r"unit\.charge.*registered: false"):
            user_app.check_registered("shop.charge")


def test_our_bookkeeping_of_messages_is_apart_from_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short visibility timeout would redeliver what they have, if they shared it."""
    user = UserApp()
    user.app = Celery("there", broker="redis://localhost:1/0", set_as_current=False)
    with this_process.replaced(UserApp, user):
        plain: Any = user_app.connect(user.app.connection_for_write).transport_options
        taking: Any = user_app.connect(user.app.connection_for_read, acknowledges=True).transport_options
    assert "unacked_key" not in plain
    assert {taking[name] for name in ("unacked_key", "unacked_index_key", "unacked_mutex_key")} == {
        "headrace.ended.unacked", "headrace.ended.unacked_index", "headrace.ended.unacked_mutex",
    }  # fmt: skip
    assert (taking["ack_emulation"], taking["visibility_timeout"]) == (True, 60)


def test_an_app_that_can_not_be_sent_to_says_what_to_change() -> None:
    user = UserApp()
    user.app = Celery("there", broker="redis://localhost:1/0", set_as_current=False)
    config = CeleryTaskConfig.model_validate({"task": "a.b", "registered": False})
    with this_process.replaced(UserApp, user):
        sending.check(config)
        user.app.conf.task_create_missing_queues = False
        with pytest.raises(ConfigurationFailure, match=r"headrace\.ended"):
            sending.check(config)
        user.app.conf.task_always_eager = True
        with pytest.raises(ConfigurationFailure, match="task_always_eager"):
            sending.check(config)
