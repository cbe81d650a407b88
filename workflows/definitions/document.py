"""Definitions as files: YAML or JSON, in and out."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from workflows.definitions.schema import FlowSpec
from workflows.definitions.text import yaml_text
from workflows.definitions.text.plain import Oddity, Pairs
from workflows.definitions.validate import DefinitionProblems, Problem, parse, plain_json

MAX_BYTES = 1024 * 1024
SUFFIXES = {".yaml", ".yml", ".json"}


def loads(text: str, *, file: str = "", json_only: bool = False) -> Any:
    """The document in the text, as plain JSON. Raises DefinitionProblems: malformed text with its line and column, or
    everything that plain JSON can't hold, each with its path."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise DefinitionProblems([Problem(file=file, path="", reason="larger than 1 MiB")])
    try:
        value = _from_json(text) if json_only else yaml_text.loads(text)
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error)
    else:
        return plain_json(value, file=file)
    raise DefinitionProblems([Problem(file=file, path="", reason=reason)])


def _from_json(text: str) -> Any:
    return json.loads(
        text.removeprefix("\ufeff"), object_pairs_hook=Pairs, parse_constant=lambda name: Oddity(f"{name} is no JSON")
    )


@dataclass(frozen=True, kw_only=True)
class Document:
    """A definition file: what it defines, its text where that is YAML, and what an older reader took otherwise."""

    path: Path
    spec: FlowSpec
    source: str
    changed_readings: list[str]


def read(path: Path) -> Document:
    """The checked definition in a file. Raises DefinitionProblems, each problem with the file's name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionProblems([Problem(file=str(path), path="", reason=f"can't be read: {error}")]) from None
    is_json = path.suffix == ".json"
    spec = parse(loads(text, file=str(path), json_only=is_json), file=str(path))
    return Document(
        path=path,
        spec=spec,
        source="" if is_json else text,
        changed_readings=[] if is_json else yaml_text.changed_readings(text),
    )


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


def checksum_of(stored: dict[str, Any]) -> str:
    """The same for the same content: what a version is known by."""
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def dumps(document: dict[str, Any], *, form: str = "yaml") -> str:
    """The document as YAML or JSON text that reads back to the same definition."""
    if form == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.width = 110
    writer.sort_base_mapping_type_on_output = False
    writer.Representer = _Representer
    text = io.StringIO()
    writer.dump(document, text)
    return text.getvalue()


class _Representer(SafeRepresenter):
    """Texts that YAML 1.1 would read as something else are quoted too: other readers may be older."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=_style_of(data))


def _style_of(text: str) -> str | None:
    """Literal blocks for lines of text, quotes where a reader could take it for something else or lose a character."""
    lines = text.split("\n")
    if not all(line.isprintable() for line in lines):
        return '"'
    if len(lines) > 1:
        is_block = all(line == line.strip() for line in (lines[0], lines[-1])) and lines[0] and lines[-2:] != ["", ""]
        return "|" if is_block else '"'
    return None if yaml_text.reads_as_text(text) else "'"


_Representer.add_representer(str, _Representer.represent_str)
