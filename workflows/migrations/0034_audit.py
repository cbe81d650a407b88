import uuid6
from django.db import migrations, models

WRITTEN_ONCE = """
CREATE FUNCTION headrace_audit_is_written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('headrace.retention', true) = '1' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'An audit entry is written once: it is neither changed nor deleted.'
          USING HINT = 'Retention deletes old ones, with SET LOCAL headrace.retention = ''1''.';
END $$;
CREATE TRIGGER headrace_audit_is_written_once BEFORE UPDATE OR DELETE ON headrace_workflows_auditentry
    FOR EACH ROW EXECUTE FUNCTION headrace_audit_is_written_once();
"""
BACK = """
DROP TRIGGER headrace_audit_is_written_once ON headrace_workflows_auditentry;
DROP FUNCTION headrace_audit_is_written_once();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("headrace_workflows", "0033_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid6.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "org_id",
                    models.UUIDField(
                        blank=True,
                        help_text="Empty: of no single organization.",
                        null=True,
                        verbose_name="organization",
                    ),
                ),
                ("at", models.DateTimeField()),
                (
                    "actor_kind",
                    models.CharField(
                        choices=[
                            ("login", "login"),
                            ("key", "API key"),
                            ("command", "command"),
                            ("system", "system"),
                        ],
                        max_length=10,
                    ),
                ),
                ("actor", models.CharField(max_length=200)),
                ("verb", models.CharField(max_length=100)),
                ("object_kind", models.CharField(blank=True, max_length=50)),
                ("object_id", models.CharField(blank=True, max_length=200)),
                ("details", models.JSONField(blank=True, default=dict)),
                ("request_id", models.CharField(blank=True, max_length=100)),
                (
                    "origin",
                    models.CharField(blank=True, help_text="A keyed hash of the address it came from.", max_length=16),
                ),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["org_id", "-id"], name="audit_by_org"),
                    models.Index(fields=["at"], name="audit_by_time"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("actor_kind__in", ["login", "key", "command", "system"])),
                        name="audit_actor_kind",
                    )
                ],
            },
        ),
        migrations.RunSQL(WRITTEN_ONCE, BACK),
    ]
