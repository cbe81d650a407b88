"""Logging: structlog through stdlib logging, one line an event, as text or JSON."""

from __future__ import annotations

import logging.config

from config.without_rich import EventDict, Processor, WrappedLogger, structlog
from workflows.edge.log_lines import LineHandler
from workflows.edge.path_tokens import mask_path_tokens

MAX_KEYS = 1_000
_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


class LogfmtRenderer:
    """The lines of structlog's renderer of this name, for less: a key is checked only when it is new."""

    def __init__(self) -> None:
        self._careful = structlog.processors.LogfmtRenderer()
        self._keys: set[str] = set()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        if not event.keys() <= self._keys:
            line = self._careful(logger, method, event)  # raises ValueError for a key that can't be one
            if len(self._keys) < MAX_KEYS:
                self._keys.update(event)
            return line
        return " ".join([f"{key}={_value(value)}" if value is not True else key for key, value in event.items()])


def _value(value: object) -> str:
    if value is None:
        return ""
    if value is False:
        return "false"
    text = str(value)
    is_quoted = " " in text or "=" in text or '"' in text
    if is_quoted:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    if "\n" in text:
        text = text.replace("\n", "\\n")
    return f'"{text}"' if is_quoted else text


class MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Every line, a traceback included, without the secret parts of addresses: the last place that all of them pass."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_path_tokens(super().format(record))


def configure(*, log_format: str, level: str) -> None:
    """Set up logging for this process: `log_format` is console or json, `level` a stdlib level name."""
    renderer: Processor = structlog.processors.JSONRenderer() if log_format == "json" else LogfmtRenderer()
    processors: list[Processor] = [
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {
                    "()": MaskingFormatter,
                    "foreign_pre_chain": _SHARED,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                }
            },
            "handlers": {
                "stderr": {"()": LineHandler, "processors": processors, "renderer": renderer, "formatter": "line"}
            },
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
                "apprise": {"level": "INFO"},  # its debug lines hold the tokens of channels …
                "urllib3": {"level": "INFO"},  # … and these the paths that they are sent to
                "celery.worker.strategy": {"level": "WARNING"},
                "celery.app.trace": {"level": "WARNING"},
                # Uvicorn brings handlers of its own, which would write addresses as they come. (Levels stay its own.)
                **{
                    name: {"handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.error", "uvicorn.access")
                },
            },
        }
    )
    structlog.configure(
        processors=processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
