"""Browsers that are logged in, by what their logins may do."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import User
from django.test import Client

from workflows.models import Membership, Organization


def member(org: Organization, role: str) -> Client:
    """A member of the organization in this role."""
    user = User.objects.create_user(f"{role}-{uuid.uuid4().hex[:8]}")
    Membership.objects.create(organization=org, user=user, role=role)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def operator_of_all(org: Organization) -> Client:
    """An operator of the installation, who looks at the organization."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}"))
    client.get(f"/?org={org.slug}")
    return client
