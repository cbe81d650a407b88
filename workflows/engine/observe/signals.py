"""Celery's signals, in the processes that send tasks and in those that execute them. None of these functions raises."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery import signals, states

from workflows.engine.celery_tasks.user_app import INTERNAL
from workflows.engine.observe import lost, switch
from workflows.engine.observe.writer import Observer, observer

MAX_MESSAGE = 500
MAX_ARGUMENTS = 1_000
_STATES = {
    states.SUCCESS: "succeeded", states.FAILURE: "failed", states.RETRY: "retrying", states.IGNORED: "ignored",
    states.REJECTED: "rejected", states.REVOKED: "revoked",
}  # fmt: skip


def connect() -> None:
    """From now on this process observes, where `HEADRACE_OBSERVE` says so. Raises EnvironmentValueError."""
    if not switch.read().is_on:
        return
    for signal, receiver in (
        (signals.before_task_publish, _on_sending),
        (signals.after_task_publish, _on_sent),
        (signals.task_prerun, _on_started),
        (signals.task_postrun, _on_ended),
        (signals.task_failure, _on_failed),
        (signals.task_revoked, _on_revoked),
        (signals.task_unknown, _on_unknown),
        (signals.worker_ready, _on_worker),
        (signals.worker_process_shutdown, _on_over),
        (signals.worker_shutdown, _on_over),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"headrace.observe.{receiver.__name__}")


def _harmless(receive: Callable[..., None]) -> Callable[..., None]:
    """The receiver, of which nothing is ever raised: what it could not note counts as dropped."""

    @functools.wraps(receive)
    def guarded(**given: Any) -> None:
        try:
            watching = observer()
            receive(watching, **given)
            watching.start()
        except Exception:
            _count_dropped()

    return guarded


def _count_dropped() -> None:
    try:
        observer().buffer.drop()
    except Exception:
        return


def _text(value: object) -> str:
    return value if type(value) is str else "" if value is None else str(value)


def _on_sending(headers: Any = None, body: Any = None, **_: Any) -> None:
    """Nothing is counted as dropped here: what can't be read is told by `_on_sent`."""
    with contextlib.suppress(Exception):
        sending = observer().sending
        sending.task_id = None
        sending.task_id, sending.at = _facts(headers, body).get("id"), time.time()


def _facts(headers: Any, body: Any) -> Mapping[str, Any]:
    """What a message says of its task, by either protocol of Celery."""
    return headers if isinstance(headers, Mapping) and "id" in headers else body if isinstance(body, Mapping) else {}


@_harmless
def _on_sent(
    seer: Observer, sender: Any = None, headers: Any = None, body: Any = None, routing_key: Any = "", **_: Any
) -> None:
    facts = _facts(headers, body)
    task_id, name = facts.get("id"), _text(sender)
    sent_at = seer.sending.at if task_id and seer.sending.task_id == task_id else time.time()
    if not task_id or name.startswith(INTERNAL):
        return
    seer.buffer.sent(
        _text(task_id), sent_at, name=name, queue=_text(routing_key), root_id=_text(facts.get("root_id")),
        parent_id=_text(facts.get("parent_id")), group_id=_text(facts.get("group")), retries=facts.get("retries") or 0,
        arguments=_arguments(seer, facts),
    )  # fmt: skip


def _arguments(seer: Observer, facts: Mapping[str, Any]) -> str:
    if not seer.says.arguments:
        return ""
    return f"{facts.get('argsrepr') or ''} {facts.get('kwargsrepr') or ''}".strip()[:MAX_ARGUMENTS]


@_harmless
def _on_started(seer: Observer, task_id: str = "", task: Any = None, **_: Any) -> None:
    name = task.name
    if name.startswith(INTERNAL):
        return
    request = task.request
    delivery = request.delivery_info or {}
    seer.running.task_id, seer.running.at = task_id, time.time()
    seer.buffer.started(
        _text(task_id), seer.running.at, name=_text(name), queue=_text(delivery.get("routing_key")),
        hostname=_text(request.hostname), root_id=_text(request.root_id), parent_id=_text(request.parent_id),
        group_id=_text(request.group), retries=request.retries or 0,
    )  # fmt: skip


@_harmless
def _on_ended(
    seer: Observer, task_id: str = "", task: Any = None, retval: Any = None, state: Any = None, **_: Any
) -> None:
    known = _STATES.get(state)
    if known is None or task.name.startswith(INTERNAL):
        return
    error = retval if isinstance(retval, BaseException) and known in {"failed", "retrying", "rejected"} else None
    began = seer.running.at if seer.running.task_id == task_id else None
    _note_end(seer, task_id, known, error, "", began)


@_harmless
def _on_failed(seer: Observer, task_id: str = "", sender: Any = None, exception: Any = None, **_: Any) -> None:
    """In the worker's main process too, where a child was lost or ran out of time: there is no `task_postrun` then."""
    name = _text(getattr(sender, "name", ""))
    if not name.startswith(INTERNAL):
        _note_end(seer, task_id, "failed", exception, name)


def _note_end(seer: Observer, task_id: str, state: str, error: Any, name: str, began: float | None = None) -> None:
    kind = error if error is None else getattr(error, "exc", None) or error
    seer.buffer.ended(
        _text(task_id), time.time(), state, name=name, began=began,
        error=type(kind).__name__ if kind is not None else "",
        message=_text(kind)[:MAX_MESSAGE] if kind is not None else "",
    )  # fmt: skip


@_harmless
def _on_revoked(seer: Observer, request: Any = None, terminated: bool = False, expired: bool = False, **_: Any) -> None:
    name = _text(getattr(request, "task_name", None) or getattr(request, "task", ""))
    if not name.startswith(INTERNAL):
        why = "Expired" if expired else "Terminated" if terminated else "Revoked"
        seer.buffer.ended(_text(request.id), time.time(), "revoked", name=name, error=why)


@_harmless
def _on_unknown(seer: Observer, id: str = "", name: str = "", **_: Any) -> None:  # noqa: A002  (Celery's name)
    seer.buffer.ended(
        _text(id),
        time.time(),
        "failed",
        name=_text(name),
        error="NotRegistered",
        message="The worker does not know it.",
    )


@_harmless
def _on_worker(seer: Observer, sender: Any = None, **_: Any) -> None:
    """The main process of a worker also looks for tasks that are lost."""
    seer.add_chore(lost.Search(sender.app).look_now_and_then)


@_harmless
def _on_over(seer: Observer, **_: Any) -> None:
    seer.stop()
