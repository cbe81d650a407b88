"""The test kit: `from headrace.testing import FlowKit`. In pytest the fixture `flow_kit` gives one.

It is loaded when it is first asked for: importing this module needs no settings of Django.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workflows.functions import testing  # noqa: PLC0415

    if name in testing.__all__:
        return getattr(testing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(testing.__all__)}")
