"""Who belongs to an organization, and in which role."""

from __future__ import annotations

from typing import ClassVar

import uuid6
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from workflows.models.organization import Organization


class Membership(models.Model):
    """A login or a team (a Django group) that belongs to an organization, with its role there.

    A login's role is the strongest of its own and of its teams'.
    """

    class Role(models.TextChoices):
        """From the weakest to the strongest: each may do what those before it may (`RIGHTS_OF` in `edge/access.py`)."""

        VIEWER = "viewer", "viewer: looks"
        OPERATOR = "operator", "operator: starts, stops and repairs what is there"
        EDITOR = "editor", "editor: changes flows, limits and alerts"
        ADMIN = "admin", "admin: everything, members, keys and secrets too"

    id = models.UUIDField(primary_key=True, default=uuid6.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="headrace_memberships",
        null=True,
        blank=True,
    )
    group = models.ForeignKey(
        Group, on_delete=models.CASCADE, related_name="headrace_memberships", null=True, blank=True
    )
    role = models.CharField(max_length=10, choices=Role.choices)
    added_by = models.CharField(max_length=200, blank=True, db_default="", default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar = ["created_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(user__isnull=True, group__isnull=False) | Q(user__isnull=False, group__isnull=True),
                name="membership_of_login_or_team",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "operator", "editor", "admin"]), name="membership_role"
            ),
            models.UniqueConstraint(fields=["organization", "user"], condition=~Q(user=None), name="membership_login"),
            models.UniqueConstraint(fields=["organization", "group"], condition=~Q(group=None), name="membership_team"),
        ]

    def __str__(self) -> str:
        return f"{self.member} is {self.role} of {self.organization}"

    @property
    def member(self) -> str:
        """`user:<name>` or `group:<name>`, as in a flow's list of approvers."""
        if self.group is not None:
            return f"group:{self.group.name}"
        return f"user:{self.user.get_username()}" if self.user is not None else "nobody"
