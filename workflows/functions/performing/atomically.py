"""`step.atomic`: a function's ORM writes and the record of its step in one transaction."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from django.db import DatabaseError, connection, transaction

from workflows.engine.pipeline import perform as performing
from workflows.engine.pipeline import publish
from workflows.engine.state.records import ReadyStep
from workflows.engine.state.transitions import calls as transitions
from workflows.errors import StepCancelled
from workflows.functions.calls import Call, handler_of
from workflows.functions.failures import StepCallRefused
from workflows.models import StepRun
from workflows.steps.context import StepContext
from workflows.steps.outcome import Failed, FanOut, HandBack, Retry, Sleep, WaitFor

TRIES = 3
_CONTENTION = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_NO_VALUES = (Failed, FanOut, HandBack, Retry, Sleep, WaitFor)


def perform(call: Call, context: StepContext, *, wakes: bool) -> Any:
    """What the function returns, once all of it is committed. `wakes`: its flow waits for the step.

    Raises what the function raises, and what the commit raises: nothing is written then. The step is fenced by the
    statement that closes the transaction, and not before: a lock held all the time would keep the heartbeat out.
    """
    tries = 0
    while True:
        tries += 1
        try:
            value, ready = _perform_once(call, context, wakes=wakes)
        except DatabaseError as error:
            if isinstance(error.__cause__, _CONTENTION) and tries < TRIES:
                continue
            if not (connection.errors_occurred and _is_recorded(context)):
                raise
            return StepRun.objects.values_list("output", flat=True).get(id=context.step_run_id)
        if ready:
            publish.dispatch(ready)
        return value


def _perform_once(call: Call, context: StepContext, *, wakes: bool) -> tuple[Any, list[ReadyStep]]:
    began = time.monotonic()
    with transaction.atomic():
        value = handler_of(call)(context)
        if isinstance(value, _NO_VALUES):
            raise StepCallRefused(f"step.atomic({call.name!r}): the function gives a value, and not {value!r}.")
        output = performing.stored_output(value, context.secrets)
        function_id = context.claim.container_id
        if wakes and function_id is not None:
            transitions.lock([function_id])
        if not transitions.complete(
            context.claim, output=output, logs=performing.kept_logs(context), ran_s=time.monotonic() - began
        ):
            raise StepCancelled("The step is another worker's by now, or its run is cancelled: nothing was written.")
        return value, transitions.wake([context.step_run_id]) if wakes else []


def _is_recorded(context: StepContext) -> bool:
    """After a COMMIT whose answer was lost: the row says whether it counted."""
    connection.close()
    return StepRun.objects.filter(id=context.step_run_id, status="completed").exists()
