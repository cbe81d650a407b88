from django.db import migrations, models

NUMBER_REPAIRS = """
WITH RECURSIVE edge AS (
    SELECT r.id, r.origin_id
      FROM headrace_workflows_run r JOIN headrace_workflows_run o ON o.id = r.origin_id
     WHERE r.repair_root_id IS NULL
       AND (r.origin_kind = 'resume'
            OR (r.origin_kind = 'replay'
                AND (o.status IN ('failed', 'cancelled')
                     OR EXISTS (SELECT 1 FROM headrace_dlq_deadletter d WHERE d.replay_run_id = r.id))))
), chain AS (
    SELECT e.id, e.origin_id AS root FROM edge e WHERE NOT EXISTS (SELECT 1 FROM edge p WHERE p.id = e.origin_id)
     UNION ALL
    SELECT e.id, c.root FROM chain c JOIN edge e ON e.origin_id = c.id
), numbered AS (
    SELECT id, root, row_number() OVER (PARTITION BY root ORDER BY id) AS number FROM chain
)
UPDATE headrace_workflows_run r SET repair_root_id = n.root, repair_number = n.number FROM numbered n WHERE r.id = n.id
"""
"""The repairs that there are, in the order in which they were made."""

NAME_PLACES = """
WITH named AS (
    SELECT d.id, COALESCE(r.repair_root_id, d.run_id) AS first_run,
           CASE WHEN d.step_run_id IS NULL THEN '(' || d.step_type || ')'
                WHEN s.id IS NULL THEN d.step_key || '#' || d.id
                ELSE COALESCE(NULLIF(s.path, '') || '/', '') || d.step_key END AS place
      FROM headrace_dlq_deadletter d
      LEFT JOIN headrace_workflows_run r ON r.id = d.run_id
      LEFT JOIN headrace_workflows_steprun s ON s.id = d.step_run_id
), ranked AS (
    SELECT id, first_run, place, row_number() OVER (PARTITION BY first_run, place ORDER BY id DESC) AS age FROM named
)
UPDATE headrace_dlq_deadletter d
   SET first_run_id = k.first_run, place = CASE WHEN k.age = 1 THEN k.place ELSE k.place || '#' || d.id END,
       repairing = d.status = 'reprocessed'
                   AND EXISTS (SELECT 1 FROM headrace_workflows_run r
                       WHERE r.id = d.replay_run_id AND r.ended_at IS NULL)
  FROM ranked k
 WHERE d.id = k.id
"""
"""A chain of repairs had a letter for each of its failures: the newest is the one that goes on."""

CLOSE_REPAIRED = """
WITH done AS (
    SELECT DISTINCT ON (d.id) d.id, r.id AS run_id, r.ended_at
      FROM headrace_dlq_deadletter d
      JOIN headrace_workflows_steprun old ON old.id = d.step_run_id
      JOIN headrace_workflows_run r ON r.repair_root_id = d.first_run_id AND r.id > d.run_id AND r.status = 'completed'
      JOIN headrace_workflows_steprun s ON s.run_id = r.id AND s.key = old.key AND s.path = old.path
           AND s.status = 'completed'
     WHERE d.status = 'failed'
     ORDER BY d.id, r.repair_number
), closed AS (
    UPDATE headrace_dlq_deadletter d
       SET status = 'reprocessed', replay_run_id = done.run_id, reprocessed_at = done.ended_at, auto_replay_at = NULL
      FROM done WHERE d.id = done.id
    RETURNING d.id, d.replay_run_id
)
INSERT INTO headrace_dlq_deadletterchange (letter_id, what, by, at, reason, run_id, patch)
SELECT id, 'closed', 'the upgrade', clock_timestamp(), 'That run had repaired it, and completed.', replay_run_id,
       '[]'::jsonb
  FROM closed
"""
"""Letters that stayed open although a resume of their run (`runs replay`, the dashboard) had done their step."""


class Migration(migrations.Migration):
    """One letter for each step that failed, however often it is repaired: see ADR 14."""

    replaces = [("dlq", "0003_repair")]

    dependencies = [("headrace_dlq", "0002_priority_target"), ("headrace_workflows", "0022_repair")]

    operations = [
        migrations.AddField("deadletter", "first_run_id", models.UUIDField(null=True)),
        migrations.AddField("deadletter", "place", models.TextField(null=True)),
        migrations.AddField(
            "deadletter",
            "repairing",
            models.BooleanField(db_default=False, help_text="The run that repeats its run has not ended yet."),
        ),
        migrations.RunSQL(NUMBER_REPAIRS, migrations.RunSQL.noop),
        migrations.RunSQL(NAME_PLACES, migrations.RunSQL.noop),
        migrations.RunSQL(CLOSE_REPAIRED, migrations.RunSQL.noop),
        migrations.AlterField(
            "deadletter",
            "first_run_id",
            models.UUIDField(help_text="The run that failed first: this one, or the one that it repairs."),
        ),
        migrations.AlterField(
            "deadletter",
            "place",
            models.TextField(help_text="The step that failed, and where in nested maps and loops."),
        ),
        migrations.AlterField("deadletter", "run_id", models.UUIDField(help_text="The run that failed last.")),
        migrations.AddConstraint(
            "deadletter", models.UniqueConstraint(fields=["first_run_id", "place"], name="dead_letter_once")
        ),
    ]
