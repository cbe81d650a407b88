"""The tables of dead letters and of alerts."""

from dlq.models.alert import Alert, AlertChannel, AlertNotification, AlertRule
from dlq.models.letter import DeadLetter, DeadLetterChange, DeadLetterComment, DeadLetterGroup

__all__ = [
    "Alert",
    "AlertChannel",
    "AlertNotification",
    "AlertRule",
    "DeadLetter",
    "DeadLetterChange",
    "DeadLetterComment",
    "DeadLetterGroup",
]
