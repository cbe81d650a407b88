"""A local HTTP/1.1 server with keep-alive that remembers what it was asked, and on which connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as the server saw it; header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    host: str
    connection: int
    """The client's port: the same for requests on one connection."""

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body))


@dataclass(kw_only=True)
class Peer:
    """The server. `refresh_tokens` are those that /token accepts, each once; `held` keeps /token waiting."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    refresh_tokens: set[str] = field(default_factory=set)
    lifetime_s: float = 3_600
    held: threading.Event = field(default_factory=threading.Event)
    refuses: str = ""
    issued: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def of(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def answer(self, asked: Asked) -> tuple[int, bytes, list[tuple[str, str]]]:
        """Status, body and headers."""
        plain = [("Content-Type", "application/json")]
        match asked.path:
            case "/echo":
                seen = {"method": asked.method, "headers": asked.headers, "body": asked.body, "query": asked.query}
                return 200, json.dumps(seen).encode(), plain
            case "/cookie":
                return 200, b"{}", [*plain, ("Set-Cookie", f"sid={asked.query.get('v', 'x')}; Path=/")]
            case "/redirect":
                location = [("Location", asked.query["to"]), ("Set-Cookie", "chain=1; Path=/")]
                return int(asked.query.get("status", "302")), b"", location
            case "/circle":
                return 302, b"", [("Location", "/circle")]
            case "/fail":
                before = int(asked.query.get("before", "0"))
                return 400, b"x" * before + json.dumps(asked.headers).encode() + b"y" * 600, plain
            case "/token":
                return self._token(asked)
            case _:
                return 404, b"no", []

    def _token(self, asked: Asked) -> tuple[int, bytes, list[tuple[str, str]]]:
        self.held.wait(20)
        cookie = [("Content-Type", "application/json"), ("Set-Cookie", f"login={asked.form.get('client_id')}; Path=/")]
        if self.refuses:
            return 400, self.refuses.encode() + asked.headers.get("authorization", asked.body).encode(), cookie
        with self.lock:
            if asked.form["grant_type"] == "refresh_token":
                if asked.form["refresh_token"] not in self.refresh_tokens:
                    return 400, b'{"error": "invalid_grant"}', cookie
                self.refresh_tokens.remove(asked.form["refresh_token"])
            self.issued += 1
            rotated = f"rotated-refresh-{self.issued}"
            self.refresh_tokens.add(rotated)
            token = {
                "access_token": f"fetched-access-{self.issued}",
                "expires_in": self.lifetime_s,
                "refresh_token": rotated,
            }
        return 200, json.dumps(token).encode(), cookie


@contextmanager
def serve() -> Iterator[Peer]:
    """A running server."""
    peer = Peer()
    peer.held.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = Asked(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body.decode("latin-1"),
                host=self.headers["host"],
                connection=self.client_address[1],
            )
            peer.asked.append(asked)
            status, answer, headers = peer.answer(asked)
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(answer)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        peer.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield peer
        finally:
            peer.held.set()
            server.shutdown()
            thread.join()
