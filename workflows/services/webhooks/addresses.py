"""Webhooks: a signed delivery at the address of a trigger becomes an event that starts the trigger's flow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import uuid6
from django.utils import timezone

from workflows.engine.events import receive
from workflows.engine.events.receive import NewEvent
from workflows.engine.run_controls import idempotency
from workflows.engine.state import secret_sources
from workflows.errors import ConfigurationFailure, ExpressionError, InvalidInput, WorkflowsError
from workflows.expressions import compile_expression
from workflows.models import Trigger
from workflows.payload import Json, text_fault
from workflows.services.tenancy import quotas
from workflows.services.webhooks import bodies
from workflows.services.webhooks.signatures import TOLERANCE_S, Scheme, verify

HIDDEN_HEADERS = frozenset({"authorization", "cookie", "stripe-signature", "x-hub-signature", "x-hub-signature-256",
                            "webhook-signature", "proxy-authorization"})  # fmt: skip


class WebhookNotFound(WorkflowsError):
    """There is no webhook at this address."""

    status, code = 404, "webhook_not_found"


class WebhookNotReady(WorkflowsError):
    """The webhook can't be checked now; senders try again."""

    status, code = 503, "webhook_not_ready"


class WebhookOfArchived(WorkflowsError):
    """The flow of this webhook is archived: it takes no deliveries."""

    status, code = 410, "flow_archived"


def receive_webhook(token: str, headers: Mapping[str, str], body: bytes) -> None:
    """Take in a delivery: check its signature, store it as an event, and start the trigger's flow after the commit.

    A delivery that comes again (by its id) is stored again, and starts nothing; one without an id is new, unless the
    trigger has a `dedup`. `headers` have lower-case names.
    Raises WebhookNotFound, WebhookOfArchived, WebhookNotReady, SignatureRefused, InvalidInput (the body, the
    transform), PayloadTooLarge, TooManyEvents, StoredTooMuch.
    """
    trigger = (
        Trigger.objects.select_related("flow", "organization")
        .filter(token=token, kind=Trigger.Kind.WEBHOOK, enabled=True)
        .first()
        if token
        else None
    )
    if trigger is None:
        raise WebhookNotFound
    if trigger.flow.archived_at is not None:
        raise WebhookOfArchived
    config: Mapping[str, Any] = trigger.config
    now = timezone.now()
    _verify(trigger, headers, body, now)
    quotas.charge(trigger.organization, 1)  # of those only that its senders have signed
    value = bodies.read(headers.get("content-type", ""), body)
    id_, delivery, sender = uuid6.uuid7(), _delivery(config, headers, value), token[:12]
    external_id = f"{sender}:{delivery}"[:200] if delivery else ""
    if not delivery and config.get("dedup_ms"):
        external_id = idempotency.body_id(sender, body, config["dedup_ms"])
    data = _data(trigger, headers, value, delivery or str(id_), now)
    event = NewEvent(id=id_, name=trigger.event_name, data=data, external_id=external_id, trigger_id=trigger.id)
    receive.receive(trigger.organization_id, [event])


def _verify(trigger: Trigger, headers: Mapping[str, str], body: bytes, now: dt.datetime) -> None:
    config = trigger.config
    if config["webhook"] == "none":
        return
    try:
        key = secret_sources.value_of(trigger.organization_id, config.get("secret", ""))
    except ConfigurationFailure as error:
        raise WebhookNotReady(str(error)) from None
    if key is None:
        raise WebhookNotReady(f"The webhook's secret {config.get('secret')!r} is not stored.")
    scheme = Scheme(
        kind=config["webhook"],
        header=config.get("signature_header") or "x-signature",
        prefix=config.get("signature_prefix") or "",
        tolerance_s=(config.get("tolerance_ms") or TOLERANCE_S * 1000) / 1000,
    )
    verify(scheme, key, headers, body, now_s=now.timestamp())


def _delivery(config: Mapping[str, Any], headers: Mapping[str, str], value: Json) -> str:
    """The sender's id of the delivery; empty where it has none."""
    named = {"github": "x-github-delivery", "standard": "webhook-id"}.get(
        config["webhook"], config.get("id_header") or ""
    )
    found = headers.get(named.lower(), "") if named else ""
    if not found and config["webhook"] == "stripe" and isinstance(value, dict):
        found = str(value.get("id") or "")
    if text_fault(found):
        found = ""
    return found[:150]


def _data(trigger: Trigger, headers: Mapping[str, str], value: Json, delivery: str, now: dt.datetime) -> dict[str, Any]:
    """The event's data: {eventId, eventType, data, receivedAt}, or what the trigger's transform makes."""
    config: Mapping[str, Any] = trigger.config
    if config.get("transform"):
        shown = {name: text for name, text in headers.items() if name not in HIDDEN_HEADERS}
        try:
            transform = compile_expression(config["transform"], owner=trigger.organization_id)
            made = transform.evaluate({"body": value, "headers": shown})
        except ExpressionError as error:
            raise InvalidInput(f"The trigger's transform can't be evaluated: {error}") from None
        if not isinstance(made, dict):
            raise InvalidInput("The trigger's transform gives no object.")
        return made
    kind = config["webhook"]
    inner = value.get("data", value) if kind in {"stripe", "standard"} and isinstance(value, dict) else value
    type_ = (
        headers.get("x-github-event") if kind == "github" else (value.get("type") if isinstance(value, dict) else None)
    )
    return {"eventId": delivery, "eventType": type_, "data": inner, "receivedAt": now.isoformat()}
