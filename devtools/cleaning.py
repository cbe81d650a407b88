"""`make clean`: stop embedded services that a killed process has left behind."""

from __future__ import annotations

from pathlib import Path

from config import env
from devtools import embedded


def main() -> None:
    root = env.BASE_DIR / "var"
    for data in (*root.glob("postgres"), *root.glob("*/postgres")):
        embedded.stop(embedded.Paths(var=Path(data).parent))


if __name__ == "__main__":
    main()
