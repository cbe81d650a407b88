"""Log lines in a project that has not configured structlog: they go through the project's own logging."""

from __future__ import annotations

import structlog

from workflows.edge.path_tokens import mask_path_tokens


def _masked(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Without the secret parts of addresses."""
    return {name: mask_path_tokens(value) if isinstance(value, str) else value for name, value in event.items()}


def use_project_logging() -> None:
    """Hand each line to the logger of its name (`headrace.…`), as one text. Nothing where structlog is configured."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _masked,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
