"""`/api/limits`: how limits stand, why a step waits, and live overrides."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from ninja import Router
from pydantic import Field, StrictInt, StrictStr

from throttling.errors import ThrottlingError
from throttling.limits import checked_weight
from throttling.models import ThrottleOverride
from workflows.api.edge import operations
from workflows.api.edge.auth import ApiKeyAuth, ApiRequest, who
from workflows.api.schemas.answers import (
    LimitChangeOut,
    LimitRemovedOut,
    LimitsOut,
    OverheadOut,
    OverrideOut,
    ReasonOut,
)
from workflows.api.schemas.requests import Body, milliseconds
from workflows.engine.pipeline import admit
from workflows.errors import Forbidden, InvalidInput, LimitNotFound
from workflows.models import Flow, Organization
from workflows.presenters.limits import change_out, line_out, override_out, reason_out
from workflows.selectors import limits as limit_selectors
from workflows.selectors import waiting_reasons
from workflows.services import limits

router = Router(auth=ApiKeyAuth(), tags=["limits"], by_alias=True)
NO_WEIGHT = (
    "No API key sets a weight, since it decides over the shares of other organizations: an operator does, in the admin "
    "or by `manage.py limits set --organization --weight 2 --org <slug>` (0.01…100)."
)


class RateIn(Body):
    limit: StrictInt = Field(description="Starts in a period; 1 … 1,000,000.")
    period: StrictInt | StrictStr = Field(description="Milliseconds, or text such as 60s.")
    algorithm: Literal["window", "gcra"] = "window"
    burst: StrictInt = 1


class RetryIn(Body):
    attempts: StrictInt | None = None
    backoff: Literal["exponential", "long_exponential", "fixed", "none"] | None = None
    delay: StrictInt | StrictStr | None = None
    max_delay: StrictInt | StrictStr | None = None


class LimitIn(Body):
    """An override; it replaces the one for the same subject."""

    scope: str = Field(description="global, runs, type, flow, org or limit (a shared named one).")
    type: str = ""
    flow: str = Field("", description="A flow's slug.")
    name: str = Field("", description="Of a shared limit.", max_length=100)
    organization: Literal["this", "all"] = Field("this", description="`all` needs an operator's key.")
    concurrency: StrictInt | None = None
    rate: RateIn | None = None
    key: str = Field("", max_length=500, description="CEL: a limit of its own for each value.")
    retry: RetryIn | None = None
    weight: Any = Field(
        None, description="Not by API key: operators set it, in the admin or by `manage.py limits set`."
    )
    note: str = Field("", max_length=500)


def _optional_ms(value: int | str | None, what: str) -> int | None:
    return None if value is None else milliseconds(value, what)


def _subject(request: ApiRequest, scope: str, organization: str) -> Organization | None:
    """The organization that an override is for; None for all, which only an operator may change."""
    if scope in {"global", "runs"} or organization == "all":
        if not request.auth.operator:
            raise Forbidden(
                "This limit holds for all organizations: it takes an operator's key "
                "(`manage.py organization key api --operator`)."
            )
        operations.written_in(request, None)
        return None
    return request.organization


def _flow(request: ApiRequest, organization: Organization | None, slug: str) -> Flow | None:
    """The flow of a slug, if one is named; its organization is the one in which something is changed."""
    if not slug:
        return None
    flow = limits.flow_of(organization, slug)
    operations.written_in(request, flow.organization_id)
    return flow


def _refuse_weight(weight: Any) -> None:
    """Raises InvalidInput for a weight that nobody could set, and Forbidden for any other."""
    if weight is None:
        return
    try:
        checked_weight(weight)
    except ThrottlingError as error:
        raise InvalidInput(str(error)) from None
    raise Forbidden(NO_WEIGHT)


@router.get("", response=LimitsOut)
def list_limits(request: ApiRequest) -> dict[str, Any]:
    """Every limit that this organization may meet: its use, waiters, refusals, next free time; and the overrides."""
    organization = request.organization
    whole = admit.policies().globals()
    return {
        "globalDefaults": {
            "concurrency": whole.concurrency,
            "rateLimit": str(whole.rate),
            "retry": str(whole.retry),
        },
        "limits": [line_out(line) for line in limit_selectors.overview(organization)],
        "overrides": [override_out(row) for row in limits.overrides_for(organization)],
        "neverBinding": limit_selectors.never_binding(organization),
        "revision": admit.policies().revision,
    }


@router.put("", response=OverrideOut)
def put_limit(request: ApiRequest, payload: LimitIn) -> dict[str, Any]:
    """Set an override. It holds on all workers within a second; steps that wait start at once where they may."""
    _refuse_weight(payload.weight)
    organization = _subject(request, payload.scope, payload.organization)
    flow = _flow(request, organization, payload.flow)
    retry = payload.retry or RetryIn()
    row = ThrottleOverride(
        scope=payload.scope,
        type=payload.type,
        flow_id=flow.id if flow else None,
        org_id=organization.id if organization else None,
        name=payload.name,
        concurrency=payload.concurrency,
        rate_limit=payload.rate.limit if payload.rate else None,
        rate_period_ms=_optional_ms(payload.rate.period, "rate.period") if payload.rate else None,
        rate_algorithm=payload.rate.algorithm if payload.rate else "window",
        rate_burst=payload.rate.burst if payload.rate else 1,
        key=payload.key,
        max_attempts=retry.attempts,
        backoff=retry.backoff or "",
        delay_ms=_optional_ms(retry.delay, "retry.delay"),
        max_delay_ms=_optional_ms(retry.max_delay, "retry.maxDelay"),
        note=payload.note,
    )
    return override_out(limits.put_limit(row, by=who(request), keep_weight=True))


@router.delete("", response=LimitRemovedOut)
def delete_limit(
    request: ApiRequest,
    scope: str,
    type: str = "",  # noqa: A002
    flow: str = "",
    name: str = "",
    organization: str = "this",
) -> dict[str, Any]:
    """Remove an override: what is shipped, configured or defined holds again."""
    owner = _subject(request, scope, organization)
    _flow(request, owner, flow)
    row = limits.find_limit(owner, scope, type_=type, flow=flow, name=name)
    if row is None:
        raise LimitNotFound
    removed = override_out(row)
    limits.delete_limit(row, by=who(request), keep_weight=True)
    return {"removed": removed}


@router.get("/explain", response=ReasonOut)
def explain(request: ApiRequest, stepRun: UUID) -> dict[str, Any]:  # noqa: N803
    """Why a step waits: the limit in the way, its use, the position, and when it is expected to start.

    Of one that has ended, and of a run that has (`stepRun` may be its id): what it waited.
    """
    first, *_ = waiting_reasons.explain(request.organization, stepRun)
    return reason_out(first.reason)


@router.get("/history", response=list[LimitChangeOut])
def history(request: ApiRequest, limit: int = 100) -> list[dict[str, Any]]:
    """Who changed which override when, newest first."""
    if not 1 <= limit <= 1_000:
        raise InvalidInput(f"limit {limit} is out of range; use 1…1000.")
    changes = limit_selectors.history(request.organization, everyone=request.auth.operator, limit=limit)
    return [change_out(change) for change in changes]


@router.get("/report", response=list[OverheadOut])
def report(request: ApiRequest, since: str = "1h") -> list[dict[str, Any]]:
    """Which step types lost most time to their limits lately."""
    return limit_selectors.report(request.organization, since_s=milliseconds(since, "since") / 1000)
