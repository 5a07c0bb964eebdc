"""What a command ends with when it cannot do what it was asked: one line for a person, an exit status for a script."""

from typing import Any

import click

from sync_client.cli.printing import printable

EXIT_INTERRUPTED = 130


class Trouble(click.ClickException):
    """It was refused, or the local store cannot be used."""

    exit_code = 1
    prefix = "Error: "

    def __init__(self, text: str) -> None:
        super().__init__(printable(" ".join(text.split())))

    def show(self, file: Any = None) -> None:
        click.echo(f"{self.prefix}{self.message}", file=file, err=file is None)


class WrongUse(Trouble):
    """The command line is wrong."""

    exit_code = 2


class Unconfirmed(Trouble):
    """The server did not answer in time; what was written is in the local store and goes up later."""

    exit_code = 3
    prefix = "Note: "
