"""What a handler logs is without secrets, in the worker's log and in what is kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from workflows.steps.context import AttemptLog
from workflows.steps.masking import Secrets

SECRET = "s3cret-value"


class Recorder:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda message, **fields: self.lines.append((message, fields))


def test_fields_of_every_kind_are_masked() -> None:
    recorder = Recorder()
    log = AttemptLog(lambda: recorder, Secrets([SECRET]))  # type: ignore[arg-type, return-value]
    id_ = UUID(int=5)
    log.info(f"got {SECRET}", a=SECRET, b={"x": [SECRET]}, c=SECRET.encode(), d=5, e=ValueError(SECRET), f=id_)
    try:
        raise RuntimeError(f"with {SECRET}")
    except RuntimeError:
        log.error("failed", exc_info=True)
    assert "s3cret" not in repr(recorder.lines)
    assert "s3cret" not in repr(log.lines)
    (first, second) = recorder.lines
    assert (first[1]["b"], first[1]["d"], first[1]["f"]) == ({"x": ["***"]}, 5, str(id_))
    assert "RuntimeError: with ***" in second[1]["exception"]


def test_a_secret_of_several_lines_is_masked_in_what_is_printed() -> None:
    log = AttemptLog(Recorder, Secrets(["ab\ncd\nef"]))  # type: ignore[arg-type]
    log.keep("print", "before\nab\ncd\nef\nafter")
    assert [line["message"] for line in log.lines] == ["before", "***", "after"]


def test_what_is_fetched_later_is_masked_in_earlier_lines() -> None:
    secrets = Secrets()
    log = AttemptLog(Recorder, secrets)  # type: ignore[arg-type]
    log.info("the token is fetched-token")
    secrets.add("fetched-token")
    assert log.lines[0]["message"] == "the token is ***"


def test_no_character_that_is_dropped_hides_a_secret() -> None:
    assert AttemptLog(Recorder, Secrets([SECRET])).masked("s3cret\0-value") == "***"  # type: ignore[arg-type]
