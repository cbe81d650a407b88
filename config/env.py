"""The typed environment: every setting that a deployment may change, read once, with a clear error for a bad value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config import aws
from throttling.environment import whole_number
from throttling.errors import EnvironmentValueError
from workflows.this_process import configuration
from workflows.this_process.configuration import DEFAULT_PORT, Configuration, flag, names

BASE_DIR: Path = Path(__file__).resolve().parent.parent


class ServicesError(RuntimeError):
    """There is no database or no store to work with."""


@dataclass(frozen=True, kw_only=True)
class Environment(Configuration):
    """What the process was told by its environment: what Headrace is told, and what this project is told besides."""

    database_url: str
    secret_key: str
    debug: bool
    https: bool
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    var_dir: Path
    port: int
    log_format: str
    log_level: str


def read(source: Mapping[str, str] | None = None) -> Environment:
    """The environment as typed values. Raises EnvironmentValueError naming the variable and what it may be."""
    if source is None:
        aws.load(os.environ)
    env = os.environ if source is None else source
    log_format = env.get("HEADRACE_LOG_FORMAT", "console")
    if log_format not in {"console", "json"}:
        raise EnvironmentValueError(f"HEADRACE_LOG_FORMAT={log_format!r} is unknown; set it to console or json")
    return Environment(
        **configuration.values(configuration.read(env)),
        database_url=env.get("DATABASE_URL", ""),
        secret_key=env.get("HEADRACE_SECRET_KEY", ""),
        debug=flag(env, "HEADRACE_DEBUG", False),
        https=flag(env, "HEADRACE_HTTPS", False),
        allowed_hosts=names(env, "HEADRACE_ALLOWED_HOSTS"),
        csrf_trusted_origins=names(env, "HEADRACE_CSRF_TRUSTED_ORIGINS"),
        var_dir=Path(env.get("HEADRACE_VAR_DIR") or BASE_DIR / "var").resolve(),
        port=whole_number(env, "PORT", DEFAULT_PORT, low=1, high=65535),
        log_format=log_format,
        log_level=env.get("HEADRACE_LOG_LEVEL", "INFO").upper(),
    )
