"""README, tutorial and how-tos, followed top to bottom on an instance of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.env import BASE_DIR
from tests.support.documents.pages import COMMANDS, FILES, OUTPUT, PAGES, blocks, is_shown, printed, script, shown
from tests.support.documents.project import Project

OWN_STEPS = BASE_DIR / "docs" / "howto" / "own_step_types.md"


def named(page: Path) -> str:
    return str(page.relative_to(BASE_DIR))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Started as the page about own step types says; its module is there before, since there is one instance only."""
    directory = tmp_path_factory.mktemp("reader") / "headrace"
    module = next(block for block in blocks(OWN_STEPS) if block.file.endswith(".py"))
    modules = directory.parent / "modules"
    modules.mkdir()
    (modules / module.file).write_text(module.text)
    started = Project(directory, PYTHONPATH=str(modules), HEADRACE_STEP_MODULES=module.file.removesuffix(".py"))
    yield started
    started.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_can_be_followed_from_top_to_bottom(page: Path, project: Project) -> None:
    ports = {"8288": project.ports.web, "8289": project.ports.flower, "8290": project.ports.examples}
    done = project.run(script(page, {written: str(real) for written, real in ports.items()}), 230)
    output = printed(done.stdout)
    assert done.returncode == 0, f"{named(page)}:{max(output, default=0)}: {done.stdout[-3000:]}"
    for commands, expected in shown(page):
        text = output[commands.line]
        assert is_shown(expected.text, text), f"{named(page)}:{expected.line} shows other than\n{text}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        where = f"{named(page)}:{block.line}"
        assert block.language in COMMANDS | FILES | OUTPUT, f"{where}: {block.language!r} is not known to the tests"
        if block.language in FILES and not block.not_run:
            assert block.file, f"{where}: say under which name to save it, or why it is not run"
        assert len(block.not_run or "a reason") > 5, f"{where}: the reason says nothing"
        assert not (block.fails and block.language not in COMMANDS), f"{where}: only commands fail"


BARE = re.compile(r"(?<!\.venv/bin/python )(?<!python )\bmanage\.py [a-z]")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_are_written_as_they_work_after_make_up(page: Path) -> None:
    for block in blocks(page):
        if block.language in COMMANDS:
            assert not BARE.search(block.text), f"{named(page)}:{block.line}: .venv/bin/python manage.py …"
    text = page.read_text()
    assert not re.search(r"\bpkill\b(?!.*-P)|pgrep", text), f"{named(page)}: it would hit other instances, too"


def test_the_readme_names_every_tutorial_and_how_to() -> None:
    readme = (BASE_DIR / "README.md").read_text()
    home = (BASE_DIR / "docs" / "index.md").read_text()
    navigation = (BASE_DIR / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert f"]({named(page)})" in readme.partition("## Documentation")[2], named(page)
        assert str(page.relative_to(BASE_DIR / "docs")) in navigation, named(page)
        assert f"]({page.relative_to(BASE_DIR / 'docs')})" in home, named(page)
