"""The command line `sync-client`. It needs the extra `cli`: without it, one line says so."""

import logging
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process.

    Args:
        arguments: in place of the process's.
    """
    try:
        from sync_client.cli.commands import commands  # noqa: PLC0415  its libraries may be absent
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit("Error: the command line needs more packages: install 'sync-client[cli]'")
    logging.basicConfig(handlers=[logging.NullHandler()])  # what matters is in the status
    commands.main(arguments, prog_name="sync-client")
