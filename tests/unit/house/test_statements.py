"""The SQL files, their headers, the typed functions made from them, and who calls those."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from config.env import BASE_DIR
from devtools import statements
from devtools.statements import SQL_DIR, Statement
from workflows.engine.state import database

STATEMENTS = statements.read_all()
TRANSITIONS = "workflows/engine/state/transitions/"
BY_HAND = {"worker_seen": "workflows/selectors/health_checks.py"}
"""Statements that are run on a connection of another kind, by their text."""


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The syntax trees of all modules, by path."""
    return {
        path.relative_to(BASE_DIR).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("config", "workflows", "throttling", "dlq", "devtools", "bench", "examples")
        for path in (BASE_DIR / folder).rglob("*.py")
    }


def test_the_functions_are_up_to_date() -> None:
    made = statements.modules()
    for path, text in made.items():
        assert path.exists(), f"run `manage.py statements`: {path}"
        assert path.read_text(encoding="utf-8") == text, f"run `manage.py statements`: {path}"
    assert set(SQL_DIR.glob("*/*.py")) == made.keys()


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: each.name)
def test_the_header_names_the_parameters_and_the_columns(statement: Statement) -> None:
    assert {item.name for item in statement.parameters} == set(re.findall(r"%\((\w+)\)s", statement.sql))
    assert len({item.name for item in statement.columns}) == len(statement.columns)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: each.name)
def test_it_is_sent_as_the_driver_would_send_it(statement: Statement) -> None:
    """The driver's own reading of it is the oracle: the same text, and the same parameters at the same places."""
    query = PostgresQuery(Transformer())
    query.convert(statement.sql, {item.name: None for item in statement.parameters})
    sql, names = database.numbered(statement.name)
    assert sql == query.query
    assert list(names) == list(query._order or ())


def test_no_two_statements_have_one_name() -> None:
    assert len({each.name for each in STATEMENTS}) == len(STATEMENTS)


def test_every_statement_is_used() -> None:
    used = {
        node.attr
        for path, tree in trees().items()
        if not path.startswith("workflows/engine/sql/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    assert {each.name for each in STATEMENTS} - used == set(BY_HAND)
    for name, path in BY_HAND.items():
        assert f'database.statement("{name}")' in (BASE_DIR / path).read_text(encoding="utf-8")


def test_only_transitions_write_a_status_or_insert_runs_and_steps() -> None:
    """What a SQL file does is read from its text, and who calls it from the syntax trees of all modules."""
    writers = {each.name: f"workflows.engine.sql.{each.room}.transitions" for each in STATEMENTS if _writes(each.sql)}
    assert writers.keys() == {each.name for each in STATEMENTS if each.is_transition}
    assert len(writers) == 27
    named: set[str] = set()
    for path, tree in trees().items():
        if path.startswith("workflows/engine/sql/"):
            continue
        imported = {module for module in _imported(tree) if module in writers.values()}
        assert not imported or path.startswith(TRANSITIONS), path
        text = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert not text & writers.keys(), f"{path} names a statement by its file"
        if imported:
            named |= writers.keys() & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert named == writers.keys()


def test_only_the_functions_made_from_the_files_run_statements() -> None:
    for path, tree in trees().items():
        calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert "database.fetch" not in calls or path.startswith("workflows/engine/sql/"), path


def _writes(sql: str) -> bool:
    """By another reading than `Statement.is_transition`: strip what stands in brackets, then look at the assignments."""
    if re.search(r"INSERT\s+INTO\s+headrace_workflows_(run|steprun)\b", sql):
        return True
    for update in re.finditer(r"UPDATE\s+headrace_workflows_(?:run|steprun)\b(?:\s+\w+)?\s+SET\s+", sql):
        rest = sql[update.end() :]
        while (flat := re.sub(r"\([^()]*\)", "", rest)) != rest:
            rest = flat
        clause = re.split(r"\s(?:FROM|WHERE|RETURNING)\s|\)", rest)[0]
        if re.search(r"(?:^|,)\s*status\s*=", clause):
            return True
    return False


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("UPDATE headrace_workflows_run r SET status = 'failed' WHERE r.id = 1", True),
        ("UPDATE headrace_workflows_run SET error = NULL, status = CASE WHEN x THEN 'a' END WHERE id = 1", True),
        ("UPDATE headrace_workflows_steprun s SET waiting_for = '' WHERE s.status = 'ready'", False),
        ("UPDATE headrace_workflows_steprun s SET at = (SELECT max(at) FROM a), status = 'x' FROM b", True),
        ("UPDATE headrace_workflows_item i SET status = 'open'", False),
        ("INSERT INTO headrace_workflows_steprun (id) VALUES (1)", True),
        ("INSERT INTO headrace_workflows_runstart (id) VALUES (1)", False),
    ],
)
def test_a_writer_is_told_by_its_text(tmp_path: Path, sql: str, writes: bool) -> None:
    path = tmp_path / "room" / "some.sql"
    path.parent.mkdir()
    path.write_text(f"-- Purpose.\n-- Parameters: none.\n-- Returns: nothing.\n-- Index: none.\n{sql}\n")
    assert statements.read(path).is_transition is writes
    assert _writes(sql) is writes


@pytest.mark.parametrize(
    "header",
    [
        "-- No sections.",
        "-- Purpose.\n-- Parameters: none.\n-- Returns: nothing.",
        "-- Purpose.\n-- Parameters: ids uuids.\n-- Returns: nothing.\n-- Index: none.",
        "-- Purpose.\n-- Parameters: none.\n-- Returns: id.\n-- Index: none.",
        "-- Parameters: none.\n-- Returns: nothing.\n-- Index: none.",
    ],
)
def test_another_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "some.sql"
    path.write_text(f"{header}\nSELECT 1\n")
    with pytest.raises(ValueError, match=r"some\.sql"):
        statements.read(path)
