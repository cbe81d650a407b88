"""Lines that are written together are those that stdlib logging would have written one by one."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from config.logging import configure
from workflows.edge.log_lines import MAX_WRITE_BYTES, LineHandler, Lines

NAME = "tests.together"
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers()),
    st.sampled_from(["/e/s3cr3t", "http://x/hooks/s3cr3t?y=1", "hr_api_" + "a" * 32, "a b", 'say "x"', "two\nlines"]),
)  # fmt: skip
ROWS = st.lists(st.dictionaries(st.sampled_from(["jobId", "org", "a.b", "é"]), VALUES), min_size=1, max_size=4)
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


class Written(io.StringIO):
    """What a handler writes, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)

    def taken(self) -> str:
        """What has been written since this was called last, without the time."""
        text, self.pieces = "".join(self.pieces), []
        return TIME.sub("", text)


@pytest.fixture(params=["console", "json"])
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    """What our handler writes as the only one of a logger."""
    root, logger = logging.getLogger(), logging.getLogger(NAME)
    before, level = list(root.handlers), root.level
    configure(log_format=request.param, level="INFO")
    (handler,) = (each for each in root.handlers if isinstance(each, LineHandler) and each not in before)
    stream = Written()
    handler.setStream(stream)
    above, logger.parent = logger.parent, None  # pytest's handlers are at the root, and where nothing is passed on
    logger.handlers = [handler]
    logger.setLevel("INFO")
    yield stream
    logger.parent, logger.handlers, logger.filters = above, [], []
    logger.setLevel("NOTSET")
    configure(log_format="console", level=logging.getLevelName(level))
    root.handlers[:] = before


def one_by_one(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        structlog.get_logger(NAME).info("job started", **row)


@given(ROWS)
@settings(max_examples=60)
def _each_line_is_the_same(written: Written, rows: list[dict[str, Any]]) -> None:
    one_by_one(rows)
    expected = written.taken()
    Lines(NAME).info("job started", rows)
    assert written.taken() == expected
    assert "s3cr3t" not in expected


def test_each_line_is_the_same_and_masked(written: Written) -> None:
    _each_line_is_the_same(written)


def test_many_lines_are_few_writes_of_whole_lines(written: Written) -> None:
    rows = [{"jobId": f"{number:050}", "org": "é" * number} for number in range(200)]
    one_by_one(rows)
    writes, expected = len(written.pieces), written.taken()
    Lines(NAME).info("job started", rows)
    pieces = list(written.pieces)
    assert written.taken() == expected
    assert writes == 200
    assert len(pieces) < 50
    assert all(piece.endswith("\n") and len(piece.encode()) <= MAX_WRITE_BYTES for piece in pieces)


def test_a_line_that_is_longer_than_a_write_is_written_whole(written: Written) -> None:
    Lines(NAME).info("job started", [{"a": 1}, {"a": "x" * 2 * MAX_WRITE_BYTES}, {"a": 2}])
    assert [piece.count("\n") for piece in written.pieces] == [1, 1, 1]


def test_below_the_level_nothing_is_written(written: Written) -> None:
    logging.getLogger(NAME).setLevel("WARNING")
    assert not Lines(NAME).are_wanted()
    Lines(NAME).info("job started", [{"a": 1}])
    assert written.taken() == ""


def test_a_handler_of_somebody_else_gets_a_record_of_each_line(written: Written) -> None:
    records: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logging.getLogger(NAME).addHandler(Other())
    Lines(NAME).info("job started", [{"a": 1}, {"a": 2}])
    assert [record.msg["a"] for record in records if isinstance(record.msg, dict)] == [1, 2]
    assert written.taken().count("\n") == 2


@pytest.mark.parametrize("place", ["logger", "handler"])
def test_a_filter_is_asked_about_each_line(written: Written, place: str) -> None:
    logger = logging.getLogger(NAME)
    filtered = logger if place == "logger" else logger.handlers[0]
    filtered.addFilter(lambda record: isinstance(record.msg, dict) and record.msg["a"] != 2)
    Lines(NAME).info("job started", [{"a": 1}, {"a": 2}, {"a": 3}])
    assert written.taken().count("\n") == 2


def test_a_handlers_level_counts(written: Written) -> None:
    logging.getLogger(NAME).handlers[0].setLevel("ERROR")
    Lines(NAME).info("job started", [{"a": 1}])
    assert written.taken() == ""


def test_what_makes_records_sees_each_line(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made.append(args[0])
        return logging.LogRecord(*args, **kwargs)

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        Lines(NAME).info("job started", [{"a": 1}, {"a": 2}])
    finally:
        logging.setLogRecordFactory(before)
    assert made.count(NAME) == 2  # a formatter copies them
    handed: list[object] = []
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda _, record: handed.append(record))
    Lines(NAME).info("job started", [{"a": 1}, {"a": 2}])
    assert len(handed) == 2


def test_what_is_bound_to_the_context_stands_in_each_line(written: Written) -> None:
    with structlog.contextvars.bound_contextvars(request="r1"):
        Lines(NAME).info("job started", [{"a": 1}, {"a": 2}])
    assert written.taken().count("r1") == 2


def test_other_processors_of_structlog_get_each_line(written: Written) -> None:
    with structlog.testing.capture_logs() as captured:
        Lines("tests.captured").info("job started", [{"a": 1}, {"a": 2}])
    assert [line["a"] for line in captured] == [1, 2]


def test_a_line_that_can_not_be_rendered_takes_no_other_along(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    Lines(NAME).info("job started", [{"a": 1}, {"a": _Unspeakable()}, {"a": 2}])
    assert written.taken().count("\n") == 2
    assert "Logging error" in capsys.readouterr().err


class _Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_a_stream_that_is_gone_disturbs_nobody(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.getLogger(NAME).handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    gone = io.StringIO()
    gone.close()
    handler.setStream(gone)
    Lines(NAME).info("job started", [{"a": 1}])
    assert "Logging error" in capsys.readouterr().err
