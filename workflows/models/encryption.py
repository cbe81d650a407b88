"""What is stored encrypted: written with the newest key, read with any (MultiFernet).

A key is a text of any length (`HEADRACE_ENCRYPTION_KEY`, those before it in `HEADRACE_ENCRYPTION_KEYS_OLD`); Fernet's
own key is its SHA-256.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from workflows import this_process
from workflows.errors import ConfigurationFailure
from workflows.this_process.configuration import encryption_keys


class Ciphers:
    """Those of the keys that this process has used, so that one is made once."""

    def __init__(self) -> None:
        self._of_keys: dict[tuple[str, ...], MultiFernet] = {}

    def opened_by(self, keys: tuple[str, ...]) -> MultiFernet:
        """The cipher that reads what any of the keys has written, and writes with the first."""
        if keys not in self._of_keys:
            self._of_keys[keys] = MultiFernet(_fernet(key) for key in keys)
        return self._of_keys[keys]


def _fernet(key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()))


def _opened_by(keys: tuple[str, ...]) -> MultiFernet:
    return this_process.own(Ciphers).opened_by(keys)


def encrypt(clear_text: str) -> bytes:
    """The text as it is stored, by the newest key."""
    return _opened_by(encryption_keys()).encrypt(clear_text.encode())


def decrypt(ciphertext: bytes, what: str) -> str:
    """The clear text. Raises ConfigurationFailure where no key opens it."""
    try:
        return _opened_by(encryption_keys()).decrypt(ciphertext).decode()
    except InvalidToken:
        raise ConfigurationFailure(
            f"What is stored for {what} was encrypted under another HEADRACE_ENCRYPTION_KEY: add that one to "
            "HEADRACE_ENCRYPTION_KEYS_OLD, or store it again."
        ) from None


def is_newest(ciphertext: bytes) -> bool:
    """Whether the newest key alone opens it."""
    try:
        _opened_by(encryption_keys()[:1]).decrypt(ciphertext)
    except InvalidToken:
        return False
    return True
