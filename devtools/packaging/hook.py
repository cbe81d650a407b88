"""The hook of the build (`uv build --wheel`): it makes the package `headrace`, and says that this is the wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from devtools.packaging import tree  # noqa: E402


class HeadraceHook(BuildHookInterface[Any]):
    """Puts the apps, the templates and the static files under one package."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        package = Path(self.directory) / "package" / "headrace"
        tree.make(ROOT, package)
        build_data["force_include"][str(package)] = "headrace"
        build_data["pure_python"] = True
