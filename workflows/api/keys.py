"""`/api/keys`, `/api/audit` and `/api/redaction`: who may what, who did what, and what nobody is shown."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal
from uuid import UUID

from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field, StrictInt, StrictStr
from pydantic.alias_generators import to_camel

from workflows.api.edge.auth import ApiKeyAuth, ApiRequest
from workflows.api.schemas.requests import Body, milliseconds
from workflows.edge.values import moment
from workflows.presenters import access as presenters
from workflows.selectors.access import audit as audit_selectors
from workflows.selectors.access import keys as key_selectors
from workflows.services import access_keys
from workflows.services.access import redacting

router = Router(auth=ApiKeyAuth(), tags=["access"], by_alias=True)


class _Answer(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class KeyIn(Body):
    """The key that is wanted. It gives no more than the key that asks for it has."""

    kind: Literal["api", "event"] = "api"
    name: str = Field(min_length=1, max_length=100, description="To recognise it by.")
    scopes: list[StrictStr] = Field(
        default_factory=list, max_length=50, description="Rights, of an API key; none: all of them."
    )
    operator: bool = Field(False, description="It may change what holds for all organizations.")
    expires_at: dt.datetime | None = Field(None, description="From then on it is refused.")


class RotateIn(Body):
    """How long both keys hold."""

    overlap: StrictInt | StrictStr = Field("24h", description="Milliseconds, or text such as 24h; at most 90 days.")


class RenameIn(Body):
    name: StrictStr = Field(min_length=1, max_length=100, description="To recognise it by.")


class RulesIn(Body):
    """All rules; they replace those of before."""

    rules: list[StrictStr] = Field(max_length=100, description="Names or paths, like password or data.card.number.")


class KeyOut(_Answer):
    id: UUID
    kind: str
    name: str
    prefix: str
    operator: bool
    scopes: list[str]
    created_at: dt.datetime
    expires_at: dt.datetime | None
    last_used_at: dt.datetime | None
    replaces: UUID | None
    revoked_at: dt.datetime | None


class IssuedKeyOut(KeyOut):
    key: str = Field(description="The key itself, this once.")


class AuditEntryOut(_Answer):
    id: UUID
    at: dt.datetime
    actor_kind: str
    actor: str
    verb: str
    object_kind: str | None
    object_id: str | None
    details: dict[str, Any]
    request_id: str | None
    origin: str | None = Field(description="A keyed hash of the address: the same one for the same address.")


class AuditOut(_Answer):
    entries: list[AuditEntryOut]
    next_cursor: str | None
    searched_to: dt.datetime | None = Field(
        description="Of a search that stopped before its page was full: older entries were not looked at yet."
    )


class RulesOut(_Answer):
    rules: list[str]


@router.get("/keys", response=list[KeyOut])
def list_keys(request: ApiRequest, ended: bool = False) -> list[dict[str, Any]]:
    """The organization's keys in force, newest first; with `ended` also those that are revoked or have expired."""
    return [presenters.key_out(each) for each in key_selectors.keys(request.organization, ended=ended)]


@router.post("/keys", response={201: IssuedKeyOut})
def issue_key(request: ApiRequest, payload: KeyIn) -> Status[dict[str, Any]]:
    """Issue a key. The answer shows it, this once."""
    row, key = access_keys.issue(
        request.organization,
        payload.kind,
        payload.name,
        scopes=payload.scopes,
        operator=payload.operator,
        expires_at=moment(payload.expires_at, "expiresAt") if payload.expires_at else None,
        by=request.auth,
    )
    return Status(201, presenters.issued_out(row, key))


@router.post("/keys/{uuid:key_id}/rotate", response={201: IssuedKeyOut})
def rotate_key(request: ApiRequest, key_id: UUID, payload: RotateIn | None = None) -> Status[dict[str, Any]]:
    """Issue a successor with the same rights. The old key expires after the overlap."""
    wanted = payload or RotateIn.model_validate({})
    overlap = dt.timedelta(milliseconds=milliseconds(wanted.overlap, "overlap"))
    row, key = access_keys.rotate(request.organization, key_id, overlap=overlap, by=request.auth)
    return Status(201, presenters.issued_out(row, key))


@router.post("/keys/{uuid:key_id}/revoke", response=KeyOut)
def revoke_key(request: ApiRequest, key_id: UUID) -> dict[str, Any]:
    """Refuse a key from now on. Its live streams end within seconds."""
    return presenters.key_out(access_keys.revoke(request.organization, key_id))


@router.post("/keys/{uuid:key_id}/rename", response=KeyOut)
def rename_key(request: ApiRequest, key_id: UUID, payload: RenameIn) -> dict[str, Any]:
    """Give a key another name. What it is and may stays."""
    return presenters.key_out(access_keys.rename(request.organization, key_id, payload.name))


@router.get("/audit", response=AuditOut)
def list_audit(
    request: ApiRequest,
    actor: str = "",
    actorKind: Literal["", "login", "key", "command", "system"] = "",  # noqa: N803
    verb: str = "",
    objectKind: str = "",  # noqa: N803
    objectId: str = "",  # noqa: N803
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    limit: int = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """Who changed what, newest first, page by page. `verb` may end with `*` (`run.*`).

    A page looks through at most 10,000 entries, or for 150 ms; then it says how far back it came.
    """
    where = audit_selectors.AuditFilter(
        actor=actor, actor_kind=actorKind, verb=verb, object_kind=objectKind, object_id=objectId, since=since,
        until=until,
    )  # fmt: skip
    page = audit_selectors.entries(request.organization, where, limit=limit, cursor=cursor)
    return presenters.audit_out(page)


@router.get("/redaction", response=RulesOut)
def get_rules(request: ApiRequest) -> dict[str, Any]:
    """The fields of payloads whose values nobody is shown."""
    return {"rules": list(request.organization.redaction)}


@router.put("/redaction", response=RulesOut)
def put_rules(request: ApiRequest, payload: RulesIn) -> dict[str, Any]:
    """Replace the rules. They hold everywhere within seconds, for what is stored already too."""
    return {"rules": redacting.set_rules(request.organization, payload.rules)}
