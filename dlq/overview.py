"""What dead letters and alerts add to the overview of an organization."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from dlq.models import Alert, DeadLetter
from workflows.models import Organization

MOST_COUNTED = 1_000
SHOWN = 5


def shown(*, organization: Organization, **_: Any) -> dict[str, Any]:
    """Receiver of `workflows.signals.overview_shown`: the open letters, counted up to a bound, and what fires."""
    letters = DeadLetter.objects.filter(org_id=organization.id, status=DeadLetter.Status.FAILED)
    ids = letters.order_by("-id").values_list("id", flat=True)[: MOST_COUNTED + 1]
    firing = Alert.objects.filter(org_id=organization.id, recovered_at=None).exclude(rule=None)
    alerts = list(firing.select_related("rule").order_by("-fired_at")[: SHOWN + 1])
    return {
        "letters": min(len(ids), MOST_COUNTED),
        "letters_more": len(ids) > MOST_COUNTED,
        "latest_letter": letters.order_by("-id").only("failed_at", "error_message", "step_key", "run_id").first(),
        "alerts": alerts[:SHOWN],
        "alerts_more": len(alerts) > SHOWN,
        "at": timezone.now(),
    }
