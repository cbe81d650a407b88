"""Masking finds a secret in every way in which formats write it, and leaves the rest alone."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from workflows.engine.pipeline import perform
from workflows.engine.state import expression_context
from workflows.errors import InvalidOutput
from workflows.steps import masking

SECRETS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Cn")),
    min_size=6,
    max_size=24,
).filter(lambda text: text.strip() == text)


def _percent(text: str) -> str:
    return "".join(f"%{byte:02x}" if byte % 3 else f"%{byte:02X}" for byte in text.encode())


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "lower": str.lower,
    "upper": str.upper,
    "json": lambda text: json.dumps({"k": text}),
    "json with unicode": lambda text: json.dumps([text], ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps({"k": text})),
    "json with escaped slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "repr": repr,
    "percent": lambda text: quote(text, safe=""),
    "percent in lower case": lambda text: quote(text, safe="").replace("%", "%").lower(),
    "percent but slashes": quote,
    "percent of everything": _percent,
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "query": lambda text: urlencode({"a": text, "b": 1}),
    "html": html.escape,
    "html numbers": lambda text: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in text),
    "html hex": lambda text: "".join(c if c.isalnum() else f"&#x{ord(c):X};" for c in text),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
}


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS, before=st.text(max_size=3), after=st.text(max_size=3))
@example(secret="00000\\", before="", after="")
def test_a_secret_is_masked_in_every_form(form: str, secret: str, before: str, after: str) -> None:
    written = FORMS[form](secret)
    masked = expression_context.mask(f"{before}{written}{after}", [secret])
    assert "***" in masked
    assert written not in masked


@given(secret=SECRETS, before=st.text(max_size=5), after=st.text(max_size=5), urlsafe=st.booleans())
def test_a_secret_within_a_longer_base64_text_is_masked(secret: str, before: str, after: str, urlsafe: bool) -> None:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    whole = encode(f"{before}{secret}{after}".encode(errors="replace")).decode()
    masked = expression_context.mask(f"Authorization: Basic {whole}", [secret])
    assert "***" in masked
    kept = max(masked.removeprefix("Authorization: Basic ").split("***"), key=len)
    longest = max(len(each.encode(errors="replace")) for each in (before, after))
    assert len(kept) <= len(base64.b64encode(bytes(longest))) + 4, "but for what stands around it"


@given(secret=SECRETS, text=st.text(st.sampled_from("0123456789 .,:;!?()[]{}"), max_size=40))
def test_what_holds_no_secret_is_left_alone(secret: str, text: str) -> None:
    assume(any(character.isalpha() for character in secret))
    assert expression_context.mask(text, [secret]) == text


def test_secrets_that_overlap_leave_nothing_of_either() -> None:
    masked = expression_context.mask("x abcdefghij y", ["abcdefg", "efghij", "cdef"])
    assert masked == "x *** y"


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
    for text in (key, key.strip(), json.dumps(key), key.replace("\n", "\r\n"), "first: hkiG9w0BAQEFAASC"):
        assert "hkiG9w0BAQ" not in expression_context.mask(text, [key])


@pytest.mark.parametrize("secret", ["", "1", "ab", "abc"])
def test_short_secrets_are_masked_only_where_they_stand_alone(secret: str) -> None:
    text = "1 abc of 1000 tabs"
    assert expression_context.mask(text, [secret]) == text
    if secret:
        assert expression_context.mask_json({"a": secret, "b": text, "n": 1}, [secret]) == {
            "a": "***",
            "b": text,
            "n": 1,
        }


def test_json_values_are_masked_wherever_text_is() -> None:
    value: Any = {"a": ["s3cret-value", {"x s3cret-value": 1}], "n": 5, "none": None, "t": True}
    masked = expression_context.mask_json(value, ["s3cret-value"])
    assert masked == {"a": ["***", {"x ***": 1}], "n": 5, "none": None, "t": True}
    assert value["a"][0] == "s3cret-value", "the value itself is not changed"


def test_a_large_text_with_many_secrets_is_masked() -> None:
    """With a timeout far above what it takes: it was minutes where every secret was sought everywhere."""
    secrets = [f"secret-value-{number:04}-{number * 7919:x}" for number in range(200)]
    text = "All work and no play makes a dull text. " * 50_000 + secrets[150]
    masked = expression_context.mask(text, secrets)
    assert masked.endswith("text. ***")


def test_an_input_without_secrets_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    spans = masking.Hidden.spans

    def counted(self: masking.Hidden, text: str, lowered: str) -> Iterator[tuple[int, int]]:
        searched.append(text)
        return spans(self, text, lowered)

    monkeypatch.setattr(masking.Hidden, "spans", counted)
    value = {"items": [f"text {number}" for number in range(100)]}
    assert json.loads(perform._kept_input(value, masking.Secrets(["a-secret", "another"])) or "") == value
    assert len(searched) == 2, "the whole for each secret"


@pytest.mark.parametrize("secret", ['with "quotes" in it', "back\\slash", "z\u00fcrich-key", "abc", "two\nlines-of-it"])
def test_an_input_is_masked_however_json_writes_the_secret(secret: str) -> None:
    value = {"alone": secret, "plain": "text", "list": [secret], secret: 1}
    kept = perform._kept_input(value, masking.Secrets([secret]))
    assert json.loads(kept or "") == {"alone": "***", "plain": "text", "list": ["***"], "***": 1}


def test_why_an_input_can_t_be_stored_names_no_secret() -> None:
    with pytest.raises(InvalidOutput) as raised:
        perform._kept_input(
            {"a-secret-key": float("nan"), "x": {"a-secret-key": "\0"}}, masking.Secrets(["a-secret-key"])
        )
    assert "a-secret-key" not in str(raised.value)
