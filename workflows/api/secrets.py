"""`/api/secrets`: the names of secrets, storing and deleting them. No answer has a value."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from ninja import Router
from pydantic import Field, StrictStr

from workflows.api.edge.auth import ApiKeyAuth, ApiRequest
from workflows.api.schemas.requests import Body
from workflows.api.schemas.runs import Out
from workflows.presenters import access as presenters
from workflows.selectors.access import secrets as selectors
from workflows.services.access import secrets
from workflows.steps import secret_rules

router = Router(auth=ApiKeyAuth(), tags=["access"], by_alias=True)
Source = Literal["database", "environment", "aws"]


class SecretIn(Body):
    value: StrictStr = Field(
        min_length=1, max_length=secret_rules.MAX_CHARACTERS, description="Stored encrypted; nobody reads it."
    )


class SecretOut(Out):
    name: str
    source: Source | None = Field(description="The source that counts.")
    also_in: list[Source] = Field(description="Sources that have it too, and do not count.")
    updated_at: dt.datetime | None = Field(description="When the database's value was written last.")
    updated_by: str | None = Field(description="Who wrote it, where the audit log still says so.")
    used_by: list[str] = Field(description="Flows in use that name it.")
    problem: str | None = Field(description="Why it can't be used.")


class MissingSecretOut(Out):
    name: str
    used_by: list[str]


class SecretsOut(Out):
    secrets: list[SecretOut]
    missing: list[MissingSecretOut] = Field(description="Names that flows in use ask for, and that no source has.")
    unread_sources: list[str] = Field(description="Sources that can't be read now: nothing is said to be missing then.")
    unread_flows: list[str] = Field(description="Flows that compute names, or whose code this process does not have.")


class StoredSecretOut(Out):
    name: str
    updated_at: dt.datetime


class DeletedSecretOut(Out):
    name: str
    left_without: list[str] = Field(description="Flows that name it, and that no other source is known to serve.")
    unread_sources: list[str] = Field(description="Sources that can't be read now, and may serve them.")


@router.get("", response=SecretsOut)
def list_secrets(request: ApiRequest) -> dict[str, Any]:
    """The names of secrets with where each comes from and which flows use it; and names that flows ask for in vain."""
    return presenters.secrets_out(selectors.secret_names(request.organization))


@router.put("/{name}", response=StoredSecretOut)
def set_secret(request: ApiRequest, name: str, payload: SecretIn) -> dict[str, Any]:
    """Store a secret in the database, or its new value. Steps have it within ten seconds."""
    row = secrets.set_secret(request.organization, name, payload.value)
    return {"name": row.name, "updatedAt": row.updated_at}


@router.delete("/{name}", response=DeletedSecretOut)
def delete_secret(request: ApiRequest, name: str, force: bool = False) -> dict[str, Any]:
    """Delete a secret of the database: 409 `secret_in_use` where flows would be left without it, unless by `force`."""
    left = secrets.delete_secret(request.organization, name, force=force)
    return {"name": name, "leftWithout": left.flows, "unreadSources": left.unread_sources}
