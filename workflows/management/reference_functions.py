"""The reference page of flows in Python, from the signatures and docstrings of the code."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from workflows import functions
from workflows.functions import declarations, tools
from workflows.management.reference_forms import page


def python_flows() -> str:
    """The page docs/reference/python_flows.md."""
    return page(
        "Flows in Python",
        "`from workflows.functions import …`. [Write flows in Python](../howto/flows_in_python.md) shows how.",
        "## @flow",
        _entry(functions.flow, "flow"),
        "## What a flow declares",
        *(_declared(each) for each in _declarations()),
        "## step",
        inspect.cleandoc(tools.__doc__ or ""),
        *(_entry(member, f"step.{name}") for name, member in _members()),
        "## What the code sees",
        _text("ReceivedEvent", functions.ReceivedEvent),
        _text("StepFailed", functions.StepFailed),
    )


def _declarations() -> list[type[Any]]:
    found = (getattr(declarations, name) for name in functions.__all__ if hasattr(declarations, name))
    return [each for each in found if dataclasses.is_dataclass(each) and isinstance(each, type)]


def _members() -> list[tuple[str, Any]]:
    found = [(name, member) for name, member in vars(tools.Step).items() if not name.startswith("_")]
    return [(name, member) for name, member in found if callable(member) or isinstance(member, property)]


def _entry(member: Any, name: str) -> str:
    if isinstance(member, property):
        return f"### {name}\n\n{inspect.cleandoc(member.__doc__ or '')}"
    return f"### {name}\n\n`{name}{_signature(member)}`\n\n{inspect.cleandoc(member.__doc__ or '')}"


def _signature(function: Callable[..., Any]) -> str:
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    shown = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(shown))


def _declared(kind: type[Any]) -> str:
    given = ", ".join(
        each.name if each.default is dataclasses.MISSING else f"{each.name}={each.default!r}"
        for each in dataclasses.fields(kind)
    )
    return f"### {kind.__name__}\n\n`{kind.__name__}({given})`\n\n{inspect.cleandoc(kind.__doc__ or '')}"


def _text(name: str, kind: type[Any]) -> str:
    return f"### {name}\n\n{inspect.cleandoc(kind.__doc__ or '')}"
