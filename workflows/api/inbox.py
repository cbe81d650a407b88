"""`POST /e/{event_key}`: events, as Inngest's clients send them; answers and errors have the form that these read."""

from __future__ import annotations

import ipaddress
import json

import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from workflows import ingest, webhooks
from workflows.api.problems import problem
from workflows.errors import WorkflowsError
from workflows.ingest import EventsRefused
from workflows.models import Organization

log = structlog.get_logger(__name__)


@csrf_exempt
def receive(request: HttpRequest, key: str) -> HttpResponse:
    """One event or an array of at most 5,000; all of them are stored when this answers, or none."""
    if request.method != "POST":
        response = _refuse(405, "Send events by POST.")
        response["Allow"] = "POST"
        return response
    organization = ingest.owner_of(key) or _local_owner(request, key)
    if organization is None:
        return _refuse(401, "The event key is unknown or revoked.")
    try:
        payload = json.loads(request.body)
    except RequestDataTooBig:
        return _refuse(413, "The request is larger than 8 MiB.")
    except (ValueError, RecursionError) as error:
        return _refuse(400, f"The body is no JSON: {error}")
    try:
        ids = ingest.send(organization, payload)
    except EventsRefused as error:
        problems = [{"index": each.index, "path": each.path, "message": each.message} for each in error.problems]
        return _refuse(400, str(error), errors=problems)
    except WorkflowsError as error:
        return _refuse(error.status, str(error))
    return JsonResponse({"ids": [str(id_) for id_ in ids], "status": 200})


@csrf_exempt
def webhook(request: HttpRequest, token: str) -> HttpResponse:
    """A delivery to a trigger's address; answered once it is stored."""
    if request.method != "POST":
        response = _refuse(405, "Webhooks come by POST.")
        response["Allow"] = "POST"
        return response
    try:
        headers = {name.lower(): value for name, value in request.headers.items()}
        webhooks.take(token, headers, request.body)
    except RequestDataTooBig:
        return problem(413, "payload_too_large", "The request is larger than 8 MiB.")
    except WorkflowsError as error:
        log.info("a webhook is refused", status=error.status, reason=str(error))
        return problem(error.status, error.code, str(error))
    return JsonResponse({"received": True})


def _local_owner(request: HttpRequest, key: str) -> Organization | None:
    """In development, from this machine, a key that was never issued will do: clients send a placeholder."""
    if not settings.ANY_EVENT_KEY_ON_LOOPBACK or ingest.is_known(key):
        return None
    try:
        if not ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback:
            return None
    except ValueError:
        return None
    return Organization.objects.order_by("created_at").first()


def _refuse(status: int, error: str, **more: object) -> HttpResponse:
    return JsonResponse({"error": error, "status": status, "ids": [], **more}, status=status)
