"""Definitions as files: YAML or JSON, in and out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from workflows.definitions.schema import FlowSpec
from workflows.definitions.validate import DefinitionProblems, Problem, parse

MAX_BYTES = 1024 * 1024
SUFFIXES = {".yaml", ".yml", ".json"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: `on` is a key, not true."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False|TRUE|FALSE)$"), list("tTfF")
)


def loads(text: str, *, file: str = "", json_only: bool = False) -> Any:
    """The document in the text. Raises DefinitionProblems with line and column where it is malformed."""
    if len(text.encode()) > MAX_BYTES:
        raise DefinitionProblems([Problem(file=file, path="", reason="larger than 1 MiB")])
    try:
        return json.loads(text) if json_only else yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = f"{where}{error.problem or error}"
    except (yaml.YAMLError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
    raise DefinitionProblems([Problem(file=file, path="", reason=reason)])


def read(path: Path) -> FlowSpec:
    """The checked definition in a file. Raises DefinitionProblems, each problem with the file's name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionProblems([Problem(file=str(path), path="", reason=f"can't be read: {error}")]) from None
    return parse(loads(text, file=str(path), json_only=path.suffix == ".json"), file=str(path))


def files_in(paths: list[Path]) -> list[Path]:
    """The definition files among files and directories, in order of name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES))
        else:
            found.append(path)
    return found


def to_document(spec: FlowSpec) -> dict[str, Any]:
    """The definition as plain JSON, with what is unset left out: the stored and exported form."""
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


def dumps(document: dict[str, Any], *, form: str = "yaml") -> str:
    """The document as YAML or JSON text that reads back to the same definition."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
