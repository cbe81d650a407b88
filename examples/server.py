"""The outside world of the examples: a small real HTTP server. It keeps what it was sent in memory.

Run it with `python examples/server.py PORT`. It answers like the real services do:

- `POST /v1/charges`, `GET /v1/stock/<sku>`: a payment provider. `POST /v3/mail/send`: a mail service. `POST
  /slack/<channel>`: a chat. `POST /analytics/track`: analytics. All take each `Idempotency-Key` once.
- `/rest/<table>`: tables of rows, which have an `id` each: `GET` and `DELETE` by `?field=value` and `?field.lt=value`,
  `POST` of a row or a list of them (one with a known id is changed), `PATCH /rest/<table>/<id>`.
- `GET /files/<name>?records=N`: a CSV file; every tenth record has no email. `GET /pages`, `GET /repos`: lists in
  pages, with `?page=` and `next`. `GET /limited`: an API with `x-ratelimit-…` headers (`?remaining=`, `?reset_s=`).
- `fail=N` in the query of any address makes the first N calls with one `Idempotency-Key` fail: with 503, or with
  `fail_as=`, and with `retry_after=` seconds. `slow=` waits so many seconds before it answers.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PAGES = 7
PAGE_SIZE = 3
Row = dict[str, Any]


class World:
    """What the services know, for all threads of the server."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.charges: dict[str, Row] = {}
        self.tables: dict[str, dict[str, Row]] = {}
        self.taken: set[str] = set()

    def fails(self, key: str, times: int) -> bool:
        """Whether this call is among the first so many."""
        with self.lock:
            self.calls[key] += 1
            return self.calls[key] <= times

    def charge(self, key: str, body: Row) -> Row:
        """The charge of this key: one, however often it is asked for."""
        with self.lock:
            number = len(self.charges) + 1
            return self.charges.setdefault(key, {"id": f"ch_{number:06d}", "amount": body["amount"], "paid": True})

    def keep(self, table: str, row: Row, key: str) -> bool:
        """Add a row to what has been sent; False for a key that was there already."""
        with self.lock:
            if key and f"{table} {key}" in self.taken:
                return False
            self.taken.add(f"{table} {key}")
            rows = self.tables.setdefault(table, {})
            rows[str(len(rows) + 1)] = {"id": str(len(rows) + 1), **row}
            return True

    def put(self, table: str, rows: list[Row]) -> list[Row]:
        """Insert rows, or change those whose ids are there. Rows without an id get one."""
        with self.lock:
            known = self.tables.setdefault(table, {})
            for row in rows:
                row.setdefault("id", str(len(known) + 1))
                known[str(row["id"])] = {**known.get(str(row["id"]), {}), **row}
            return [known[str(row["id"])] for row in rows]

    def find(self, table: str, filters: dict[str, str]) -> list[Row]:
        """The rows of a table that fit all filters."""
        with self.lock:
            rows = list(self.tables.get(table, {}).values())
        return [row for row in rows if all(_fits(row, name, value) for name, value in filters.items())]

    def delete(self, table: str, filters: dict[str, str]) -> int:
        """Delete rows; how many."""
        found = self.find(table, filters)
        with self.lock:
            return sum(self.tables[table].pop(str(row["id"]), None) is not None for row in found)


def _fits(row: Row, name: str, value: str) -> bool:
    field, _, comparison = name.partition(".")
    if comparison == "lt":
        return str(row.get(field, "~")) < value
    return str(row.get(field)) == value


WORLD = World()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def _answer(self, status: int, body: Any, **headers: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        payload = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/csv" if isinstance(body, str) else "application/json")
        self.send_header("content-length", str(len(payload)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(payload)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"null")
        key = self.headers.get("idempotency-key", "")
        time.sleep(float(query.pop("slow", 0)))
        told = {"retry_after": wait} if (wait := query.pop("retry_after", "")) else {}
        status, times = int(query.pop("fail_as", 503)), int(query.pop("fail", 0))
        if WORLD.fails(key + self.path, times):
            self._answer(status, {"error": "try again"}, **told)
            return
        kind, _, name = url.path.lstrip("/").partition("/")
        serve = getattr(self, f"_{self.command.lower()}_{kind}", None)
        if serve is not None:
            serve(name, query, body, key)
        elif self.command == "GET":
            self._answer(200, {"ok": True})
        else:
            self._answer(404, {"error": f"no {url.path} here"})

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  (the names that the base class calls)

    # --- services -----------------------------------------------------------------------------------------------------

    def _post_v1(self, name: str, query: Row, body: Any, key: str) -> None:
        if name != "charges":
            self._answer(404, {"error": f"no /v1/{name} here"})
            return
        self._answer(200, WORLD.charge(key, body))

    def _get_v1(self, name: str, query: Row, body: Any, key: str) -> None:
        sku = name.removeprefix("stock/")
        self._answer(200, {"sku": sku, "available": 100 + len(sku)})

    def _post_v3(self, name: str, query: Row, body: Any, key: str) -> None:
        WORLD.keep("mails", body, key)
        self._answer(202, {"accepted": True, "to": body.get("to")})

    def _post_slack(self, name: str, query: Row, body: Any, key: str) -> None:
        WORLD.keep("slack", {"channel": name, **body}, key)
        self._answer(200, {"ok": True})

    def _post_analytics(self, name: str, query: Row, body: Any, key: str) -> None:
        WORLD.keep("analytics", body, key)
        self._answer(202, {"ok": True})

    # --- tables -------------------------------------------------------------------------------------------------------

    def _get_rest(self, name: str, query: Row, body: Any, key: str) -> None:
        self._answer(200, WORLD.find(name, query))

    def _post_rest(self, name: str, query: Row, body: Any, key: str) -> None:
        self._answer(201, WORLD.put(name, body if isinstance(body, list) else [body]))

    def _patch_rest(self, name: str, query: Row, body: Any, key: str) -> None:
        table, _, id_ = name.partition("/")
        self._answer(200, WORLD.put(table, [{**body, "id": id_}])[0])

    def _delete_rest(self, name: str, query: Row, body: Any, key: str) -> None:
        self._answer(200, {"count": WORLD.delete(name, query)})

    # --- what is read -------------------------------------------------------------------------------------------------

    def _get_files(self, name: str, query: Row, body: Any, key: str) -> None:
        lines = [f"{n},{'' if n % 10 == 0 else f'user{n}@example.org'}" for n in range(int(query.get("records", 25)))]
        self._answer(200, "\n".join(["id,email", *lines, ""]))

    def _get_pages(self, name: str, query: Row, body: Any, key: str) -> None:
        self._page(query, lambda number: {"path": f"/articles/{number}", "changedAt": "2026-01-20"})

    def _get_repos(self, name: str, query: Row, body: Any, key: str) -> None:
        self._page(query, lambda number: {"id": f"repo-{number}", "stars": number * 10, "forks": number})

    def _page(self, query: Row, item: Any) -> None:
        page = int(query.get("page", 1))
        items = [item(number) for number in range(1, PAGES + 1)][(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        self._answer(200, {"items": items, "next": page + 1 if page * PAGE_SIZE < PAGES else None})

    def _get_limited(self, name: str, query: Row, body: Any, key: str) -> None:
        reset = time.time() + float(query.get("reset_s", 60))
        headers = {"x_ratelimit_remaining": query.get("remaining", "9"), "x_ratelimit_reset": f"{reset:.3f}"}
        self._answer(200, {"ok": True}, **headers)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet: the calls show in the runs."""


def serve(port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1; port 0: any free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    serve(int(sys.argv[1])).serve_forever()
