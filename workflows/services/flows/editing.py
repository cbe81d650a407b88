"""Definitions that are written by hand, in a page: checked against what is there, and published over what was seen."""

from __future__ import annotations

from workflows.definitions import document
from workflows.definitions.schema import FlowSpec
from workflows.definitions.validate import DefinitionProblems, Problem, parse
from workflows.errors import FlowBeingDeleted, FlowExists, InvalidInput
from workflows.models import Flow, Organization
from workflows.services.flows import trigger_rows
from workflows.services.runs import Applied, apply_definition


def check(organization: Organization, text: str, flow: Flow | None) -> FlowSpec:
    """The definition in the text; `flow`: the one that it is to be the next version of, None for a new one.

    Raises DefinitionProblems with everything that publishing would refuse, FlowExists, and FlowBeingDeleted.
    """
    spec = parse(document.loads(text))
    if flow is None:
        if Flow.objects.filter(organization=organization, slug=spec.flow).exists():
            raise FlowExists.of(spec.flow, organization.slug)
        return spec
    if spec.flow != flow.slug:
        reason = f"this is the flow {flow.slug!r}; its name can't change. Publish a new flow instead"
        raise DefinitionProblems([Problem(file="", path="flow", reason=reason)])
    if flow.deletion_asked_at is not None:
        raise FlowBeingDeleted
    if problems := trigger_rows.problems(flow, spec):
        raise DefinitionProblems(problems)
    return spec


def publish(organization: Organization, text: str, flow: Flow | None, *, seen: int) -> Applied:
    """Publish the definition in the text, in the transaction of the caller. `seen`: the number of the version that its
    author has changed; 0 for a new flow.

    Raises what `check` raises, and InvalidInput where another version was published meanwhile.
    """
    if flow is not None:
        flow = Flow.objects.select_for_update().get(id=flow.id)
        now = flow.current.number if flow.current else 0
        if now != seen:
            raise InvalidInput(
                f"Version {now} was published meanwhile, and this text is a change of version {seen}: nothing was "
                f"published. Compare them, and publish again if this is to replace it."
            )
    spec = check(organization, text, flow)
    return apply_definition(organization, spec, source=text, only_new=flow is None)
