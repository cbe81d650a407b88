"""Django admin, whose pages are loaded with the addresses: only the web has any (`config.urls`)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminConfig(SimpleAdminConfig):
    """The admin without a look for the pages of each app at the start."""

    def ready(self) -> None:
        checks.register(check_pages, checks.Tags.admin)


def check_pages(app_configs: Sequence[AppConfig] | None, **more: Any) -> list[checks.CheckMessage]:
    """Django's own checks of the admin, of all pages."""
    importlib.import_module("config.urls")
    return [*check_dependencies(**more), *check_admin_app(app_configs, **more)]
