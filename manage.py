#!/usr/bin/env python
"""Django's command line. With no DATABASE_URL and REDIS_URL set, the embedded services are used."""

import gc
import os
import sys

gc.disable()  # imports make little garbage; `config.apps` turns it on again when all are loaded


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from config import env, services  # noqa: PLC0415
    from throttling.errors import EnvironmentValueError  # noqa: PLC0415

    try:
        services.use_services()
    except (env.ServicesError, EnvironmentValueError) as error:
        sys.exit(f"headrace: {error}")
    if sys.argv[1:] == ["up"] and env.read().embedded:
        from devtools import up  # noqa: PLC0415  (production does without it)

        up.main()
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except Exception as error:
        from workflows.edge.unavailable import command_sentence, missing_service  # noqa: PLC0415

        service = missing_service(error)
        if not service or "--traceback" in sys.argv:
            raise
        sys.exit(f"headrace: {command_sentence(service, error)}")


if __name__ == "__main__":
    main()
