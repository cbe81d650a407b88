"""What will be wrong the next time too is not tried again, and says so: code, certificates, addresses, headers."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.workers import WorkerPool, by_key, run_to_end
from workflows.models import Organization


def failure(org: Organization, step: dict[str, Any], data: Any = None) -> dict[str, Any]:
    """The error of the step `a`, with its number of attempts."""
    detail = run_to_end(
        org, [{"id": "a", **step, "retry": {"attempts": 3, "delay": "50ms", "backoff": "fixed"}}], data or {}
    )
    found = by_key(detail)["a"]
    assert found.step_run.status == "failed"
    errors = [attempt.error for attempt in found.attempts if attempt.error]
    return {**errors[-1], "attempts": len(found.attempts)}


@pytest.mark.parametrize(
    "code", ["return nowhere", "return 'a' + 1", "return (1).no", "return (", "return input.missing", "return len(5)"]
)
@pytest.mark.parametrize("type_", ["sandbox_sync", "data_transform"])
def test_code_that_is_wrong_is_not_tried_again(org: Organization, workers: WorkerPool, type_: str, code: str) -> None:
    config = {"code": code} if type_ == "sandbox_sync" else {"script": code}
    error = failure(org, {"type": type_, "config": config})
    assert (error["category"], error["attempts"]) == ("configuration", 1)
    assert "not tried again" in error["message"]


def test_what_code_raises_itself_is_tried_again(org: Organization, workers: WorkerPool) -> None:
    error = failure(org, {"type": "sandbox_sync", "config": {"code": "raise ValueError('not yet')"}})
    assert error["attempts"] > 1


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[int]:
    """The port of an HTTPS server whose certificate nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_certificate_that_is_refused_is_not_tried_again(
    org: Organization, workers: WorkerPool, untrusted: int
) -> None:
    error = failure(org, {"type": "http_request", "config": {"url": f"https://localhost:{untrusted}/"}})
    assert (error["category"], error["attempts"]) == ("configuration", 1)
    assert "CERTIFICATE_VERIFY_FAILED" in error["message"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "ftp://127.0.0.1/", "http://", "//x",
            "http://[::1/", "http://a b/"],
)  # fmt: skip
def test_an_address_that_is_none_is_not_tried_again(org: Organization, workers: WorkerPool, url: str) -> None:
    error = failure(org, {"type": "http_request", "config": {"url": "${ input.url }"}}, {"url": url})
    assert (error["category"], error["attempts"]) == ("configuration", 1)
