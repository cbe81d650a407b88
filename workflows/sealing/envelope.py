"""Payloads that are stored encrypted (*sealed*): their form in the database, and opening it wherever it is read.

A sealed JSON value is `{"$enc": "v1:<key>:<token>"}`, a sealed text `$enc{v1:<key>:<token>}`: the name of the key, and
a Fernet token. The value may stand anywhere within other JSON (a run of a batch seals each event), the text as a member
of an object (an error seals its message), and within the text of a column of its own. What is read is opened at any
depth. So nothing that looks so may be stored in clear: whoever stores a payload seals it where its organization asks
for that, *or* where `MARKER` stands in it (in a text `TEXT_MARKER`). What has been opened is not looked at again: a
payload can't carry the sealed value of somebody else into a place where it is opened.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from workflows import this_process
from workflows.errors import EncryptionKeyMissing
from workflows.this_process.configuration import encryption_keys

NAME = "$enc"
MARKER = '"$enc'
"""What is in the JSON text of everything that holds a sealed value, or a sealed text as a member; or looks so."""
MARKER_BYTES = b'"$enc'
TEXT_MARKER = "$enc{"
_SEALED = r"v1:([0-9a-f]{8}):([A-Za-z0-9_-]+={0,2})"
_VALUE = re.compile(_SEALED)
_TEXT = re.compile(r"\$enc\{" + _SEALED + r"\}")
_STORED = re.compile(r'(\$enc(?:\{|":\s*"))' + _SEALED)
"""A sealed value or text within stored text or JSON text."""
_NAME_BYTES = 12
"""Of `v1:01234567:`."""
_FERNET_BYTES = 1 + 8 + 16 + 32
"""Of a Fernet token besides what it holds: version, time, IV, HMAC."""
_BLOCK_BYTES = 16
_PURPOSE = b"headrace payloads\0"
"""Keeps these keys apart from those of secrets: the token of the one opens nothing of the other."""


@dataclass(frozen=True)
class Key:
    """A key of payloads. `name`: what stands with everything that is sealed by it; it tells nothing of the key."""

    name: str
    fernet: Fernet
    signing: bytes
    encrypting: bytes

    @classmethod
    def of(cls, text: str) -> Key:
        """The key of a text of HEADRACE_ENCRYPTION_KEY."""
        raw = hashlib.sha256(_PURPOSE + text.encode()).digest()
        name = hashlib.sha256(b"name\0" + raw).hexdigest()[:8]
        return cls(name, Fernet(base64.urlsafe_b64encode(raw)), raw[:16], raw[16:])

    def stable_token(self, clear: bytes, owner: UUID) -> str:
        """A Fernet token that is the same for the same bytes of an owner: SQL compares such values."""
        iv = hmac.digest(self.signing, b"stable\0" + owner.bytes + clear, "sha256")[:16]
        padder = padding.PKCS7(128).padder()
        padded = padder.update(clear) + padder.finalize()
        encryptor = Cipher(algorithms.AES(self.encrypting), modes.CBC(iv)).encryptor()
        parts = b"\x80" + bytes(8) + iv + encryptor.update(padded) + encryptor.finalize()
        return base64.urlsafe_b64encode(parts + hmac.digest(self.signing, parts, "sha256")).decode()


class Keys:
    """Those that this process has used, so that each is made once."""

    def __init__(self) -> None:
        self._of_texts: dict[tuple[str, ...], list[Key]] = {}
        self.has_missed = False
        """Whether this process has read something that no key opens; until then nobody has to look for such values. It
        stays true, also once that key is here: what was read may be kept (`expression_context.Inputs`)."""

    def current(self) -> list[Key]:
        """The keys of this moment, the newest first."""
        texts = encryption_keys()
        if texts not in self._of_texts:
            self._of_texts[texts] = [Key.of(text) for text in texts]
        return self._of_texts[texts]


def keys() -> Keys:
    """This process's keys."""
    return this_process.own(Keys)


def has_marker(text: str) -> bool:
    """Whether MARKER stands in JSON text. The first look is for a character that few texts have: it is ten times as
    fast."""
    return "$" in text and MARKER in text


def looks_sealed(text: str) -> bool:
    """Whether JSON text may hold something that is opened where it, or a text in it, is read."""
    return has_marker(text) or TEXT_MARKER in text


def has_marker_bytes(text: bytes) -> bool:
    """The same of JSON text as bytes."""
    return b"$" in text and MARKER_BYTES in text


# --- sealing --------------------------------------------------------------------------------------------------------


def seal_json(text: str) -> str:
    """The sealed value of JSON text, as JSON text."""
    return f'{{"$enc":"{_sealed(text, None)}"}}'


