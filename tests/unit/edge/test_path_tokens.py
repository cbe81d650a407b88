"""Secret parts of addresses in log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from config.logging import configure

SECRET = "s3cr3t-Tok_en:Abc"


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the root handler writes, as JSON or text."""
    form = request.param
    handlers = list(logging.getLogger().handlers)
    level = logging.getLogger().level
    configure(log_format=form, level="INFO")
    found = io.StringIO()
    handler = next(each for each in logging.getLogger().handlers if each not in handlers)
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(found)
    yield found
    configure(log_format="console", level=logging.getLevelName(level))
    logging.getLogger().handlers[:] = handlers


@pytest.mark.parametrize("lines", ["console", "json"], indirect=True)
@pytest.mark.parametrize("place", ["/e/{}", "/hooks/{}", "/callbacks/{}", "/E/{}", "http://x:1/hooks//{}/y?z=1"])
def test_no_line_shows_the_secret_part_of_an_address(lines: io.StringIO, place: str) -> None:
    path = place.format(SECRET)
    logging.getLogger("django.request").warning("%s: %s", "Not Found", path)
    logging.getLogger("uvicorn.access").warning('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "POST", path, "1.1", 200)
    structlog.get_logger("x").warning("request failed", path=path, nested={"url": [path]})
    try:
        raise ValueError(f"no answer of {path}")
    except ValueError:
        logging.getLogger("django.request").exception("failed")
    text = lines.getvalue()
    assert SECRET not in text
    assert text.count("***") >= 4
    assert "no answer of" in text


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_a_masked_line_of_json_stays_one(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.access").warning('%s - "%s %s"', "127.0.0.1:1", "POST", f"/e/{SECRET}")
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["event"] == '127.0.0.1:1 - "POST /e/***"'


@pytest.mark.parametrize("lines", ["console"], indirect=True)
def test_a_key_is_masked_wherever_it_stands_and_its_prefix_is_not(lines: io.StringIO) -> None:
    logging.getLogger("x").warning("key=%s by %s", "hr_api_" + "a" * 32, "API key hr_api_aaaaaaa… (ci)")
    assert "aaaaaaaa" not in lines.getvalue()
    assert "hr_api_aaaaaaa…" in lines.getvalue()
