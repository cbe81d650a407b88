"""`events send`: one event, or those of a file; what they started, and why nothing."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from tests.support.workers import WorkerPool, publish
from workflows import services
from workflows.management.output import MAX_INPUT_BYTES
from workflows.models import Event, Organization
from workflows.services import events

NOOP = [{"id": "a", "type": "noop"}]


def send(org: Organization, *arguments: str) -> str:
    out = io.StringIO()
    call_command("events", "--org", org.slug, "send", *arguments, stdout=out)
    return out.getvalue()


def stored(org: Organization) -> list[Event]:
    return list(Event.objects.filter(org_id=org.id).order_by("id"))


def test_an_event_has_what_the_options_say(org: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"from": "file"}')
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"from": "stdin"}'))
    said = send(org, "a/b", "--data", '{"n": 1}', "--id", "mine", "--user", "anna", "--at", "2026-11-22T10:00:00Z")
    send(org, "a/b", "--data", f"@{file}", "--user", '{"id": 7, "plan": "pro"}')
    send(org, "a/b", "--data", "-")
    send(org, "a/b")
    first, second, third, fourth = stored(org)
    assert said == f"event {first.id}\n"
    assert (first.name, first.data, first.external_id, first.user) == ("a/b", {"n": 1}, "mine", {"id": "anna"})
    assert first.ts.isoformat() == "2026-11-22T10:00:00+00:00"
    assert (second.data, second.user) == ({"from": "file"}, {"id": 7, "plan": "pro"})
    assert (third.data, fourth.data, fourth.user) == ({"from": "stdin"}, {}, {})


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "a/1"}, {"name": "a/2", "data": {"n": 2}}]',
        '{"name": "a/1"}\n\n{"name": "a/2", "data": {"n": 2}}\n',
        '[\n {"name": "a/1"},\n {"name": "a/2", "data": {"n": 2}}\n]',
    ],
)
def test_a_file_has_an_array_or_a_line_each(org: Organization, tmp_path: Path, text: str) -> None:
    file = tmp_path / "events"
    file.write_text(text)
    ids = json.loads(send(org, "--from", str(file), "--json"))["ids"]
    assert [(str(each.id), each.name, each.data) for each in stored(org)] == [
        (ids[0], "a/1", {}),
        (ids[1], "a/2", {"n": 2}),
    ]


@pytest.mark.parametrize("text", ['{"name": "a/1"}', '{\n "name": "a/1"\n}', '{"name": "a/1"}\n'])
def test_a_file_may_have_one_event(org: Organization, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    send(org, "--from", "-")
    assert [each.name for each in stored(org)] == ["a/1"]


@pytest.mark.parametrize(
    ("arguments", "text", "says"),
    [
        ([], "", "Name an event"),
        (["a/b", "--from", "-"], "[]", "give no name"),
        (["--from", "-", "--user", "x"], "[]", "give no name"),
        (["--from", "-"], "", "is empty"),
        (["--from", "-"], "[]", "send 1 to 5,000"),
        (["--from", "-"], "{", "no JSON"),
        (["--from", "-"], '{"name": "a"}\n{"name"\n', "line 2"),
        (["--from", "-"], '{"name": "a"}\n\n{"data": {}}\n', r"Nothing was sent. line 3\.name"),
        (["--from", "-"], '[{"name": "a"}, {"name": ""}]', r"events\[1\]\.name"),
        (["--from", "-"], f'{{"name": "a", "data": {{"x": "{"x" * 9_000_000}"}}}}', "more than 8 MiB"),
        (["--from", "/nowhere/at/all"], "", "No such file"),
        (["a/b", "--data", "@/nowhere/at/all"], "", "No such file"),
        (["a/b", "--data", "[1]"], "", r"the event\.data"),
        (["a/b", "--data", "{"], "", "no JSON"),
        (["a/b", "--user", "{"], "", "--user is no JSON"),
        (["a/b", "--at", "yesterday"], "", "is no time"),
        (["headrace/run.failed"], "", "the system's own"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_sent(
    org: Organization, arguments: list[str], text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(CommandError, match=says):
        send(org, *arguments)
    assert stored(org) == []


def test_what_does_not_fit_its_schema_is_refused_as_over_http(org: Organization) -> None:
    events.put_schema(org, "a/b", {"type": "object", "required": ["n"]})
    with pytest.raises(CommandError, match='the event.data: "n" is a required property'):
        send(org, "a/b")
    assert [each.rejected != "" for each in stored(org)] == [True]


def test_a_quota_counts_what_the_command_sends(org: Organization) -> None:
    Organization.objects.filter(id=org.id).update(is_full=True)
    with pytest.raises(CommandError, match="stores more than its quota"):
        send(org, "a/b")


def test_what_came_of_events_is_shown(org: Organization, workers: WorkerPool) -> None:
    publish(org, NOOP, slug="hears", on=[{"event": "a/b", "if": "event.data.n > 1"}])
    publish(org, NOOP, slug="refuses", on=[{"event": "a/c"}], tags=["${ event.data.words }"])
    said = send(org, "a/b", "--data", '{"n": 2}', "--wait")
    assert re.search(r"event \S+ a/b\n  run \S+ of hears v1: ", said)
    assert "the conditions of those that hear it do not hold" in send(org, "a/b", "--data", '{"n": 1}', "--wait")
    assert "no trigger listens to this name" in send(org, "none/x", "--wait")
    assert "no run of refuses: invalid: " in send(org, "a/c", "--data", '{"words": "a b"}', "--wait")
    answer: Any = json.loads(send(org, "a/b", "--data", '{"n": 3}', "--wait", "--json"))
    (event,) = answer["events"]
    assert (event["id"], event["runs"][0]["flow"], event["outcomes"]) == (answer["ids"][0], "hears", [])


@pytest.mark.usefixtures("published")
def test_waiting_ends_with_a_sentence_where_nobody_matches(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    Event.objects.create(org_id=org.id, name="a/b", ts="2026-11-22T10:00:00Z")
    monkeypatch.setattr("workflows.services.send_events", lambda *_, **__: [stored(org)[0].id])
    with pytest.raises(CommandError, match="1 of them not matched after 0.2 s"):
        send(org, "a/b", "--wait", "--timeout", "0.2")


def test_all_events_are_awaited_however_many_are_shown(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f'{{"name": "a/{number}"}}\n' for number in range(60))
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    looks: list[int] = []
    send_events = services.send_events

    def send_late(*args: Any, **options: Any) -> Any:
        ids = send_events(*args, **options)
        Event.objects.filter(id__in=ids).update(matched_at=None)
        return ids

    def look(_: float) -> None:
        """Matched one after the other, the last one late."""
        ids = list(Event.objects.filter(org_id=org.id).order_by("id").values_list("id", flat=True))
        done = ids[:55] if not looks else ids
        looks.append(len(done))
        Event.objects.filter(id__in=done).update(matched_at=timezone.now())

    monkeypatch.setattr(services, "send_events", send_late)
    monkeypatch.setattr(time, "sleep", look)
    said = send(org, "--from", "-", "--wait")
    assert looks == [55, 60], "it does not wait for those that it does not show"
    assert said.count("event ") == 50
    assert "10 more were sent" in said


class _Bytes:
    """Standard input as a process has it."""

    def __init__(self, given: bytes) -> None:
        self.buffer = io.BytesIO(given)

    def isatty(self) -> bool:
        return False


FROM_STDIN: list[list[str]] = [
    ["events", "send", "--from", "-"],
    ["events", "send", "a/b", "--data", "-"],
    ["trigger", "flow", "--data", "-"],
    ["runs", "replay", "01a218d4-3e1e-7db0-914b-816c6e958de1", "--data", "-"],
    ["secret", "set", "TOKEN"],
]


@pytest.mark.parametrize("line", FROM_STDIN, ids=" ".join)
def test_standard_input_that_is_no_text_closed_or_endless_is_refused(
    org: Organization, line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"not .*UTF-8|utf-8|no text": _Bytes(b'{"name": "caf\xe9"}'), "is closed": None,
             "more than 8 MiB": _Bytes(b" " * (MAX_INPUT_BYTES + 1))}  # fmt: skip
    for says, stdin in given.items():
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(CommandError, match=says):
            call_command(line[0], "--org", org.slug, *line[1:], stdout=io.StringIO())
    assert stored(org) == []


def test_text_in_utf_8_is_read_as_it_is_whatever_the_locale(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Bytes('\ufeff{"name": "a/b", "data": {"n": "é😀"}}\r\n'.encode()))
    send(org, "--from", "-")
    assert [each.data for each in stored(org)] == [{"n": "é😀"}]
    monkeypatch.setattr(sys, "stdin", _Bytes("é two\r\nlines\r\n".encode()))
    call_command("secret", "--org", org.slug, "set", "TOKEN")
    assert org.secrets.get().value == "é two\nlines"


def test_a_question_that_nobody_can_answer_is_a_no(org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(org, [{"id": "a", "type": "noop"}], slug="asked")
    for fault in (
        EOFError(),
        RuntimeError("input(): lost sys.stdin"),
        UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"),
    ):

        def refuse(_: str, fault: Exception = fault) -> str:
            raise fault

        monkeypatch.setattr("builtins.input", refuse)
        with pytest.raises(CommandError, match="Nothing was done"):
            call_command("flows", "--org", org.slug, "delete", "asked", "--history", "delete")
