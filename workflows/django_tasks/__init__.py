"""Headrace as a backend of `django.tasks` (on Django 5.2: of the package `django-tasks`).

TASKS = {"default": {"BACKEND": "workflows.django_tasks.HeadraceBackend"}}
"""

from workflows.django_tasks.backend import HeadraceBackend
from workflows.services.django_tasks.options import task_options

__all__ = ["HeadraceBackend", "task_options"]
