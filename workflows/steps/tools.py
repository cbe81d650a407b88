"""What the handlers of step types ask of the engine and the services, which import the step types themselves: their
functions are put in here when the application starts (`workflows.apps`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID


def _not_installed(*_: Any, **__: Any) -> Any:
    raise RuntimeError("The step types are used before the application has started.")


class StoredTokens(Protocol):
    """A row of the stored tokens of a credential, encrypted."""

    @property
    def refresh_token(self) -> bytes | None: ...
    @property
    def access_token(self) -> bytes | None: ...
    @property
    def good_s(self) -> float | None: ...
    @property
    def generation(self) -> int: ...


class SeenTokens(StoredTokens, Protocol):
    @property
    def leased(self) -> bool: ...


class ClaimedTokens(StoredTokens, Protocol):
    @property
    def mine(self) -> bool: ...


class TokenStatements(Protocol):
    """The statements of the engine about stored tokens (`workflows.engine.sql.services`)."""

    def look_at_oauth_tokens(self, *, org: UUID, identity: str, stale: str) -> Sequence[SeenTokens]: ...
    def claim_oauth_refresh(
        self, *, id: UUID, org: UUID, identity: str, stale: str, lease: UUID, lease_s: float
    ) -> Sequence[ClaimedTokens]: ...
    def store_oauth_tokens(
        self,
        *,
        org: UUID,
        identity: str,
        generation: int,
        refresh_token: bytes | None,
        access_token: bytes,
        digest: str,
        good_s: float,
    ) -> object: ...
    def release_oauth_refresh(self, *, org: UUID, identity: str, lease: UUID, refused: bool) -> None: ...
    def adopt_oauth_credential(self, *, org: UUID, identity: str, older: Sequence[str]) -> None: ...
    def forget_oauth_credentials(self, *, org: UUID, unused_s: float) -> None: ...


class TaskWatch(Protocol):
    """The watch of a Celery task that a step runs. `begun`: the task is sent, or was; `ended`: {state, result} or
    {state, error}."""

    @property
    def begun(self) -> Awaitable[None]: ...
    @property
    def ended(self) -> Awaitable[dict[str, Any]]: ...
    @property
    def age_s(self) -> float: ...
    def revoke(self, reason: str) -> None: ...
    def close(self) -> None: ...


@dataclass(kw_only=True)
class Tools:
    """`send_events(org_id, [(id, name, data, user), …])` stores events once; `invoke(org_id, flow, data, …)` starts a
    child run and gives its id; `watch(context)` sends the Celery task of a step once, and watches it; `tokens` are the
    statements about stored OAuth tokens. `visit_function` visits a flow in Python, `perform_call` performs one of the
    steps that it has asked for; `code_digests` are those of this process, by flow."""

    send_events: Callable[[UUID, Sequence[tuple[UUID, str, dict[str, Any], dict[str, Any]]]], None] = _not_installed
    invoke: Callable[..., UUID] = _not_installed
    watch: Callable[..., TaskWatch] = _not_installed
    tokens: TokenStatements | None = None
    visit_function: Callable[[Any], Any] = _not_installed
    perform_call: Callable[[Any], Any] = _not_installed
    code_digests: Callable[[], dict[str, str]] = _not_installed


TOOLS = Tools()
