"""uvicorn's fast HTTP parser, with what its slow one has and it has not: a bound for the head of a request, which may
else grow until the memory is full, and the rule that HTTP/1.1 names one host.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
TOO_LARGE = "The head of the request is larger than 64 KiB."


class BoundedHttp(HttpToolsProtocol):
    """Answers 400 and closes a connection whose request line and headers are larger than 64 KiB, or name no host."""

    _head = 0
    """The bytes that have come since the last complete head; what comes with one is not counted."""
    _is_complete = False
    """Whether a head was complete, and the next one has not begun."""

    def on_message_begin(self) -> None:
        self._is_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head, self._is_complete = -1, True
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("HTTP/1.1 wants one Host")  # the parser makes an answer 400 of it
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head < 0:  # a head was complete within these bytes
            self._head = 0
        elif not self._is_complete:
            self._head += len(data)
            if self._head > MOST_HEAD_BYTES and not self.transport.is_closing():
                self.logger.warning(TOO_LARGE)
                self.send_400_response(TOO_LARGE)