def seal_value(value: Any, *, stable_for: UUID | None = None) -> dict[str, str]:
    """The sealed value of a JSON value. `stable_for`: the same one for the same JSON of this owner, in whatever order
    its members are."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=stable_for is not None)
    return {NAME: _sealed(text, stable_for)}


def seal_text(text: str) -> str:
    """The sealed text of a text."""
    return f"$enc{{{_sealed(text, None)}}}"


def _sealed(text: str, stable_for: UUID | None) -> str:
    key, clear = keys().current()[0], text.encode("utf-8", "surrogatepass")
    token = key.fernet.encrypt(clear).decode() if stable_for is None else key.stable_token(clear, stable_for)
    return f"v1:{key.name}:{token}"


# --- opening --------------------------------------------------------------------------------------------------------


class UnopenedText(str):
    """What stands for a text that no key opens: it says which key is missing. Whoever stores it again is refused."""

    __slots__ = ()


class Unopened(dict[str, Any]):
    """What stands for a value that no key opens. It can be shown as it is; who asks it for a member is refused, since
    that would take it for the payload."""

    def __init__(self, why: UnopenedText) -> None:
        super().__init__({NAME: why})

    def __getitem__(self, name: str) -> Any:
        if name != NAME:
            self._refuse()
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        if name != NAME:
            self._refuse()
        return True

    def get(self, name: str, default: Any = None) -> Any:
        """The text; raises EncryptionKeyMissing for everything else."""
        return self[name]

    def _refuse(self) -> NoReturn:
        raise EncryptionKeyMissing(str(super().__getitem__(NAME)))


def loads(text: str | bytes) -> Any:
    """A JSON value as it was before it, or parts of it at whatever depth, were sealed."""
    value = json.loads(text)
    if match := _match(value):
        return _clear_value(match)
    left = [value]
    while left:  # from the top down: what is opened is not looked at
        inner = left.pop()
        places = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        for place, item in places:
            if match := _match(item):
                inner[place] = _clear_value(match)
            elif isinstance(item, dict | list):
                left.append(item)
            elif isinstance(item, str) and isinstance(inner, dict) and (match := _TEXT.fullmatch(item)):
                inner[place] = _clear_text(match)
    return value


def _match(value: Any) -> re.Match[str] | None:
    if isinstance(value, dict) and len(value) == 1 and isinstance(held := value.get(NAME), str):
        return _VALUE.fullmatch(held)
    return None


def open_text(text: str) -> str:
    """A text as it was before it, or parts of it, were sealed; an UnopenedText where no key opens one of them."""
    if TEXT_MARKER not in text:
        return text
    parts: list[str] = []

    def clear(match: re.Match[str]) -> str:
        parts.append(_clear_text(match))
        return parts[-1]

    opened = _TEXT.sub(clear, text)
    return UnopenedText(opened) if any(isinstance(part, UnopenedText) for part in parts) else opened


def is_sealed_text(text: str) -> bool:
    """Whether all of a stored text is sealed, under whichever key."""
    return _TEXT.fullmatch(text) is not None


def _clear_value(match: re.Match[str]) -> Any:
    clear = _clear(match)
    return Unopened(clear) if isinstance(clear, UnopenedText) else json.loads(clear)


def _clear_text(match: re.Match[str]) -> str:
    clear = _clear(match)
    return clear if isinstance(clear, UnopenedText) else clear.decode("utf-8", "surrogatepass")


def _clear(match: re.Match[str]) -> bytes | UnopenedText:
    """What was sealed; or why nobody can open it."""
    name, token = match[1], match[2]
    known = keys()
    why = f"This is encrypted under the key {name}, which is not here: add that key to HEADRACE_ENCRYPTION_KEYS_OLD."
    for key in known.current():
        if key.name == name:
            try:
                return key.fernet.decrypt(token)
            except InvalidToken:
                why = (
                    f"This was encrypted under the key {name} and was changed in the database since: nobody can open "
                    "it. Bring it back from a backup."
                )
    known.has_missed = True
    return UnopenedText(why)


def unopened(value: Any) -> Iterator[str]:
    """Why parts of a value could not be opened. No recursion."""
    open_ = [value]
    while open_:
        inner = open_.pop()
        if isinstance(inner, UnopenedText):
            yield str(inner)
        elif isinstance(inner, dict):
            open_.extend(dict.values(inner))
        elif isinstance(inner, list | tuple):
            open_.extend(inner)


def check_open(value: Any) -> None:
    """Raises EncryptionKeyMissing where a part of the value could not be opened. Looks into it only once this process
    has met such a value."""
    if keys().has_missed:
        for why in unopened(value):
            raise EncryptionKeyMissing(why)


def key_names(text: str) -> set[str]:
    """The names of the keys under which parts of a stored text, or JSON text, are sealed."""
    return {match[2] for match in _STORED.finditer(text)} if NAME in text else set()


def form(text: str, *, with_keys: bool = True) -> str:
    """A stored text, or JSON text, without its tokens: the same for what is sealed at the same places, by the same keys
    (`with_keys`)."""
    return _STORED.sub(r"\1\2" if with_keys else r"\1", text) if NAME in text else text


def payload_bytes(clear: int, number: int, sealed: int) -> int:
    """The bytes of payloads: so many of those that are stored in clear, and those of a number of others, which are
    sealed as `v1:…` in so many bytes. Of each of these half a block of padding is taken off: it is a guess."""
    return clear + (sealed - number * _NAME_BYTES) * 3 // 4 - number * (_FERNET_BYTES + _BLOCK_BYTES // 2)
