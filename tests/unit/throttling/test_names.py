"""The strings of limits in the store: each form is built and read back, and nothing is lost of an unknown one."""

from __future__ import annotations

import ast
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttling.errors import ThrottlingError
from throttling.names import (
    RUN_PLACES,
    Definition,
    Dimension,
    Kind,
    LimitInstance,
    LimitName,
    Scope,
    kind_of,
    queue_instance,
    run_of_permit,
    run_permit,
)

ORG, FLOW = uuid.UUID(int=7, version=4), uuid.UUID(int=8, version=4)
C, R = Dimension.CONCURRENCY, Dimension.RATE
NAMES = [
    ("global:rate", LimitName(scope=Scope.GLOBAL, dimension=R)),
    ("runs:concurrency", RUN_PLACES),
    (f"org:{ORG}:rate", LimitName(scope=Scope.ORG, dimension=R, org_id=ORG)),
    (f"flow:{FLOW}:concurrency", LimitName(scope=Scope.FLOW, dimension=C, flow_id=FLOW)),
    (f"flow:{FLOW}:0:rate", LimitName(scope=Scope.FLOW, dimension=R, flow_id=FLOW, position=0)),
    (f"run:{FLOW}:12:concurrency", LimitName(scope=Scope.RUN, dimension=C, flow_id=FLOW, position=12)),
    (f"step:{FLOW}:a_b-c:rate", LimitName(scope=Scope.STEP, dimension=R, flow_id=FLOW, subject="a_b-c")),
    (f"type:noop:{ORG}:rate", LimitName(scope=Scope.TYPE, dimension=R, org_id=ORG, subject="noop")),
    (
        f"type:noop:{ORG}:critical:concurrency",
        LimitName(scope=Scope.TYPE, dimension=C, org_id=ORG, subject="noop", critical=True),
    ),
    (f"limit:{ORG}:stripe:rate", LimitName(scope=Scope.LIMIT, dimension=R, org_id=ORG, subject="stripe")),
    ("limit:all:a:b:rate", LimitName(scope=Scope.LIMIT, dimension=R, subject="a:b")),
    (f"provider:{ORG}:2001:db8::1", LimitName(scope=Scope.PROVIDER, org_id=ORG, subject="2001:db8::1")),
    (f"pause:{ORG}:flow:{FLOW}:concurrency", LimitName.of_stop("pause", org_id=ORG, flow_id=FLOW, queue="")),
    (f"drain:{ORG}:org:concurrency", LimitName.of_stop("drain", org_id=ORG, flow_id=None, queue="")),
    ("pause:all:headrace.io:concurrency", LimitName.of_stop("pause", org_id=None, flow_id=None, queue="headrace.io")),
    ("queue:headrace.compute.scripts", LimitName.of_queue("headrace.compute.scripts")),
]
UNKNOWN = [
    "", ":", "a", "global", "global:", "global:cost", "global:x:rate", "org:me:rate", f"org:{ORG}", f"org:{ORG.hex}:rate",
    f"flow:{FLOW}:01:rate", f"flow:{FLOW}:x:rate", f"flow:{FLOW}:1:2:rate", f"type:{ORG}:rate", "limit:all:rate", "pause:all:concurrency",
    f"pause:{ORG}:flow:x:concurrency", "provider:example", "region:eu:rate", "GLOBAL:rate",
]  # fmt: skip


@pytest.mark.parametrize(("text", "name"), NAMES, ids=[text.split(":")[0] for text, _ in NAMES])
def test_each_form_of_a_name_is_built_and_read(text: str, name: LimitName) -> None:
    assert str(name) == name.text == text
    assert LimitName.parse(text) == name
    assert hash(LimitName.parse(text)) == hash(name)
    assert name.first_part == text.split(":", maxsplit=1)[0]


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_name_of_another_form_is_kept_whole(text: str) -> None:
    """A worker of another release may write what this one does not know."""
    name = LimitName.parse(text)
    assert (name.scope, name.subject, name.dimension, str(name)) == (Scope.UNKNOWN, text, None, text)


@pytest.mark.parametrize("text", ["", "c", "cc:x", "global:rate"])
def test_an_instance_needs_a_kind(text: str) -> None:
    with pytest.raises(ThrottlingError, match="is no instance of a limit"):
        LimitInstance.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [("w:global:rate", None), ("w:global:rate@", ""), ("w:global:rate@a@b:c", "a@b:c"), ("w:global:rate@ä|ö", "ä|ö")],
)
def test_the_key_of_an_instance_is_all_behind_the_first_at(text: str, key: str | None) -> None:
    found = LimitInstance.parse(text)
    assert (found.kind, found.name.text, found.key, str(found)) == ("w", "global:rate", key, text)
    assert kind_of(text) == Kind.WINDOW


