"""The outside world of the examples: a small real HTTP server with a payment provider and a mail service.

Run it with `python examples/server.py PORT`. It keeps what it was sent in memory, and answers like the real ones do:
charges are idempotent by their key, `fail=N` in a query makes the first N calls of a key fail with 503.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CALLS: Counter[str] = Counter()
CHARGES: dict[str, dict[str, Any]] = {}


class Handler(BaseHTTPRequestHandler):
    """POST /v1/charges, POST /v3/mail/send, GET /v1/stock/<sku>."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: Any, **headers: str) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def _body(self) -> Any:
        length = int(self.headers.get("content-length") or 0)
        return json.loads(self.rfile.read(length) or b"null")

    def _fails(self, query: dict[str, list[str]]) -> bool:
        key = self.headers.get("idempotency-key", "") + self.path
        CALLS[key] += 1
        return CALLS[key] <= int(query.get("fail", ["0"])[0])

    def do_POST(self) -> None:
        url, body = urlsplit(self.path), self._body()
        if self._fails(parse_qs(url.query)):
            self._answer(503, {"error": "try again"})
        elif url.path == "/v1/charges":
            key = self.headers.get("idempotency-key", "")
            charge = CHARGES.setdefault(
                key, {"id": f"ch_{len(CHARGES) + 1:06d}", "amount": body["amount"], "paid": True}
            )
            self._answer(200, charge)
        elif url.path == "/v3/mail/send":
            self._answer(202, {"accepted": True, "to": body.get("to")})
        else:
            self._answer(404, {"error": f"no {url.path} here"})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/v1/stock/"):
            sku = url.path.rsplit("/", 1)[1]
            self._answer(200, {"sku": sku, "available": 100 + len(sku)})
        else:
            self._answer(200, {"ok": True})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet: the calls show in the runs."""


def main() -> None:
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
