from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """What is a repair, and the how many-th: see ADR 14. `dlq` 0003 numbers those that there are."""

    replaces = [("workflows", "0022_repair")]

    dependencies = [("headrace_workflows", "0021_trigger_identity")]

    operations = [
        migrations.AddField(
            model_name="bulkoperation",
            name="repaired_before",
            field=models.PositiveIntegerField(
                default=0,
                db_default=0,
                help_text="What somebody else had repaired or dealt with: nothing was left to do.",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="repair_root_id",
            field=models.UUIDField(blank=True, help_text="Of a repair: the run that failed first.", null=True),
        ),
        migrations.AddField(
            model_name="run",
            name="repair_number",
            field=models.IntegerField(
                db_default=0, help_text="Of a repair: its place among those of that run, from 1."
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.CheckConstraint(
                condition=Q(repair_root_id=None, repair_number=0)
                | Q(repair_number__gte=1, repair_root_id__isnull=False),
                name="run_repair_number",
            ),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                condition=~Q(repair_root_id=None),
                fields=("repair_root_id", "repair_number"),
                name="run_repair_once",
            ),
        ),
    ]