@pytest.mark.parametrize("text", ["", "5", "5|1", "5|1||", "5|x||0", "5|1||0|2"])
def test_a_definition_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ThrottlingError, match="is no definition of a limit"):
        Definition.parse(text)


def test_a_definition_is_base_stamp_override_revision() -> None:
    assert str(Definition(base="5", stamp=7)) == "5|7||0"
    assert Definition.parse("10,1000|7|4,500|31") == Definition(base="10,1000", stamp=7, override="4,500", revision=31)


def test_permits_are_of_steps_and_of_whole_runs() -> None:
    assert (run_permit("ab"), run_of_permit("run:ab"), run_of_permit("ab")) == ("run:ab", "ab", None)
    assert queue_instance("headrace.io") == "c:queue:headrace.io"


subjects = st.text(st.characters(exclude_characters="@"), min_size=1)
ids = st.uuids()
owners = st.none() | ids
dimensions = st.sampled_from(Dimension)
names = st.one_of(
    st.builds(LimitName, scope=st.sampled_from([Scope.GLOBAL, Scope.RUNS]), dimension=dimensions),
    st.builds(LimitName, scope=st.just(Scope.ORG), dimension=dimensions, org_id=ids),
    st.builds(
        LimitName, scope=st.just(Scope.FLOW), dimension=dimensions, flow_id=ids, position=st.none() | st.integers(0, 99)
    ),
    st.builds(LimitName, scope=st.just(Scope.RUN), dimension=dimensions, flow_id=ids, position=st.integers(0, 99)),
    st.builds(LimitName, scope=st.just(Scope.STEP), dimension=dimensions, flow_id=ids, subject=subjects),
    st.builds(
        LimitName, scope=st.just(Scope.TYPE), dimension=dimensions, org_id=ids, subject=subjects, critical=st.booleans()
    ),
    st.builds(LimitName, scope=st.just(Scope.LIMIT), dimension=dimensions, org_id=owners, subject=subjects),
    st.builds(LimitName, scope=st.just(Scope.PROVIDER), org_id=ids, subject=subjects),
    st.builds(LimitName.of_queue, subjects),
    st.builds(
        LimitName.of_stop, st.sampled_from(["pause", "drain"]), org_id=owners, flow_id=owners,
        queue=st.sampled_from(["", "headrace.io", "a:b"]),
    ),
)  # fmt: skip


@given(names)
def test_any_name_is_read_back_as_it_was_built(name: LimitName) -> None:
    assert LimitName.parse(str(name)) == name


@given(st.text() | st.lists(st.sampled_from([*Scope, *Dimension, str(ORG), "all", "critical", "1", "x"])).map(":".join))
def test_any_text_is_written_back_as_it_was_read(text: str) -> None:
    assert str(LimitName.parse(text)) == text


@given(st.sampled_from(Kind), names, st.none() | st.text())
def test_any_instance_is_read_back_as_it_was_built(kind: Kind, name: LimitName, key: str | None) -> None:
    instance = LimitInstance(kind=kind, name=name, key=key)
    assert LimitInstance.parse(str(instance)) == instance


@given(
    st.text(st.characters(exclude_characters="|")), st.integers(), st.sampled_from(["", "5", "5,60,2"]), st.integers()
)
def test_any_definition_is_read_back_as_it_was_built(base: str, stamp: int, override: str, revision: int) -> None:
    definition = Definition(base=base, stamp=stamp, override=override, revision=revision)
    assert Definition.parse(str(definition)) == definition


ROOT = Path(__file__).parents[3]
FORMS = (":concurrency", ":rate", "c:queue:", "c:runs:", "queue:", "runs:", "run:", "||0")


def test_no_other_module_builds_or_cuts_these_strings() -> None:
    """Texts with a part of the grammar, and slices of an instance, stand in `throttling/names.py` only."""
    found = []
    for room in ("throttling", "workflows", "dlq", "config", "devtools"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path != ROOT / "throttling" / "names.py" and "migrations" not in path.parts:
                found += [f"{path.relative_to(ROOT)}:{line}" for line in _suspects(path.read_text("utf-8"))]
    assert found == []


def _suspects(source: str) -> list[int]:
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            if node.value.startswith(FORMS) or node.value.endswith(FORMS):
                lines.append(node.lineno)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("instance"):
            lines.append(node.lineno)
    return lines
