"""From the path of a task's function to the task, in whichever process."""

from __future__ import annotations

import importlib
from typing import Any

from workflows.errors import ConfigurationFailure
from workflows.steps.django_tasks.api import Task


class TaskGone(ConfigurationFailure):
    """There is no such task in this process's code."""


def path_of(task: Task[..., Any]) -> str:
    """Where its function is defined, as `module.function`."""
    return f"{task.func.__module__}.{task.func.__qualname__}"


def task_at(path: str) -> Task[..., Any]:
    """The task whose function is defined there. Raises TaskGone, with the reason, where there is none."""
    found = _object_at(path)
    if not isinstance(found, Task):
        raise TaskGone(
            f"{path} is no task any more: it is a {type(found).__name__}. Decorate it with @task again, or end what is "
            "enqueued for it (cancel the runs, ignore the dead letters)."
        )
    return found


def _object_at(path: str) -> Any:
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise _broken(path, name, error) from error
        except Exception as error:
            raise _broken(path, name, error) from error
        for part in parts[length:]:
            if not hasattr(found, part):
                raise TaskGone(
                    f"{path} is gone: {name} has no {'.'.join(parts[length:])}. Bring it back under this path until "
                    "nothing of it is left, or end what is enqueued for it."
                )
            found = getattr(found, part)
        return found
    raise TaskGone(f"{path} is gone: there is no module {parts[0]!r} on this process's path.")


def _broken(path: str, module: str, error: BaseException) -> TaskGone:
    return TaskGone(f"{path} can't be imported: {module} raises {type(error).__name__}: {error}")


def stand_in(path: str) -> Any:
    """A function for the task of a stored result whose own is gone: the result can still be read."""
    module, _, name = path.rpartition(".")

    def gone() -> None:
        raise TaskGone(f"{path} is gone.")

    gone.__module__, gone.__qualname__, gone.__name__ = module, name, name
    return gone
