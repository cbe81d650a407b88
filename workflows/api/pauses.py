"""Pausing, draining and resuming flows, queues and the organization."""

from __future__ import annotations

from typing import Any, Literal

from ninja import Router
from pydantic import Field

from workflows.api.edge import operations
from workflows.api.edge.auth import ApiKeyAuth, ApiRequest, who
from workflows.api.schemas.answers import PauseOut, ResumedOut
from workflows.api.schemas.requests import Body
from workflows.errors import Forbidden
from workflows.services import pauses
from workflows.services.pauses import Subject

router = Router(auth=ApiKeyAuth(), tags=["pauses"], by_alias=True)


class PauseIn(Body):
    """How to stop it, and what becomes of what arrives meanwhile."""

    mode: Literal["pause", "drain"] = Field("pause", description="drain: runs that have started go on to their ends.")
    arrivals: Literal["queue", "skip"] = Field("queue", description="skip: what arrives is marked, and never runs.")
    reason: str = Field("", max_length=500)


@router.get("/pauses", response=list[PauseOut])
def list_pauses(request: ApiRequest) -> list[dict[str, Any]]:
    """What is paused or draining."""
    return pauses.stopped(request.organization)


@router.post("/workflows/{slug}/pause", response=PauseOut)
def pause_flow(request: ApiRequest, slug: str, payload: PauseIn | None = None) -> dict[str, Any]:
    """Pause or drain a flow."""
    return _stop(request, pauses.flow(request.organization, slug), payload)


@router.post("/workflows/{slug}/resume", response=ResumedOut)
def resume_flow(request: ApiRequest, slug: str) -> dict[str, bool]:
    """Let a flow go on."""
    return _resume(request, pauses.flow(request.organization, slug))


@router.post("/organization/pause", response=PauseOut)
def pause_organization(request: ApiRequest, payload: PauseIn | None = None) -> dict[str, Any]:
    """Pause or drain everything of the organization."""
    return _stop(request, Subject(organization=request.organization), payload)


@router.post("/organization/resume", response=ResumedOut)
def resume_organization(request: ApiRequest) -> dict[str, bool]:
    """Let the organization go on."""
    return _resume(request, Subject(organization=request.organization))


@router.post("/queues/{name}/pause", response=PauseOut)
def pause_queue(request: ApiRequest, name: str, payload: PauseIn | None = None) -> dict[str, Any]:
    """Pause a queue of all organizations; for operators' keys."""
    _only_operators(request)
    return _stop(request, pauses.queue(name), payload)


@router.post("/queues/{name}/resume", response=ResumedOut)
def resume_queue(request: ApiRequest, name: str) -> dict[str, bool]:
    """Let a queue go on; for operators' keys."""
    _only_operators(request)
    return _resume(request, pauses.queue(name))


def _only_operators(request: ApiRequest) -> None:
    if not request.auth.operator:
        raise Forbidden("A queue serves all organizations: an operator's key may pause it.")
    operations.written_in(request, None)


def _stop(request: ApiRequest, subject: Subject, payload: PauseIn | None) -> dict[str, Any]:
    given = payload or PauseIn.model_validate({})
    return pauses.stop(subject, mode=given.mode, arrivals=given.arrivals, reason=given.reason, by=who(request))


def _resume(request: ApiRequest, subject: Subject) -> dict[str, bool]:
    pauses.resume(subject, by=who(request))
    return {"resumed": True}
