"""The jobs of the documents as flows in Python. `HEADRACE_FLOW_MODULES=examples.python` gives a worker all of them.

What each was before, and which flow does it here: docs/explanation/from_other_systems.md.
"""

from examples.python import (
    campaigns,
    composition,
    failures,
    first_steps,
    imports,
    limits,
    priorities,
    reports,
    retries,
    schedules,
    signup,
    webhooks,
)

__all__ = [
    "campaigns",
    "composition",
    "failures",
    "first_steps",
    "imports",
    "limits",
    "priorities",
    "reports",
    "retries",
    "schedules",
    "signup",
    "webhooks",
]
