"""Reads of the items of containers, for screens and API."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from workflows.edge.values import check_limit, whole_number
from workflows.engine.state import flow_cache
from workflows.errors import InvalidInput, StepRunNotFound
from workflows.models import Item, Organization, Run, StepRun
from workflows.selectors.runs import StepDetail, attempts_of


@dataclass(frozen=True, kw_only=True)
class ItemDetail:
    """An item of a container with its steps."""

    item: Item
    steps: list[StepDetail]


def items_page(
    organization: Organization, step_run_id: UUID, *, status: str = "", limit: int = 50, cursor: str = ""
) -> tuple[list[ItemDetail], str]:
    """The items of a container in order, page by page. Raises StepRunNotFound, or InvalidInput for a bad argument."""
    check_limit(limit)
    container = StepRun.objects.filter(org_id=organization.id, id=step_run_id).first()
    if container is None or not Run.objects.filter(id=container.run_id).exists():  # its rest is being deleted
        raise StepRunNotFound
    found = Item.objects.filter(container_id=step_run_id)
    if status and status not in Item.Status.values:
        raise InvalidInput(f"status {status!r} is unknown; use {', '.join(Item.Status.values)}.")
    if status:
        found = found.filter(status=status)
    if cursor:
        after = whole_number(cursor)
        if after is None:
            raise InvalidInput("cursor: not one of this list; start without a cursor.")
        found = found.filter(index__gt=after)
    items = list(found.order_by("index")[: limit + 1])
    page = items[:limit]
    indexes = [item.index for item in page]
    rows = list(StepRun.objects.filter(container_id=step_run_id, index__in=indexes).order_by("position"))
    attempts = attempts_of(container.run_id, rows)
    flow = flow_cache.find(container.version_id)
    compiled = flow.steps if flow is not None else {}
    steps: dict[int, list[StepDetail]] = defaultdict(list)
    for row in rows:
        steps[row.index or 0].append(
            StepDetail(step_run=row, attempts=attempts[row.id], compiled=compiled.get(row.key))
        )
    more = str(page[-1].index) if len(items) > limit else ""
    return [ItemDetail(item=item, steps=steps[item.index]) for item in page], more
