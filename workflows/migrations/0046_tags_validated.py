"""The rows of before are looked at without a lock that keeps anybody from writing."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("headrace_workflows", "0045_tags")]

    operations = [ValidateConstraint(model_name="run", name="run_tags")]
