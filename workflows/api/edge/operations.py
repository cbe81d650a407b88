"""What each operation of the API that changes something takes and is: the right that a key must have, and the verb by
which the audit log knows it.

One table, since nothing may be forgotten: an operation that is not in it is refused for keys with scopes, and is
written down by its method and path; a test names those that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest
from ninja import Status

from workflows import payload
from workflows.edge.access import RIGHTS, WHAT
from workflows.errors import ScopeMissing, WorkflowsError
from workflows.models import AccessKey, AuditEntry
from workflows.services import access_keys
from workflows.services.access import audit, changes

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY = 64 * 1024
"""Bytes of a body that is read once more for the audit log."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`right`: a word of RIGHTS. `verb`: by which it is written down, with the `kind` of what it is done to and the
    part of the path (`id`) that names it. `not_audited`: why it is not. `own_transactions`: it has several, so its
    entry is written after the last one."""

    right: str
    verb: str = ""
    kind: str = ""
    id: str = ""
    not_audited: str = ""
    own_transactions: bool = False


def _on(right: str, kind: str, id: str, verb: str, **more: Any) -> Operation:  # noqa: A002
    return Operation(right=right, kind=kind, id=id, verb=verb, **more)


DATA = "The data plane: the run says by whom it was started."
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/workflows/{slug}/run"): Operation(right="run_flows", not_audited=DATA),
    ("POST", "/runs/{run_id}/cancel"): _on("change_runs", "run", "run_id", "run.cancel"),
    ("POST", "/runs/{run_id}/replay"): _on("change_runs", "run", "run_id", "run.replay"),
    ("POST", "/runs/{run_id}/fork"): _on("change_runs", "run", "run_id", "run.fork"),
    ("POST", "/runs/bulk/cancel"): _on("change_runs", "operation", "", "runs.cancel"),
    ("POST", "/runs/bulk/replay"): _on("change_runs", "operation", "", "runs.replay"),
    ("POST", "/operations/{operation_id}/stop"): _on("change_runs", "operation", "operation_id", "operation.stop"),
    ("POST", "/operations/{operation_id}/resume"): _on("change_runs", "operation", "operation_id", "operation.resume"),
    ("POST", "/approvals/{step_run_id}"): _on("change_runs", "approval", "step_run_id", "approval.decide"),
    ("POST", "/scheduler/refresh"): _on("change_flows", "schedules", "", "schedules.refresh"),
    ("POST", "/workflows/{slug}/pause"): _on("stop_flows", "flow", "slug", "flow.pause"),
    ("POST", "/workflows/{slug}/resume"): _on("stop_flows", "flow", "slug", "flow.resume"),
    ("POST", "/organization/pause"): _on("stop_flows", "organization", "", "organization.pause"),
    ("POST", "/organization/resume"): _on("stop_flows", "organization", "", "organization.resume"),
    ("POST", "/queues/{name}/pause"): _on("stop_flows", "queue", "name", "queue.pause"),
    ("POST", "/queues/{name}/resume"): _on("stop_flows", "queue", "name", "queue.resume"),
    ("POST", "/workflows/{slug}/archive"): _on("change_flows", "flow", "slug", "flow.archive"),
    ("POST", "/workflows/{slug}/unarchive"): _on("change_flows", "flow", "slug", "flow.unarchive"),
    ("DELETE", "/workflows/{slug}"): _on("delete_flows", "flow", "slug", "flow.delete", own_transactions=True),
    ("PUT", "/events/schemas/{name}"): _on("change_flows", "event schema", "name", "event_schema.set"),
    ("DELETE", "/events/schemas/{name}"): _on("change_flows", "event schema", "name", "event_schema.delete"),
    ("PUT", "/limits"): _on("change_limits", "limit", "", "limit.set"),
    ("DELETE", "/limits"): _on("change_limits", "limit", "", "limit.delete"),
    ("POST", "/dlq/replay"): _on("change_letters", "operation", "", "dead_letters.replay"),
    ("POST", "/dlq/ignore"): _on("change_letters", "operation", "", "dead_letters.ignore"),
    ("POST", "/dlq/groups/{group}/assign"): _on("change_letters", "dead letter group", "group", "group.assign"),
    ("POST", "/dlq/groups/{group}/comments"): _on("change_letters", "dead letter group", "group", "group.comment"),
    ("POST", "/dlq/groups/{group}/snooze"): _on("change_letters", "dead letter group", "group", "group.snooze"),
    ("POST", "/dlq/groups/{group}/auto-replay"): _on(
        "change_letters", "dead letter group", "group", "group.auto_replay"
    ),
    ("POST", "/dlq/{letter_id}/replay"): _on("change_letters", "dead letter", "letter_id", "dead_letter.replay"),
    ("POST", "/dlq/{letter_id}/ignore"): _on("change_letters", "dead letter", "letter_id", "dead_letter.ignore"),
    ("POST", "/dlq/{letter_id}/reopen"): _on("change_letters", "dead letter", "letter_id", "dead_letter.reopen"),
    ("GET", "/keys"): Operation(right="change_keys", not_audited="It changes nothing."),
    ("POST", "/keys"): _on("change_keys", "key", "", "key.issue"),
    ("POST", "/keys/{key_id}/rotate"): _on("change_keys", "key", "key_id", "key.rotate"),
    ("POST", "/keys/{key_id}/revoke"): _on("change_keys", "key", "key_id", "key.revoke"),
    ("POST", "/keys/{key_id}/rename"): _on("change_keys", "key", "key_id", "key.rename"),
    ("GET", "/secrets"): Operation(right="change_secrets", not_audited="It changes nothing."),
    ("PUT", "/secrets/{name}"): _on("change_secrets", "secret", "name", "secret.set"),
    ("DELETE", "/secrets/{name}"): _on("change_secrets", "secret", "name", "secret.delete", own_transactions=True),
    ("GET", "/audit"): Operation(right="change_organization", not_audited="It changes nothing."),
    ("GET", "/redaction"): Operation(right="change_organization", not_audited="It changes nothing."),
    ("PUT", "/organization/retention/{subject}"): _on("change_organization", "retention", "subject", "retention.set"),
    ("DELETE", "/organization/retention/{subject}"): _on(
        "change_organization", "retention", "subject", "retention.clear"
    ),
    ("PUT", "/redaction"): _on("change_organization", "organization", "", "redaction.set"),
}


def operation_of(method: str, address: str) -> Operation | None:
    """The entry of an operation, wherever the API is mounted; None for one that reads and is open to every key."""
    path = "/" + address.rpartition("api/")[2]
    known = OPERATIONS.get((method, path))
    if known is None and method not in SAFE:
        return Operation(right="", verb=f"{method.lower()} {path}", id="")
    return known


def refuse_scope(key: AccessKey, operation: Operation | None) -> None:
    """Raises ScopeMissing where the key's scopes do not allow the operation."""
    if operation is not None and not access_keys.has_right(key, operation.right):
        what = WHAT.get(RIGHTS.get(operation.right, ""), "do this")
        raise ScopeMissing(operation.right, what)


