"""What a form of the test page begins with: the input of a run, or an earlier try; shown without what is hidden."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workflows import services
from workflows.edge.values import identifier
from workflows.models import Example, Organization
from workflows.services import repair
from workflows.services.access import hidden


@dataclass(frozen=True, kw_only=True)
class Begin:
    """The value that a form begins with, and where it is from: `like` (a run) or `example`; neither for a new one.

    `name`: what the value is (`input`); empty for events, whose own names say it.
    """

    organization: Organization
    name: str
    value: Any = hidden.NOTHING
    like: str = ""
    example: str = ""

    @property
    def _runs(self) -> list[UUID]:
        return [UUID(self.like)] if self.like else []

    @property
    def text(self) -> str:
        """As the form shows it; empty for a new one."""
        if self.value is hidden.NOTHING:
            return ""
        shown = hidden.editable(self.organization.id, self.value, self.name, self._runs)
        return json.dumps(shown, indent=2, ensure_ascii=False)

    def meant(self, given: Any) -> Any:
        """The value that the form sends back, with what was hidden. Raises InvalidInput."""
        return hidden.restored(self.organization.id, given, self.value, name=self.name, ids=self._runs)


def begin_of(organization: Organization, given: Mapping[str, Any], kept: Sequence[Example], *, name: str) -> Begin:
    """What the form begins with: the run that `like` names, the example that `example` names, or nothing."""
    like = given.get("like", "")
    if like:
        run = services.get_run(organization, identifier(like, "like"))
        return Begin(organization=organization, name=name, value=repair.own_input(run), like=str(run.id))
    found = next((each for each in kept if str(each.id) == given.get("example")), None)
    if found is None:
        return Begin(organization=organization, name=name)
    return Begin(organization=organization, name=name, value=json.loads(found.text), example=str(found.id))


def shown_examples(organization: Organization, kept: Sequence[Example], *, name: str) -> list[dict[str, Any]]:
    """The examples as a page lists them: {id, text, used_at}."""
    return [
        {"id": each.id, "used_at": each.used_at, "text": Begin(
            organization=organization, name=name, value=json.loads(each.text)).text}
        for each in kept
    ]  # fmt: skip
