"""A first start: the database, the organization `default`, a login, keys, secrets of the examples, the examples."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction

from workflows import services
from workflows.definitions import document
from workflows.models import AccessKey, Organization, Secret
from workflows.this_process.configuration import configuration

USERNAME = "admin"
EXAMPLES = settings.BASE_DIR / "examples" / "flows"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What `var/credentials.json` holds (mode 0600)."""

    base_url: str
    username: str
    password: str
    api_key: str
    event_key: str

    def write(self, path: Path) -> None:
        """Replace the file atomically, never readable by others."""
        text = json.dumps(
            {
                "baseUrl": self.base_url,
                "username": self.username,
                "password": self.password,
                "apiKey": self.api_key,
                "eventKey": self.event_key,
            },
            indent=2,
        )
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
        draft.replace(path)


def prepare(*, base_url: str, example_server: str) -> Credentials:
    """Migrate, and create what is missing. What exists stays: a second start keeps password and keys."""
    call_command("migrate", verbosity=0, interactive=False)
    path = settings.VAR_DIR / "credentials.json"
    known = _read(path)
    with transaction.atomic():
        organization, _ = Organization.objects.get_or_create(slug="default", defaults={"name": "Default"})
        credentials = Credentials(
            base_url=base_url,
            username=USERNAME,
            password=_login(known.get("password", "")),
            api_key=_key(organization, AccessKey.Kind.API, _preset("INNGEST_API_KEY"), known.get("apiKey", "")),
            event_key=_key(organization, AccessKey.Kind.EVENT, _preset("INNGEST_EVENT_KEY"), known.get("eventKey", "")),
        )
        for name in ("PAYMENTS_URL", "MAIL_URL", "SERVICES_URL"):
            secret = Secret.objects.filter(organization=organization, name=name).first()
            if secret is None or secret.value.startswith("http://127.0.0.1:"):
                secret = secret or Secret(organization=organization, name=name)
                secret.value = example_server
                secret.save()
        for file in document.files_in([EXAMPLES]):
            read = document.read(file)
            services.apply_definition(organization, read.spec, source=read.source)
    credentials.write(path)
    return credentials


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _login(known: str) -> str:
    """The superuser's password: the known one where it still fits, else a new one."""
    users = get_user_model().objects
    user = users.filter(username=USERNAME).first()
    if user is None:
        password = known or secrets.token_urlsafe(12)
        users.create_superuser(USERNAME, password=password)
        return password
    if known and user.check_password(known):
        return known
    password = secrets.token_urlsafe(12)
    user.set_password(password)
    user.save()
    return password


def _preset(name: str) -> str:
    return configuration().preset_keys.get(name, "")


def _key(organization: Organization, kind: str, *known: str) -> str:
    """The first of the known keys that is in force; else a new one."""
    keys = AccessKey.objects.filter(organization=organization, kind=kind, revoked_at=None)
    for key in filter(None, known):
        if keys.filter(digest=AccessKey.digest_of(key)).exists():
            return key
    return AccessKey.issue(organization, kind, "first start", operator=kind == AccessKey.Kind.API)[1]