def audited(request: HttpRequest, operation: Operation | None, act: Callable[[], Any], given: Mapping[str, Any]) -> Any:
    """What `act` gives; with it, in one transaction, the entry of what it has done."""
    if operation is None or not operation.verb or _is_trial(given):
        return act()
    if operation.own_transactions:
        with changes.collected():
            done = act()
            _write(request, operation, given, done)
        return done
    with changes.collected(), transaction.atomic():
        done = act()
        _write(request, operation, given, done)
    return done


def written_in(request: Any, org_id: UUID | None) -> None:
    """Say in whose log the request's change belongs, where that is not the key's organization; None: it is for all."""
    request.written_in = org_id


def _write(request: Any, operation: Operation, given: Mapping[str, Any], done: Any) -> None:
    key: AccessKey = request.auth
    actor = audit.of_request(request, AuditEntry.Actor.KEY, f"{key.prefix}… ({key.name})")
    audit.record(
        getattr(request, "written_in", key.organization_id),
        actor,
        operation.verb,
        kind=operation.kind,
        id=given.get(operation.id) or _id_of_new(done),
        details={**request.GET.dict(), **_body(request)},
    )


def _id_of_new(done: Any) -> str:
    """The id of what was made: a key, an operation."""
    answer = done.value if isinstance(done, Status) else done
    return str(answer.get("id") or "") if isinstance(answer, dict) else ""


def _body(request: HttpRequest) -> dict[str, Any]:
    if not request.body or len(request.body) > MAX_BODY:
        return {}
    try:
        found = payload.parse(request.body)
    except WorkflowsError:  # of an operation that takes no body, and has not looked at it
        return {}
    return found if isinstance(found, dict) else {}


def _is_trial(given: Mapping[str, Any]) -> bool:
    """Whether it only asks what would be done, by what the operation has read of its request."""
    return any(getattr(each, "dry_run", False) is True for each in given.values())
