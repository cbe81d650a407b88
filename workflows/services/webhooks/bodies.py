"""The bodies of webhooks: JSON or a form, by their media type, in the charset that it names."""

from __future__ import annotations

import codecs
from urllib.parse import parse_qsl

from django.utils.http import parse_header_parameters

from workflows.errors import InvalidInput, InvalidJson
from workflows.payload import Json, parse

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
ACCEPTED = f"JSON ({JSON}, or a type that ends with +json) or a form ({FORM})"
MAX_FIELDS = 10_000
NO_CHARSETS = frozenset(
    {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined", "mbcs", "oem"}
)
"""Codecs of Python that are none of texts that are sent, or cost more than the length of the text."""


def read(content_type: str, body: bytes) -> Json:
    """The value of a body: what its JSON is, or the fields of its form. An empty body is `{}`.

    A field that comes more than once is the list of its values, in their order; a form of one field `payload` is the
    JSON in it. Raises InvalidInput, which names the charset or says what is accepted.
    """
    try:
        media_type, parameters = parse_header_parameters(content_type)
    except (ValueError, LookupError):
        raise InvalidInput(f"The content type {content_type[:100]!r} can't be read; send {ACCEPTED}.") from None
    text = _decoded(body, parameters.get("charset", ""))
    if not text.strip():
        return {}
    if media_type == FORM:
        return _form(text, parameters.get("charset", ""))
    try:
        return parse(text.encode())
    except InvalidJson as error:
        if media_type in {"", JSON} or media_type.endswith("+json"):
            raise InvalidInput(f"{error}. Send {ACCEPTED}.") from None
        raise InvalidInput(
            f"A body of the type {media_type[:100]!r} that is no JSON can't be read: send {ACCEPTED}."
        ) from None


def _decoded(body: bytes, charset: str) -> str:
    """The text of the body, without a byte order mark."""
    codec = _codec(charset)
    try:
        text = codec.decode(body, "strict")[0]
    except UnicodeError as error:
        said = "as its content type says" if charset else "and its content type names no other charset"
        raise InvalidInput(f"The body is not in {codec.name}, {said}: {_place(error)}.") from None
    return text.removeprefix("\ufeff")


def _codec(charset: str) -> codecs.CodecInfo:
    name = charset.strip() or "utf-8"
    try:
        found = codecs.lookup(name)
        b"a".decode(name, "replace")  # refuses those that are not of texts
    except (LookupError, ValueError):
        found = None
    if found is None or found.name.replace("_", "-") in NO_CHARSETS:
        raise InvalidInput(f"The charset {name[:100]!r} of the body is unknown; send it in utf-8.")
    return found


def _place(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} (0x{error.object[error.start]:02x}) is none of it"
    return str(error)[:200]


def _form(text: str, charset: str) -> Json:
    codec = _codec(charset)
    try:
        pairs = parse_qsl(text, keep_blank_values=True, encoding=codec.name, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeError as error:
        raise InvalidInput(f"A field of the form is not in {codec.name}: {_place(error)}.") from None
    except ValueError:
        raise InvalidInput(f"The form has more than {MAX_FIELDS:,} fields; send less at once.") from None
    form: dict[str, str | list[str]] = {}
    for name, value in pairs:
        earlier = form.get(name)
        if earlier is None:
            form[name] = value
        elif isinstance(earlier, list):
            earlier.append(value)
        else:
            form[name] = [earlier, value]
    only = form.get("payload")
    if len(form) == 1 and isinstance(only, str):
        try:
            return parse(only.encode(), what="The form's field payload")
        except InvalidJson as error:
            raise InvalidInput(f"{error}; a form of this field alone is read as the JSON in it.") from None
    return form
