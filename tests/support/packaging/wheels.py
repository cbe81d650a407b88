"""The wheel of this checkout, and environments that have it installed and nothing else of the repository."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

from config.env import BASE_DIR

PARTS = ("devtools", "dlq", "headrace", "static", "templates", "throttling", "workflows")
FILES = ("pyproject.toml", "README.md", "LICENSE")
FROM_INDEX = "HEADRACE_TEST_INSTALLS"
"""What to install beside the wheel (`llama-index-workflows django>=6,<6.1`): dependencies come from the index then, by
`uv`, and no extra does. Elsewhere they come from the environment of the tests, and another's package `workflows` is
written here."""
PYTHON = "HEADRACE_TEST_PYTHON"
"""The interpreter of such an environment; that of the tests unless it is set."""
OF_TESTS = ("cel-expr-python", "pytest", "pytest-django", "pytest-timeout", "hypothesis", "time-machine")
ANOTHERS = "OWNER = 'another'\n"


def build(target: Path, *, version: str = "", files: Mapping[str, str] | None = None) -> Path:
    """Build the wheel from a copy of the checkout (as another version, and with more files); its path."""
    source = target / "source"
    for name in PARTS:
        shutil.copytree(BASE_DIR / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(BASE_DIR / name, source / name)
    if version:
        project = (source / "pyproject.toml").read_text()
        (source / "pyproject.toml").write_text(project.replace('version = "0.1.0"', f'version = "{version}"', 1))
    for name, text in (files or {}).items():
        (source / name).write_text(text)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = (target / "dist").glob("*.whl")
    return wheel


class Environment:
    """A virtual environment with the wheel."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = directory / "bin" / "python"
        if os.environ.get(FROM_INDEX):
            self._uv("venv", "--quiet", "--python", os.environ.get(PYTHON, sys.executable), str(directory))
        else:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True, timeout=60)
            self._borrow()

    @property
    def packages(self) -> Path:
        """Where packages are."""
        return next(self.directory.glob("lib/python3*/site-packages"))

    def install(self, wheel: Path) -> None:
        """Install the wheel, over the one that is there."""
        if os.environ.get(FROM_INDEX):
            beside = shlex.split(os.environ[FROM_INDEX])
            self._uv("pip", "install", "--quiet", "--reinstall-package", "headrace", str(wheel), *beside, *OF_TESTS)
            return
        shutil.rmtree(self.packages / "headrace", ignore_errors=True)
        for old in self.packages.glob("headrace-*.dist-info"):
            shutil.rmtree(old)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.packages)

    def _borrow(self) -> None:
        (self.packages / "of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (self.packages / "workflows").mkdir()
        (self.packages / "workflows" / "__init__.py").write_text(ANOTHERS)
        (self.directory / "bin" / "monty").symlink_to(Path(sysconfig.get_path("scripts")) / "monty")
        celery = self.directory / "bin" / "celery"
        celery.write_text(f"#!{self.python}\nimport sys\nfrom celery.__main__ import main\nsys.exit(main())\n")
        celery.chmod(0o755)

    def _uv(self, *arguments: str) -> None:
        settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}
        target = ["--python", str(self.python)] if arguments[0] == "pip" else []
        command = [_uv(), *arguments[:2], *target, *arguments[2:]]
        away = self.directory.parent  # `uv` would hold to the constraints of the checkout
        subprocess.run(command, cwd=away, env={**os.environ, **settings}, check=True, timeout=600)


def _uv() -> str:
    own = BASE_DIR / ".tools" / "uv" / "bin" / "uv"
    return str(own) if own.exists() else "uv"
