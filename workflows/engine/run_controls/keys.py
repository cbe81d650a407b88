"""The keys by which runs are told apart: values of CEL expressions, of a limit, a control or an idempotency key."""

from __future__ import annotations

from throttling.errors import ThrottlingError
from workflows.errors import ExpressionError


def why_unusable(error: ExpressionError | ThrottlingError, source: str) -> str:
    """Why the expression gives no key: it can't be evaluated, or its value is no text, number or boolean."""
    return str(error) if isinstance(error, ExpressionError) else f"`{source}` {error}"
