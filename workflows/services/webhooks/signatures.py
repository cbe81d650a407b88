"""Who really sent a webhook: the signatures of Stripe, GitHub, Standard Webhooks, and plain HMAC. Pure.

Sources: docs.stripe.com/webhooks (Stripe-Signature), docs.github.com (X-Hub-Signature-256), standardwebhooks.com.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from workflows.errors import WorkflowsError

TOLERANCE_S = 300.0


class SignatureRefused(WorkflowsError):
    """The webhook's signature does not fit."""

    status, code = 401, "signature_refused"


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How a sender signs. `header` and `prefix` are of plain HMAC; `tolerance_s` bounds how old a Stripe signature may
    be."""

    kind: str
    header: str = "x-signature"
    prefix: str = ""
    tolerance_s: float = TOLERANCE_S


def verify(scheme: Scheme, secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float) -> None:
    """Raises SignatureRefused, saying what is wrong. `headers` have lower-case names."""
    if scheme.kind == "stripe":
        _stripe(secret, headers, body, now_s, scheme.tolerance_s)
    elif scheme.kind == "github":
        _plain(secret, headers, body, "x-hub-signature-256", "sha256=")
    elif scheme.kind == "standard":
        _standard(secret, headers, body)
    elif scheme.kind == "hmac":
        _plain(secret, headers, body, scheme.header.lower(), scheme.prefix)


def _digest(secret: str, signed: bytes) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).digest()


def _stripe(secret: str, headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float) -> None:
    parts = [part.strip().split("=", 1) for part in headers.get("stripe-signature", "").split(",")]
    pairs = [(part[0], part[1]) for part in parts if len(part) == 2]
    stamps = [value for name, value in pairs if name == "t" and value.isascii() and value.isdigit()]
    if not stamps:
        raise SignatureRefused("The header Stripe-Signature with its time is missing.")
    if abs(now_s - float(stamps[0][:12])) > tolerance_s:
        raise SignatureRefused(f"The signature is more than {tolerance_s:g} s old (or ahead): is it a replay?")
    expected = _digest(secret, stamps[0].encode() + b"." + body).hex().encode()
    given = [value.encode("ascii", "replace") for name, value in pairs if name == "v1"]
    if not any(hmac.compare_digest(expected, each) for each in given):
        raise SignatureRefused


def _plain(secret: str, headers: Mapping[str, str], body: bytes, header: str, prefix: str) -> None:
    """Hexadecimal or base64, with or without a prefix such as `sha256=`."""
    given = headers.get(header)
    if given is None:
        raise SignatureRefused(f"The header {header} is missing.")
    text = given.strip()
    if prefix:
        if not text.startswith(prefix):
            raise SignatureRefused(f"The header {header} does not begin with {prefix}.")
        text = text[len(prefix) :]
    if not any(hmac.compare_digest(_digest(secret, body), each) for each in _decoded(text)):
        raise SignatureRefused


def _decoded(text: str) -> list[bytes]:
    """What the text may stand for: hexadecimal, base64, both or neither."""
    found = []
    with contextlib.suppress(ValueError):
        found.append(bytes.fromhex(text))
    with contextlib.suppress(binascii.Error, ValueError):
        found.append(base64.b64decode(text, validate=True))
    return found


def _standard(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise SignatureRefused(f"The webhook's signature does not fit: {error}.") from None
    except EmptyWebhookSecretError:
        raise SignatureRefused("The stored secret is empty.") from None
