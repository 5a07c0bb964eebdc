"""The server as a process with something altered: `python tests/faults/altered_server.py ALTERATION…`, then as ever.

`set module.NAME=number` gives a constant another value. `die module:Class.method=mark` kills the process with SIGKILL
when the method is called with arguments that show the mark, before anything of it happens.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any


def main(alterations: list[str]) -> None:
    for alteration in alterations:
        kind, _, rest = alteration.partition(" ")
        target, _, value = rest.partition("=")
        {"set": _set, "die": _die}[kind](target, value)
    from sync_server.cli import main as serve

    serve(["serve"])


def _set(target: str, value: str) -> None:
    module, _, name = target.rpartition(".")
    setattr(import_module(module), name, float(value))


def _die(target: str, mark: str) -> None:
    module, _, path = target.partition(":")
    owner_name, _, name = path.partition(".")
    owner = getattr(import_module(module), owner_name)
    setattr(owner, name, _deadly(getattr(owner, name), mark))


def _deadly(method: Callable[..., Any], mark: str) -> Callable[..., Any]:
    @wraps(method)
    def called(*args: Any, **options: Any) -> Any:
        if mark in repr(args):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **options)

    return called


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(sys.argv[1:])
