"""The backend: what `enqueue` and `get_result` of a task come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core import checks

from workflows.services.django_tasks import enqueuing
from workflows.services.django_tasks.options import problems_of
from workflows.steps.django_tasks import lookup
from workflows.steps.django_tasks.api import BaseTaskBackend, Task, TaskResult, task_enqueued

DEFAULT_ORGANIZATION = "default"


class HeadraceBackend(BaseTaskBackend):
    """Each enqueued task is a run of one step: stored in the caller's transaction, retried, limited, shown."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        options = self.options if isinstance(self.options, Mapping) else {}
        self.organization_slug = str(options.get("organization") or DEFAULT_ORGANIZATION)

    def enqueue(self, task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult[Any]:
        """Store a run of the task, which starts when the open transaction (if there is one) commits. See
        `services.django_tasks.enqueuing.enqueue` for what it raises."""
        self.validate_task(task)
        result, is_new = enqueuing.enqueue(
            task, args, kwargs, options=self.options, organization=self.organization_slug
        )
        if is_new:
            task_enqueued.send_robust(sender=type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any]:
        """The result with this id, as it is now. Raises TaskResultDoesNotExist."""
        return enqueuing.result_of(result_id, backend=self.alias, organization=self.organization_slug)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """What `manage.py check` finds in the settings of this backend."""
        yield from super().check(**kwargs)
        problems = list(problems_of(self.alias, self.options, frozenset(self.queues)))
        for problem in problems:
            yield checks.Error(problem, id="headrace.E101")
        for path in self.options.get("tasks", {}) if not problems else ():
            try:
                lookup.task_at(path)
            except lookup.TaskGone as error:
                hint = "Correct the path, or take its options out."
                yield checks.Warning(
                    f"TASKS[{self.alias!r}]['OPTIONS']['tasks']: {error}", hint=hint, id="headrace.W102"
                )
