"""Headrace: durable workflows for Django and Celery teams.

`from headrace import flow, step` gives the tools of flows in Python; they are loaded when they are first asked for, so
that importing this package costs nothing and needs no Django.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

_TOOLS = "workflows.functions"
"""The module whose `__all__` says what this package has besides its modules."""


def _tools() -> Any:
    return importlib.import_module(_TOOLS) if importlib.util.find_spec(_TOOLS) else None


def __getattr__(name: str) -> Any:
    if name == "celery_app":
        return importlib.import_module("workflows.this_process.celery_app").app
    if not name.startswith("_") and name not in {"app", "celery"}:
        tools = _tools()
        if name in getattr(tools, "__all__", ()):
            return getattr(tools, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "celery_app", *getattr(_tools(), "__all__", ())})
