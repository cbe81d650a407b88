"""What a secret may be called and hold: the same for the admin and the command."""

from __future__ import annotations

from workflows.errors import InvalidInput
from workflows.payload import text_fault

MAX_NAME = 100
MAX_CHARACTERS = 100_000


def check_name(name: str) -> None:
    """Raises InvalidInput for a name that `${ secrets.NAME }` can't have."""
    if not name.isidentifier() or not name.isascii() or len(name) > MAX_NAME:
        raise InvalidInput(
            f"{name[:MAX_NAME]!r}: a name has letters, digits and _, no digit first, and at most {MAX_NAME} characters."
        )


def check_value(value: str) -> None:
    """Raises InvalidInput for a value that can't be meant, or can't be stored."""
    if not value.strip():
        raise InvalidInput("The value is empty: nothing was stored. Type it, or send it on standard input.")
    if len(value) > MAX_CHARACTERS:
        raise InvalidInput(f"The value has more than {MAX_CHARACTERS:,} characters: nothing was stored.")
    if found := text_fault(value):
        raise InvalidInput(f"The value holds {found}: nothing was stored.")
