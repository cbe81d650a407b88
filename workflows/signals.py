"""What the engine announces to the rest of the project."""

from django.dispatch import Signal

# Sent once per recorded group that holds failures for good, within its transaction.
# Arguments: failures (list of engine.rows.StepFailed), cursor (psycopg, of the open transaction).
steps_failed = Signal()

# Sent when the code of a flow goes on after failures of its steps, and again at each visit. Argument: step_run_ids.
failures_handled = Signal()

# Sent in the transaction of a repair, before it is planned. Arguments: run (the one that is repaired), root_id (the run
# that failed first), force. Receivers lock and return the keys of the steps that have failures to be repaired.
repair_begins = Signal()

# Sent in the same transaction, when the repair is made. Arguments: repair (workflows.engine.repair.chain.Repair).
run_repaired = Signal()

# Sent before a flow is archived or deleted, in that transaction, under its lock. Argument: flow.
# Receivers return what is open of it: a list of (what, ids), both as people read them.
flow_closing = Signal()

# Sent before runs are deleted, with their flow or since they have expired. Argument: run_ids (list of UUID).
runs_deleted = Signal()

# Sent in the transaction that deletes a flow. Argument: flow.
flow_deleted = Signal()

# Sent in the transaction that deletes expired runs, which has locked their rows. Argument: run_ids (list of UUID).
# Receivers lock what they have of them without waiting, and return those that must stay: {run id: reason}.
runs_expire = Signal()

# Sent when a run is looked at. Argument: run. Receivers return the dead letters of its failure: a list of
# selectors.around_run.letters.Letter.
run_letters = Signal()

# Sent when the overview of an organization is shown. Argument: organization.
# Receivers return what they add to it: a dict of names and values (dlq: letters, alerts).
overview_shown = Signal()
