"""The ids of a run's own steps: made of the run's id and the step's position, so that they are known without a look.

`insert_runs.sql` makes them in the same way. Steps in containers, compensations and the steps of forks have ids of
their own.
"""

from __future__ import annotations

from uuid import UUID


def step_run_id(run_id: UUID, position: int) -> UUID:
    """The id of the step at a position of a run: a uuid7 of the run's moment, which sorts by position within the run.

    The run's first 64 bits, the variant with the position, and the run's last 48 bits with their last byte inverted
    (else a run whose random bits are a position would have the id of its own step).
    """
    source = run_id.bytes
    return UUID(bytes=source[:8] + (0x8000 | position).to_bytes(2, "big") + source[10:15] + bytes([255 - source[15]]))
