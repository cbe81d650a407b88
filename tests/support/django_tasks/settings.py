"""The settings of tests and workers that run Django's tasks: backends of an organization that the tests make."""

from __future__ import annotations

import os

from config.settings import *  # noqa: F403

ORGANIZATION = os.environ.get("TEST_TASKS_ORGANIZATION", "task-tests")
BACKEND = "workflows.django_tasks.HeadraceBackend"
TASKS = {
    "default": {
        "BACKEND": BACKEND,
        "QUEUES": ["default", "reports"],
        "OPTIONS": {
            "organization": ORGANIZATION,
            "retry": {"attempts": 1},
            "queues": {"reports": {"compute": True}},
            "tasks": {
                "tests.support.django_tasks.functions.fails_at_first": {"retry": {"attempts": 3, "delay": "50ms"}}
            },
        },
    },
    "another": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": {"organization": ORGANIZATION}},
}
