"""The documents as a reader follows them: each page's blocks become one shell script, top to bottom.

In a page, ```console and ```bash blocks are run; ```yaml and ```python blocks are saved under the name that the text
before them gives (save … as `name`), or under the flow's name where the page says so. A block without a language, or in JSON, is what the commands before it print; `…`
in it is any text. Two comments before a block change that, and say why:

    <!-- not run: why -->    nothing is done with the block
    <!-- fails: why -->      its last command must end with an error
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.env import BASE_DIR

PAGES = [BASE_DIR / "README.md", *sorted((BASE_DIR / "docs" / "tutorial").glob("*.md")),
         *sorted((BASE_DIR / "docs" / "howto").glob("*.md"))]  # fmt: skip
COMMANDS, FILES, OUTPUT = {"console", "bash"}, {"yaml", "python", "ts", "ini"}, {"", "json"}
END_OF_FILE = "END-OF-THE-FILE"
MARK = "@@@ block of line "


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block, the line of its fence, and what the page says of it."""

    line: int
    language: str
    text: str
    before: str
    """The paragraph before it."""
    not_run: str
    fails: str
    by_name: bool
    """The page says to save each flow under its name."""
    opens_section: bool
    """There is a heading between the block before it and this one."""

    @property
    def file(self) -> str:
        """The name under which a reader saves it."""
        named = re.findall(r"\b[Ss]av\w+\b[^`]*?\bas\s+`([\w./-]+)`", self.before)
        flow = re.match(r"flow: ([\w-]+)$", self.text, re.MULTILINE)
        return named[-1] if named else f"{flow[1]}.yaml" if flow and self.by_name else ""


_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (not run|fails): (.+?) -->\s*$", re.DOTALL)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return [*_blocks(page.read_text())]


def _blocks(text: str) -> Iterator[Block]:
    end = 0
    for fence in _FENCE.finditer(text):
        between = text[end : fence.start()]
        comment = _COMMENT.search(between)
        said = _COMMENT.sub("", between).strip()
        yield Block(
            line=text[: fence.start()].count("\n") + 1,
            language=fence[1],
            text=fence[2],
            before=said.rpartition("\n\n")[2],
            not_run=comment[2] if comment and comment[1] == "not run" else "",
            fails=comment[2] if comment and comment[1] == "fails" else "",
            by_name="save it under its name" in " ".join(text.split()),
            opens_section=bool(re.search(r"^#", said, re.MULTILINE)),
        )
        end = fence.end()


def script(page: Path, ports: dict[str, str]) -> str:
    """The page as a shell script that stops at the first error and says where it is. `ports`: other ones than written."""
    parts = ["set -eu", "exec 2>&1"]
    for block in blocks(page):
        if block.not_run or block.language in OUTPUT:
            continue
        body = block.text
        for written, real in ports.items():
            body = body.replace(f":{written}", f":{real}")
        parts.append(f"echo; echo '{MARK}{block.line}'")
        if block.language in FILES:
            parts.append(f"cat > {block.file} <<'{END_OF_FILE}'\n{body}{END_OF_FILE}")
        elif block.fails:
            parts.append(f"if (\nset -e\n{body}\n); then echo 'It did not fail.'; exit 97; fi")
        else:
            parts.append(body)
    return "\n".join([*parts, ""])


def printed(output: str) -> dict[int, str]:
    """What each block of a script has printed, by line."""
    found = {}
    for part in output.split(MARK)[1:]:
        line, _, text = part.partition("\n")
        found[int(line)] = text
    return found


def shown(page: Path) -> Iterator[tuple[Block, Block]]:
    """The blocks that show an output, each with the block of commands that prints it."""
    last: Block | None = None
    for block in blocks(page):
        if block.opens_section:
            last = None
        if block.language in COMMANDS and not block.not_run:
            last = block
        elif block.language in OUTPUT and last is not None and not block.not_run:
            yield last, block


def is_shown(expected: str, output: str) -> bool:
    """Whether each line of the expected output is printed, in this order."""
    lines = [_pattern(line) for line in expected.splitlines() if line.strip()]
    text = "\n".join(_spaced(line) for line in output.splitlines())
    return re.search(r"[^\n]*\n(?:.*\n)*?[^\n]*".join(lines), text) is not None


def _spaced(line: str) -> str:
    return " ".join(line.split())


def _pattern(line: str) -> str:
    return ".*?".join(re.escape(part.strip()) for part in _spaced(line).split("…"))
