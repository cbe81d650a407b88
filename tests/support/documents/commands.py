"""Answers `manage.py …` of a project's directory: forks for each command, everything imported. For `tests.support.documents.project`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from pathlib import Path


def main(address: str) -> None:
    sys.path[0] = str(Path.cwd())
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    from devtools import embedded

    embedded.use()
    import django

    django.setup()
    from django.core.management import get_commands, load_command_class

    for name, app in get_commands().items():
        if isinstance(app, str) and not app.startswith("django"):
            load_command_class(app, name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(8)
        Path(f"{address}.new").rename(address)
        while True:
            connection, _ = listener.accept()
            with connection:
                message, files, _, _ = socket.recv_fds(connection, 1_000_000, 3)
                if os.fork() == 0:
                    os._exit(answer(connection, message.decode().split("\0"), files))
                for file in files:
                    os.close(file)


def answer(connection: socket.socket, message: list[str], files: list[int]) -> int:
    """In the child: be the command, and tell its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(message[0])
    sys.argv = message[1:]
    code = 0
    try:
        import manage

        manage.main()
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code).encode())
    return code


if __name__ == "__main__":
    main(sys.argv[1])
