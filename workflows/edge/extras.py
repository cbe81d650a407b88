"""Packages that a project adds when it wants what they are for: the extras of `headrace`."""

from __future__ import annotations

import importlib
from types import ModuleType

from workflows.errors import WorkflowsError


class MissingExtra(WorkflowsError):
    """A package is not installed."""

    status, code = 501, "missing_extra"


def extra(module: str, name: str) -> ModuleType:
    """The module of an extra's package. Raises MissingExtra, which says what to install, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtra(
            f"This needs the package {error.name}, which is not installed: pip install 'headrace[{name}]'"
        ) from None
