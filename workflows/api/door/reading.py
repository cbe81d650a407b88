"""Which requests for a run are plain, and their answers: `GET /api/runs/{id}` without anything unusual about it.

Half of the time of such a request went into middlewares and the API library, which had no say in it. It is answered in
the thread that Django would answer it in; whatever is not found, not allowed or not there is left to Django.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from workflows import presenters, selectors
from workflows.api.door.plain import BEARER, Hosts, Scope, headers_of, is_over_tls, is_unusual
from workflows.api.edge.openapi import MEDIA_TYPE_JSON, RENDERER
from workflows.models import AccessKey
from workflows.presenters import redaction
from workflows.services import access_keys

_RUN = re.compile(r"/api/runs/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
Messages = tuple[Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PlainRead:
    """A plain request for a run, by an API key."""

    key: str
    run_id: UUID
    headers: Sequence[tuple[bytes, bytes]]
    """Those that every answer has."""

    def answer(self) -> Messages | None:
        """The messages of the answer; None where it is another one than the run. To be called in a thread."""
        try:
            key = access_keys.find_valid(self.key, AccessKey.Kind.API)
            if key is None:
                return None
            run = presenters.run_out(selectors.run_detail(key.organization, self.run_id))
            content = redaction.answer(key.organization_id, run) if key.organization.redaction else run
            body = str(RENDERER.render(HttpRequest(), content, response_status=200)).encode()
        except Exception:  # whatever it is, Django comes to it again, and says what it is
            return None
        own = [(b"content-type", MEDIA_TYPE_JSON.encode()), (b"content-length", b"%d" % len(body))]
        start = {"type": "http.response.start", "status": 200, "headers": [*own, *self.headers]}
        return start, {"type": "http.response.body", "body": body, "more_body": False}


def plain_read(scope: Scope, hosts: Hosts, headers: Sequence[Sequence[tuple[bytes, bytes]]]) -> PlainRead | None:
    """The request where it is plain; None for every other one. `headers`: of answers over HTTP and over HTTPS."""
    if scope["method"] != "GET" or is_unusual(scope):
        return None
    run = _RUN.fullmatch(scope["path"])
    once = headers_of(scope) if run is not None else None
    if run is None or once is None or once.get(b"content-length", b"0") != b"0":
        return None
    token = BEARER.fullmatch(once.get(b"authorization", b""))
    if token is None or not hosts.serves(once.get(b"host", b"")):
        return None
    return PlainRead(key=token[1].decode(), run_id=UUID(run[1]), headers=headers[is_over_tls(scope, once)])
