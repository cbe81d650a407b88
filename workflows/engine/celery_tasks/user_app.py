"""The Celery app of the application: whose tasks steps run, and whose broker they are sent to."""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from celery import Celery, current_app
from celery.app.utils import find_app
from django.conf import settings
from kombu.connection import Connection

from workflows import this_process
from workflows.errors import ConfigurationFailure

NAME = "HEADRACE_CELERY_APP"
ALLOWED = "HEADRACE_CELERY_TASKS"
INTERNAL = ("celery.", "workflows.", "headrace.", "dlq.")
"""Names of tasks that are no business of a flow: Celery's and our own."""
REDELIVER_AFTER_S = 60
_SHOWN = 5


class UserApp:
    """The app of this process."""

    def __init__(self) -> None:
        name = os.environ.get(NAME, "").strip()
        self.is_named = bool(name)
        self.app: Celery = _find(name) if name else current_app._get_current_object()
        self.allowed = [part.strip() for part in os.environ.get(ALLOWED, "*").split(",") if part.strip()]


def user_app() -> Celery:
    """`HEADRACE_CELERY_APP`, or the current app of the process. Raises ConfigurationFailure where it can't be found."""
    return this_process.own(UserApp).app


def _find(name: str) -> Celery:
    before = current_app._get_current_object()
    try:
        found: Any = find_app(name)
    except Exception as error:  # whatever its module raises
        raise ConfigurationFailure(
            f"{NAME}={name!r} can't be imported ({type(error).__name__}: {error}). Name the module and the app of your "
            "project, like proj.celery:app."
        ) from None
    finally:
        before.set_current()  # an app that is made becomes the current one
    if not isinstance(found, Celery):
        raise ConfigurationFailure(f"{NAME}={name!r} is a {type(found).__name__} and no Celery app.")
    return found


def check_allowed(name: str) -> None:
    """Raises ConfigurationFailure for a task that steps may not run."""
    if name.startswith(INTERNAL):
        raise ConfigurationFailure(f"{name} is a task of Celery or Headrace itself; a step can run those of your code.")
    patterns = this_process.own(UserApp).allowed
    if not any(fnmatchcase(name, pattern) for pattern in patterns):
        raise ConfigurationFailure(f"{name} is not among the tasks that flows may run: add it to {ALLOWED}.")


def check_registered(name: str) -> None:
    """Raises ConfigurationFailure for a task that the app does not know."""
    app = user_app()
    app.loader.import_default_modules()
    if name in app.tasks:
        return
    known = sorted(each for each in app.tasks if not each.startswith(INTERNAL))
    near = [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]] or known
    said = ", ".join(near[:_SHOWN]) + (", …" if len(near) > _SHOWN else "") if near else "none of your own"
    raise ConfigurationFailure(
        f"The task {name!r} is not registered in the Celery app {app.main or 'of this project'!r} (it knows {said}). "
        f"Correct the name, or set {NAME}; for one that only its own workers know write `registered: false`."
    )


def end_queue() -> str:
    """The queue of the messages that tell of ends."""
    return f"{getattr(settings, 'REDIS_PREFIX', 'headrace')}.ended"


def connect(make: Callable[..., Connection], *, acknowledges: bool = False) -> Connection:
    """A connection of its own to the app's broker (`make`: `connection_for_read` or `_write` of the app), which never
    hangs for ever. `acknowledges`: a message that is taken and not acknowledged comes again after a minute, whatever
    the app's own workers do; its bookkeeping is apart from theirs."""
    conf = user_app().conf
    options: dict[str, Any] = {"confirm_publish": True}  # RabbitMQ says that it has a message
    if is_redis(str(conf.broker_read_url or conf.broker_url or "")):
        given = conf.broker_transport_options
        options = {name: given.get(name) or value for name, value in _PATIENCE.items()}
        if acknowledges:
            name = end_queue()
            options |= {
                "ack_emulation": True, "visibility_timeout": REDELIVER_AFTER_S, "unacked_key": f"{name}.unacked",
                "unacked_index_key": f"{name}.unacked_index", "unacked_mutex_key": f"{name}.unacked_mutex",
                "unacked_restore_throttle": 1,
            }  # fmt: skip
    return make(transport_options=options, connect_timeout=_PATIENCE["socket_connect_timeout"])


_PATIENCE = {"socket_connect_timeout": 2, "socket_timeout": 10, "socket_keepalive": True, "health_check_interval": 25}


def is_redis(url: str) -> bool:
    """Whether it is the address of Redis or Valkey."""
    return url.startswith(("redis", "rediss", "valkey", "sentinel"))
