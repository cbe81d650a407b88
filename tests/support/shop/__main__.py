"""A worker of the shop: `python -m tests.support.shop worker …`. What follows is Celery's."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Be Celery, with the shop's app; within a Django project that has Headrace, where that is asked for."""
    if os.environ.get("SHOP_WITH_HEADRACE") == "1":
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
        import django

        django.setup(set_prefix=False)
    from celery.__main__ import main as celery

    sys.argv = ["celery", "-A", os.environ.get("SHOP_APP", "tests.support.shop:app"), *sys.argv[1:]]
    celery()


if __name__ == "__main__":
    main()
