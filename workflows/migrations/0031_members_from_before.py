"""Where there is one organization, the logins that saw it so far are its members, as viewers.

Their Django permissions go on to add their rights. Where there are several, nobody but superusers saw any of them.
"""

from __future__ import annotations

from typing import Any

import uuid6
from django.conf import settings
from django.db import migrations

BATCH = 1_000


def add_viewers(apps: Any, _: Any) -> None:
    organizations = list(apps.get_model("headrace_workflows", "Organization").objects.all()[:2])
    if len(organizations) != 1:
        return
    membership = apps.get_model("headrace_workflows", "Membership")
    logins = apps.get_model(settings.AUTH_USER_MODEL)._base_manager.all()
    for field in ("is_active", "is_superuser"):
        if any(each.name == field for each in logins.model._meta.get_fields()):
            logins = logins.filter(**{field: field == "is_active"})
    there = membership.objects.filter(organization=organizations[0]).exclude(user=None).values("user")
    missing = logins.exclude(pk__in=there).order_by("pk").values_list("pk", flat=True).iterator(chunk_size=BATCH)
    rows = (
        membership(
            id=uuid6.uuid7(), organization=organizations[0], user_id=user_id, role="viewer", added_by="migration"
        )
        for user_id in missing
    )
    membership.objects.bulk_create(rows, batch_size=BATCH)


class Migration(migrations.Migration):
    dependencies = [
        ("headrace_workflows", "0030_memberships"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [migrations.RunPython(add_viewers, migrations.RunPython.noop)]
