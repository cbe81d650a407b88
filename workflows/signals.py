"""What the engine announces to the rest of the project."""

from django.dispatch import Signal

# Sent once per recorded group that holds failures for good, within its transaction.
# Arguments: failures (list of engine.rows.StepFailed), cursor (psycopg, of the open transaction).
steps_failed = Signal()
