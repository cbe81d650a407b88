"""Lines of the log that come in numbers, since every step and every run writes some: written together, for less.

By structlog and stdlib logging a line costs some 50 µs: it goes from processor to processor, gets a record with its
caller's place in the code, is copied, rendered, and written by itself. Lines of one event that come together have most
of that in common. They are rendered by the same renderer, masked and written before `info` returns; where anything but
our own handler would see them, they go the way of all other lines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from workflows.edge.path_tokens import mask_path_tokens

MAX_WRITE_BYTES = 4_096
"""Of one write: what a pipe takes from a process without another's line in between."""
_IN_COMMON = {"event", "logger", "level", "timestamp"}
_CALL_HANDLERS = logging.Logger.callHandlers


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to stderr: those of stdlib logging as any handler does, and those of `Lines` together."""

    def __init__(self, processors: Sequence[Processor], renderer: Processor) -> None:
        """`processors`: what structlog is configured with; the first one looks at the level, the last one hands over to
        stdlib logging. `renderer`: that of this handler's formatter."""
        super().__init__()
        self.processors = list(processors)
        self._renderer = renderer

    def write_together(self, logger: logging.Logger, event: str, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Write a line for each row, at level info. False where nothing is written: one by one they may be."""
        common: Any = {"event": event}
        try:
            for processor in self.processors[1:-1]:
                common = processor(logger, "info", common)
            if common.keys() != _IN_COMMON:  # something of this context (of a request, say) belongs to them
                return False
            lines = [str(self._renderer(logger, "info", {**row, **common})) for row in rows]
        except Exception:
            return False  # which line is wrong, and why, is told by stdlib logging
        self.acquire()
        try:
            for text in _writes(mask_path_tokens(line) + self.terminator for line in lines):
                self.stream.write(text)
                self.flush()
        except Exception:
            self.handleError(logging.LogRecord(logger.name, logging.INFO, __file__, 0, event, (), None))
        finally:
            self.release()
        return True


def _writes(lines: Iterable[str]) -> Iterator[str]:
    """The lines in pieces of at most `MAX_WRITE_BYTES`; a longer line is one by itself."""
    piece, size = "", 0
    for line in lines:
        more = len(line) if line.isascii() else len(line.encode(errors="replace"))
        if piece and size + more > MAX_WRITE_BYTES:
            yield piece
            piece, size = "", 0
        piece += line
        size += more
    if piece:
        yield piece


class Lines:
    """The lines of a logger, by its name."""

    def __init__(self, name: str) -> None:
        self._log = structlog.get_logger(name)
        self._logger = logging.getLogger(name)

    def are_wanted(self, level: int = logging.INFO) -> bool:
        """Whether lines of this level are written at all."""
        return self._logger.isEnabledFor(level)

    def info(self, event: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a line of this event for each row of fields."""
        if not rows or not self.are_wanted():
            return
        handler = _the_only_handler(self._logger)
        if handler is None or not handler.write_together(self._logger, event, rows):
            for row in rows:
                self._log.info(event, **row)


def _the_only_handler(logger: logging.Logger) -> LineHandler | None:
    """Our handler, where a line of this logger comes to no other, and nothing is made of it on its way."""
    found: LineHandler | None = None
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if found is not None or type(handler) is not LineHandler:
                return None
            found = handler
        current = current.parent if current.propagate else None
    if found is None or found.filters or found.level > logging.INFO or logger.filters:
        return None
    is_changed = (
        logging.getLogRecordFactory() is not logging.LogRecord  # tracing puts its ids there
        or logging.Logger.callHandlers is not _CALL_HANDLERS  # Sentry's SDK listens there
        or structlog.get_config()["processors"] != found.processors
    )
    return None if is_changed else found
