"""What was published by earlier rules, and would be refused by today's: it goes on, and `doctor` names it."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.definitions.json_schema import SchemaRefused, compile_schema
from workflows.definitions.validate import DefinitionProblems, parse
from workflows.errors import WorkflowsError
from workflows.models import EventSchema, Flow

MAX_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A current flow, or the schema of an event name, with the reasons that publishing it would give."""

    organization: str
    kind: str
    name: str
    reasons: list[str]


def refused_today() -> list[Refused]:
    """The current flows and event schemas, of all organizations, that could not be published as they are."""
    found: list[Refused] = []
    flows = (
        Flow.objects.filter(archived_at=None)
        .exclude(current=None)
        .select_related("current", "organization")
        .order_by("slug")
    )
    for flow in flows.iterator(chunk_size=100):
        assert flow.current is not None
        reasons = _of_definition(flow.current.definition)
        if reasons:
            found.append(Refused(organization=flow.organization.slug, kind="flow", name=flow.slug, reasons=reasons))
    for row in EventSchema.objects.select_related("organization").order_by("name").iterator(chunk_size=100):
        try:
            compile_schema(row.schema)
        except SchemaRefused as error:
            reasons = [f"{problem.at('schema')}: {problem.message}" for problem in error.problems[:MAX_REASONS]]
            found.append(Refused(organization=row.organization.slug, kind="schema", name=row.name, reasons=reasons))
    return found


def _of_definition(definition: object) -> list[str]:
    try:
        parse(definition, from_code=True)
    except DefinitionProblems as error:
        return [str(problem) for problem in error.problems[:MAX_REASONS]]
    except WorkflowsError as error:
        return [str(error)]
    return []
