"""The pages of Django's logins and of Celery's results, checked as ours are."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django_celery_results.admin import GroupResultAdmin, TaskResultAdmin
from django_celery_results.models import GroupResult, TaskResult

from workflows.admin.checked import CheckedAdmin

for _model in (User, Group, TaskResult, GroupResult):
    admin.site.unregister(_model)


@admin.register(User)
class CheckedUserAdmin(CheckedAdmin, UserAdmin):  # type: ignore[type-arg]
    pass


@admin.register(Group)
class CheckedGroupAdmin(CheckedAdmin, GroupAdmin):
    pass


class ResultAdmin(CheckedAdmin):
    """Celery writes results: they are shown and deleted, not made or changed."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TaskResult)
class CheckedTaskResultAdmin(ResultAdmin, TaskResultAdmin):  # type: ignore[misc]  # it is untyped
    pass


@admin.register(GroupResult)
class CheckedGroupResultAdmin(ResultAdmin, GroupResultAdmin):  # type: ignore[misc]
    pass
