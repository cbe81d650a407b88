"""Typed Python functions for the SQL files of `workflows/engine/sql`, made from their headers.

Each room (a folder of SQL files) gets two modules: `transitions.py` with the statements that set a status of runs or
step runs or insert some, and `__init__.py` with all others. A header reads

    -- What the statement does.
    -- Parameters: org uuid, ids uuid[], since timestamptz or null, event_ids uuid[] with nulls (one each).
    -- Returns: id uuid, key text.
    -- Index: primary key.

with `none` for no parameters and `nothing` for no rows; an explanation stands in brackets behind a name.
`manage.py statements` writes the modules.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.env import BASE_DIR

SQL_DIR = BASE_DIR / "workflows" / "engine" / "sql"
WIDTH = 120
_TYPES = {
    "uuid": "UUID", "text": "str", "int": "int", "bigint": "int", "float8": "float", "bool": "bool",
    "timestamptz": "datetime", "bytea": "bytes", "jsonb": "Json",
}  # fmt: skip
_ITEM = re.compile(rf"(\w+) ({'|'.join(_TYPES)})(\[\])?( with nulls)?( or null)?( \(.*\))?", re.DOTALL)
_SECTIONS = re.compile(r"(.+)\nParameters: (.+)\.\nReturns: (.+)\.\nIndex(?:es)?: (.+)", re.DOTALL)
_TUPLE_METHODS = frozenset({"index", "count"})
_WRITE = re.compile(r"\b(?:(INSERT INTO)|UPDATE) headrace_workflows_(?:run|steprun)\b")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A parameter, or a column of the rows."""

    name: str
    type: str
    is_array: bool
    has_nulls: bool
    may_be_null: bool

    def annotation(self, array: str) -> str:
        python = _TYPES[self.type]
        if self.is_array:
            python = f"{array}[{python}{' | None' if self.has_nulls else ''}]"
        return f"{python} | None" if self.may_be_null and python != "Json" else python

    @property
    def argument(self) -> str:
        """The expression that hands the parameter to psycopg, which takes arrays as lists only."""
        if not self.is_array:
            return self.name
        return f"None if {self.name} is None else list({self.name})" if self.may_be_null else f"list({self.name})"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A SQL file with what its header says."""

    room: str
    name: str
    purpose: str
    parameters: tuple[Item, ...]
    columns: tuple[Item, ...]
    sql: str

    @property
    def is_transition(self) -> bool:
        """Whether it sets a status of runs or step runs, or inserts some."""
        return any(match[1] or _sets_status(self.sql[match.end() :]) for match in _WRITE.finditer(self.sql))

    @property
    def row(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_")) + "Row"


def read(path: Path) -> Statement:
    """The statement of a SQL file. Raises ValueError where the header has not the form described above."""
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next(number for number, line in enumerate(lines) if not line.startswith("-- "))
    header = re.sub(
        r"\n(?!Parameters: |Returns: |Index(es)?: )\s*", " ", "\n".join(line[3:] for line in lines[:length])
    )
    match = _SECTIONS.fullmatch(header)
    if match is None:
        raise ValueError(f"{path}: the header is not 'Purpose. Parameters: … Returns: … Index: …'")
    return Statement(
        room=path.parent.name,
        name=path.stem,
        purpose=match[1],
        parameters=() if match[2] == "none" else tuple(_items(match[2], path)),
        columns=() if match[3] == "nothing" else tuple(_items(match[3], path)),
        sql="\n".join(lines[length:]),
    )


def read_all() -> list[Statement]:
    """The statements of all rooms."""
    return [read(path) for path in sorted(SQL_DIR.glob("*/*.sql"))]


def modules() -> dict[Path, str]:
    """The modules and their text."""
    rooms: dict[str, list[Statement]] = {}
    for statement in read_all():
        rooms.setdefault(statement.room, []).append(statement)
    texts: dict[Path, str] = {}
    for room, statements in rooms.items():
        texts[SQL_DIR / room / "__init__.py"] = _module(
            f'"""The statements of `{room}` that set no status."""', [s for s in statements if not s.is_transition]
        )
        transitions = [s for s in statements if s.is_transition]
        if transitions:
            title = (
                f'"""The statements of `{room}` that set a status or insert runs or steps; for `state.transitions`."""'
            )
            texts[SQL_DIR / room / "transitions.py"] = _module(title, transitions)
    return texts


def _sets_status(sql: str) -> bool:
    """Whether the SET clause at the begin of this text (behind UPDATE and the table) has an assignment to `status`."""
    start = re.match(r"\s*\w*\s+SET\s", sql)
    if start is None:
        return False
    depth, clause = 0, ""
    for word in re.findall(r"\w+|[^\w]", sql[start.end() :]):
        depth += (word == "(") - (word == ")")
        if depth < 0 or (depth == 0 and word in {"FROM", "WHERE", "RETURNING"}):
            break
        clause += word if depth == 0 else ""
    return any(re.match(r"\s*status\s*=", assignment) for assignment in clause.split(","))


def _items(text: str, path: Path) -> Iterator[Item]:
    for part in _parts(text):
        match = _ITEM.fullmatch(part)
        if match is None:
            raise ValueError(f"{path}: {part!r} is not 'name type (explanation)'")
        yield Item(
            name=match[1],
            type=match[2],
            is_array=match[3] is not None,
            has_nulls=match[4] is not None,
            may_be_null=match[5] is not None,
        )


def _parts(text: str) -> list[str]:
    """The text, split at the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _module(title: str, statements: Sequence[Statement]) -> str:
    body = "".join(f"{_row(statement)}{_function(statement)}" for statement in statements)
    if not statements:
        return f"{title}\n"
    standard = [
        line
        for word, line in (
            ("Iterable[", "from collections.abc import Iterable"),
            ("datetime", "from datetime import datetime"),
            ("(NamedTuple)", "from typing import NamedTuple"),
            ("UUID", "from uuid import UUID"),
        )
        if word in body
    ]
    own = ["from workflows.engine.state import database"]
    if re.search(r"\bJson\b", body):
        own.append("from workflows.payload import Json")
    head = "# Made from the headers of the SQL files: `manage.py statements`.\n\nfrom __future__ import annotations\n"
    imports = "\n".join(standard) + "\n\n" + "\n".join(own) if standard else "\n".join(own)
    return f"{title}\n{head}\n{imports}\n{body}"


