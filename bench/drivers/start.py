"""Start a driver of this bench within a checkout: `start.py CHECKOUT MODULE`.

The bench is this one; `config`, `workflows` and the rest are the checkout's. So one bench measures two versions.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent


def main(checkout: str, module: str) -> None:
    spec = importlib.util.spec_from_file_location(
        "bench", BENCH / "__init__.py", submodule_search_locations=[str(BENCH)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["bench"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    sys.path[0] = checkout
    os.chdir(checkout)
    importlib.import_module(f"bench.drivers.{module}").main()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
