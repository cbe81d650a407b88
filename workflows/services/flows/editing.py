"""Definitions that are written by hand, in a page: checked against what is there, and published over what was seen."""

from __future__ import annotations

from workflows.definitions import document
from workflows.definitions.schema import FlowSpec
from workflows.definitions.validate import DefinitionProblems, Problem, parse
from workflows.errors import FlowBeingDeleted, FlowExists, InvalidInput
from workflows.models import Flow, Organization
from workflows.services.flows import archiving, trigger_rows
from workflows.services.runs import Applied, apply_definition


def check(organization: Organization, text: str, flow: Flow | None) -> FlowSpec:
    """The definition in the text; `flow`: the one that it is to be the next version of, None for a new one.

    Raises DefinitionProblems with everything that publishing would refuse, InvalidInput for a flow in Python,
    FlowExists, and FlowBeingDeleted.
    """
    if flow is not None:
        refuse_code(flow)
    spec = parse(document.loads(text))
    if flow is None and Flow.objects.filter(organization=organization, slug=spec.flow).exists():
        raise FlowExists.of(spec.flow, organization.slug)
    if flow is not None and spec.flow != flow.slug:
        reason = f"this is the flow {flow.slug!r}; its name can't change. Publish a new flow instead"
        raise DefinitionProblems([Problem(file="", path="flow", reason=reason)])
    if flow is not None and flow.deletion_asked_at is not None:
        raise FlowBeingDeleted
    if problems := trigger_rows.problems(flow, spec):
        raise DefinitionProblems(problems)
    return spec


def refuse_code(flow: Flow) -> None:
    """Raises InvalidInput for a flow in Python: the next deployment would publish its code over what is written."""
    if flow.kind == Flow.Kind.CODE:
        raise InvalidInput(f"{flow.slug} is written in Python: change its code, and publish it with your deployment.")


def number_of(flow: Flow | None) -> int:
    """The number of the version that a text written now is a change of; 0 where nothing is published."""
    return flow.current.number if flow is not None and flow.current else 0


def refuse_stale(flow: Flow, seen: int) -> None:
    """Raises InvalidInput where another version is published by now than the one that was changed."""
    if (now := number_of(flow)) != seen:
        raise InvalidInput(
            f"Version {now} was published meanwhile, and this text is a change of version {seen}: nothing was "
            f"published. Compare them, and publish again if this is to replace it."
        )


def publish(organization: Organization, text: str, flow: Flow | None, *, seen: int) -> Applied:
    """Publish the definition in the text, in the transaction of the caller. `seen`: the number of the version that its
    author has changed; 0 for a new flow.

    Raises what `check` raises, and InvalidInput where another version was published meanwhile.
    """
    if flow is not None:
        flow = archiving.lock(flow.id)
        refuse_stale(flow, seen)
    spec = check(organization, text, flow)
    return apply_definition(organization, spec, source=text, only_new=flow is None)


def sentence_of(applied: Applied) -> str:
    """What publishing did."""
    back = " It was archived, and is back." if applied.unarchived else ""
    if applied.changed:
        return f"Version {applied.version.number} is published: new runs take it.{back}"
    return f"It means the same as version {applied.version.number}: the text is kept, and no version is made.{back}"