def _row(statement: Statement) -> str:
    if not statement.columns:
        return ""
    fields = "".join(
        f"    {column.name}: {column.annotation('list')}"
        + ("  # type: ignore[assignment]" if column.name in _TUPLE_METHODS else "")
        + "\n"
        for column in statement.columns
    )
    return f"\n\nclass {statement.row}(NamedTuple):\n{fields}"


def _function(statement: Statement) -> str:
    result = f"list[{statement.row}]" if statement.columns else "None"
    parameters = [f"{item.name}: {item.annotation('Iterable')}" for item in statement.parameters]
    parameters = [*(["*", *parameters] if parameters else []), "cursor: database.Cursor | None = None"]
    first = re.split(r"(?<=[.:;]) |(?<=[.;])$", statement.purpose, maxsplit=1)[0].rstrip(".:;") + "."
    docstring = "\n".join(textwrap.wrap(f'"""{first}"""', WIDTH - 4, initial_indent="    ", subsequent_indent="    "))
    return f"\n\n{_signature(statement.name, parameters, result)}\n{docstring}\n{_call(statement)}\n"


def _signature(name: str, parameters: Sequence[str], result: str) -> str:
    joined = ", ".join(parameters)
    line = f"def {name}({joined}) -> {result}:"
    if len(line) <= WIDTH:
        return line
    if len(joined) <= WIDTH - 4:
        return f"def {name}(\n    {joined}\n) -> {result}:"
    return f"def {name}(\n" + "".join(f"    {each},\n" for each in parameters) + f") -> {result}:"


def _call(statement: Statement) -> str:
    values = ", ".join(f'"{item.name}": {item.argument}' for item in statement.parameters)
    returns, make = ("return ", f"{statement.row}._make") if statement.columns else ("", "tuple")
    line = f'    {returns}database.fetch("{statement.name}", {{{values}}}, {make}, cursor)'
    if len(line) <= WIDTH:
        return line
    assigned = f"    parameters = {{{values}}}"
    if len(assigned) > WIDTH:
        glued = re.sub(r" (?!\")", "\0", values)  # a line breaks before a name only
        wrapped = textwrap.wrap(glued, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
        wrapped = [each.replace("\0", " ") for each in wrapped]
        assigned = "    parameters = {\n" + "".join(f"        {each}\n" for each in wrapped) + "    }  # fmt: skip"
    return f'{assigned}\n    {returns}database.fetch("{statement.name}", parameters, {make}, cursor)'
