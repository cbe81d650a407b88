"""Figures of a step that screens, the API and streams show alike."""

from __future__ import annotations

from collections.abc import Sequence

from workflows.models import Attempt


def retry_count(status: str, attempts: Sequence[Attempt]) -> int:
    """How many tries followed a failed one: all failed ones, but for the last of a step that failed for good. None of a
    step whose outcome was taken over from another run."""
    failed = sum(1 for attempt in attempts if attempt.status == "failed")
    return max(0, failed - (status == "failed"))
