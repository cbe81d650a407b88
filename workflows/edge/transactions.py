"""Whose transaction is open: what is stored here must end with the caller's."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS, connections

from workflows.errors import OtherTransaction


def refuse_other(what: str) -> None:
    """Raises OtherTransaction within `atomic()` of another database only: what is stored would stay where that is
    rolled back. `what` names the call."""
    if connections[DEFAULT_DB_ALIAS].in_atomic_block:
        return
    for each in connections.all(initialized_only=True):
        if each.in_atomic_block:
            raise OtherTransaction(
                f"{what} within atomic(using={each.alias!r}): runs and events are stored in {DEFAULT_DB_ALIAS!r}, and "
                f"would stay where that transaction is rolled back. Do it after the block, in transaction.on_commit(…, "
                f"using={each.alias!r}), or open atomic() of {DEFAULT_DB_ALIAS!r} around it."
            )
