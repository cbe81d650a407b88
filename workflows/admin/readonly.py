"""Admin pages that only show."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows.admin.checked import CheckedAdmin
from workflows.presenters import redaction
from workflows.templatetags.headrace import pretty


def json_block(value: Any, org_id: UUID | None = None, name: str = "data") -> SafeString:
    """A JSON value as an indented block; a payload without what the rules of its organization hide."""
    shown = redaction.payload(org_id, value, name) if org_id else value
    return format_html('<pre class="json">{}</pre>', pretty(shown))


class ReadOnlyAdmin(CheckedAdmin):
    """Nothing can be added, changed or deleted: executions are written by the engine alone."""

    class Media:
        css: ClassVar = {"all": ["headrace/headrace_admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyInline(admin.TabularInline):  # type: ignore[type-arg]
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever sees the page sees what is in it."""
        return True
