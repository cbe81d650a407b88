import re
from itertools import count
from typing import Any

from django.db import migrations, models
from django.db.models import Deferrable, Q


def name_triggers(apps: Any, schema_editor: Any) -> None:
    """Give every trigger an id within its flow, by its kind and name (of a cron: its zone), in their order."""
    trigger = apps.get_model("headrace_workflows", "Trigger")
    taken: set[tuple[Any, str]] = set()
    rows = []
    for row in trigger.objects.order_by("flow_id", "position"):
        name = row.config.get("timezone", "UTC") if row.kind == "cron" else row.event_name.removeprefix("webhook.")
        base = f"{row.kind}-{re.sub(r'[^A-Za-z0-9_]+', '-', name).strip('-')}".strip("-")[:90]
        keys = (base if number == 1 else f"{base}-{number}" for number in count(1))
        row.key = next(key for key in keys if (row.flow_id, key) not in taken)
        taken.add((row.flow_id, row.key))
        rows.append(row)
    trigger.objects.bulk_update(rows, ["key"], batch_size=500)


class Migration(migrations.Migration):
    replaces = [("workflows", "0021_trigger_identity")]
    dependencies = [("headrace_workflows", "0020_source")]

    operations = [
        migrations.AddField(
            model_name="flow",
            name="archived_at",
            field=models.DateTimeField(
                blank=True,
                help_text="Since then it starts nothing. Its slug stays its own: publishing brings it back.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="flow",
            name="deletion_asked_at",
            field=models.DateTimeField(
                blank=True, help_text="Since then it is being deleted with all its history, in batches.", null=True
            ),
        ),
        migrations.AddConstraint(
            model_name="flow",
            constraint=models.CheckConstraint(
                condition=Q(("deletion_asked_at", None)) | ~Q(("archived_at", None)),
                name="flow_deleted_is_archived",
            ),
        ),
        migrations.AddField(
            model_name="trigger",
            name="key",
            field=models.CharField(
                default="",
                help_text="The `id` of its definition; where that has none, a made one.",
                max_length=100,
                verbose_name="id within the flow",
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="trigger",
            name="named",
            field=models.BooleanField(db_default=False, help_text="Its definition says its id."),
        ),
        migrations.AddField(
            model_name="trigger",
            name="removed_at",
            field=models.DateTimeField(blank=True, help_text="When its definition went without it.", null=True),
        ),
        migrations.AlterField(
            model_name="trigger",
            name="position",
            field=models.PositiveIntegerField(
                blank=True, help_text="In the definition; of a removed one empty.", null=True
            ),
        ),
        migrations.RunPython(name_triggers, migrations.RunPython.noop),
        migrations.RemoveConstraint(model_name="trigger", name="trigger_position"),
        migrations.AddConstraint(
            model_name="trigger",
            constraint=models.UniqueConstraint(
                deferrable=Deferrable.DEFERRED, fields=("flow", "position"), name="trigger_position"
            ),
        ),
        migrations.AddConstraint(
            model_name="trigger",
            constraint=models.UniqueConstraint(
                deferrable=Deferrable.DEFERRED, fields=("flow", "key"), name="trigger_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="trigger",
            constraint=models.CheckConstraint(condition=~Q(("key", "")), name="trigger_key_given"),
        ),
        migrations.AddConstraint(
            model_name="trigger",
            constraint=models.CheckConstraint(
                condition=Q(("position__isnull", False), ("removed_at", None))
                | Q(("position", None), ("removed_at__isnull", False)),
                name="trigger_removed",
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="unheard",
            field=models.BooleanField(
                db_default=False,
                help_text="When it was matched, no trigger, wait or cancel_on listened to its name.",
            ),
        ),
    ]
