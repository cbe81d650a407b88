"""Calls of one-time addresses: what is sent to one ends the `wait_for_callback` step that it belongs to.

A call is stored as an event, so that it is neither lost nor counted twice, whether it or the step comes first.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from workflows.engine.events import receive
from workflows.engine.sql import services as sql
from workflows.errors import WorkflowsError
from workflows.models import Event, Run
from workflows.steps.callback_urls import event_name, run_of


class CallbackNotFound(WorkflowsError):
    """There is no such callback address."""

    status, code = 404, "callback_not_found"


class CallbackUsed(WorkflowsError):
    """This callback address was used already, or its run has ended."""

    status, code = 410, "callback_used"


def receive_callback(token: str, body: dict[str, Any]) -> None:
    """Take in a call. Raises CallbackNotFound, CallbackUsed, or PayloadTooLarge."""
    run_id = run_of(token)
    run = Run.objects.filter(id=run_id).first() if run_id else None
    if run is None:
        raise CallbackNotFound
    event = receive.NewEvent(name=event_name(token), data=body)
    with transaction.atomic():
        # of two calls at once one comes after the other; the name is that of this address alone
        sql.lock_controls(flow=run.flow_id, keys=[event.name])
        if not run.is_live or Event.objects.filter(org_id=run.org_id, name=event.name).exists():
            raise CallbackUsed
        receive.receive(run.org_id, [event])
