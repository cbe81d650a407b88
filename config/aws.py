"""Settings from one secret of AWS Secrets Manager: `HEADRACE_AWS_SECRET` names it, its JSON object has variables.

What the environment itself sets wins. The secret is read once, at the start of a process; its children have the
variables from their parent.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping

from throttling.errors import EnvironmentValueError
from workflows.edge import aws
from workflows.errors import WorkflowsError

READ = "HEADRACE_AWS_SECRET_READ"
"""Set once it was read: the name of the secret."""
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,199}")


def load(env: MutableMapping[str, str]) -> None:
    """Set the variables of the secret that the environment names and that it does not set itself.

    Raises EnvironmentValueError where it can't be read, or has a name that no variable has.
    """
    name = env.get("HEADRACE_AWS_SECRET", "").strip()
    if not name or env.get(READ) == name:
        return
    try:
        found = aws.read_secret(name)
    except WorkflowsError as error:
        raise EnvironmentValueError(f"HEADRACE_AWS_SECRET={name!r}: {error}") from None
    if found is None:
        raise EnvironmentValueError(f"HEADRACE_AWS_SECRET={name!r}: there is no such secret in this region")
    for variable, value in found.items():
        if _VARIABLE.fullmatch(variable) is None or "\0" in value:
            raise EnvironmentValueError(f"HEADRACE_AWS_SECRET={name!r}: {variable[:50]!r} can be no variable")
        if not env.get(variable):
            env[variable] = value
    env[READ] = name
