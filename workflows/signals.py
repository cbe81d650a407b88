"""What the engine announces to the rest of the project."""

from django.dispatch import Signal

# Sent once per recorded group that holds failures for good, within its transaction.
# Arguments: failures (list of engine.rows.StepFailed), cursor (psycopg, of the open transaction).
steps_failed = Signal()

# Sent in the transaction of a repair, before it is planned. Arguments: run (the one that is repaired), root_id (the run
# that failed first), force. Receivers lock and return the keys of the steps that have failures to be repaired.
repair_begins = Signal()

# Sent in the same transaction, when the repair is made. Arguments: repair (workflows.repair_chain.Repair).
run_repaired = Signal()
