"""Authentication by API key: `Authorization: Bearer hr_api_…`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from workflows.models import AccessKey, Organization
from workflows.services import access_keys


class ApiRequest(HttpRequest):
    """A request whose key has been checked."""

    auth: Any
    organization: Organization


def who(request: ApiRequest) -> str:
    """The caller, for an audit trail."""
    return f"API key {request.auth.prefix}… ({request.auth.name})"


class ApiKeyAuth(HttpBearer):
    """Finds the organization of a key that has not been revoked, and puts it on the request."""

    def authenticate(self, request: HttpRequest, token: str) -> AccessKey | None:
        key = access_keys.find_valid(token, AccessKey.Kind.API)
        if key is not None:
            request.organization = key.organization  # type: ignore[attr-defined]
        return key
