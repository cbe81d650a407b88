"""`POST /e/{event_key}`: events, as Inngest's clients send them; answers and errors have the form that these read."""

from __future__ import annotations

import math

import structlog
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from workflows import payload
from workflows.api.edge.origin import is_foreign_page, is_program_here
from workflows.api.edge.problems import problem
from workflows.errors import KeyExpired, WorkflowsError
from workflows.services import callbacks, events
from workflows.services.events import EventsRefused
from workflows.services.tenancy import quotas
from workflows.services.tenancy.quotas import TooManyEvents
from workflows.services.webhooks import addresses

log = structlog.get_logger(__name__)
UNKNOWN_KEY = "The event key is unknown or revoked."
UNKNOWN_KEY_OF_PAGE = f"{UNKNOWN_KEY} A page of another site needs a real one, in development too."


@csrf_exempt
def receive(request: HttpRequest, key: str) -> HttpResponse:
    """One event or an array of at most 5,000; all of them are stored when this answers, or none."""
    if request.method != "POST":
        return _only_post()
    try:
        organization = events.owner_of(key, on_this_machine=is_program_here(request))
    except KeyExpired as error:
        return _refuse(error.status, str(error))
    if organization is None:
        return _refuse(401, UNKNOWN_KEY_OF_PAGE if is_foreign_page(request) else UNKNOWN_KEY)
    try:
        value = payload.parse(request.body)
        ids = events.send(organization, value, before_storing=quotas.charge_of(organization))
    except RequestDataTooBig:
        return _refuse(413, "The request is larger than 8 MiB.")
    except EventsRefused as error:
        problems = [{"index": each.index, "path": each.path, "message": each.message} for each in error.problems]
        return _refuse(400, str(error), errors=problems)
    except TooManyEvents as error:
        response = _refuse(error.status, str(error))
        response["Retry-After"] = str(math.ceil(error.retry_after_s))
        return response
    except WorkflowsError as error:
        return _refuse(error.status, str(error))
    return JsonResponse({"ids": [str(id_) for id_ in ids], "status": 200})


@csrf_exempt
def webhook(request: HttpRequest, token: str) -> HttpResponse:
    """A delivery to a trigger's address; answered once it is stored."""
    if request.method != "POST":
        return _only_post_problem()
    try:
        headers = {name.lower(): value for name, value in request.headers.items()}
        addresses.receive_webhook(token, headers, request.body)
    except RequestDataTooBig:
        return problem(413, "payload_too_large", "The request is larger than 8 MiB.")
    except WorkflowsError as error:
        log.info("a webhook is refused", status=error.status, reason=str(error))
        response = problem(error.status, error.code, str(error))
        if isinstance(error, TooManyEvents):
            response["Retry-After"] = str(math.ceil(error.retry_after_s))
        return response
    return JsonResponse({"received": True})


@csrf_exempt
def callback(request: HttpRequest, token: str) -> HttpResponse:
    """A call of a `wait_for_callback` step's address; answered once it is stored."""
    if request.method != "POST":
        return _only_post_problem()
    try:
        body = payload.parse(request.body) if request.body.strip() else {}
        callbacks.receive_callback(token, body if isinstance(body, dict) else {"value": body})
    except RequestDataTooBig:
        return problem(413, "payload_too_large", "The request is larger than 8 MiB.")
    except WorkflowsError as error:
        return problem(error.status, error.code, str(error))
    return JsonResponse({"received": True}, status=202)


ONLY_POST = "This takes POST only."


def _only_post() -> HttpResponse:
    response = _refuse(405, ONLY_POST)
    response["Allow"] = "POST"
    return response


def _only_post_problem() -> HttpResponse:
    response = problem(405, "method_not_allowed", ONLY_POST)
    response["Allow"] = "POST"
    return response


def _refuse(status: int, error: str, **more: object) -> HttpResponse:
    return JsonResponse({"error": error, "status": status, "ids": [], **more}, status=status)
