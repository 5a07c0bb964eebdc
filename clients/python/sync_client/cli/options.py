"""The options that every command takes, before it or after it, and what they come to."""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import click
from click.core import ParameterSource
from rich.console import Console

from sync_client.cli.printing import JsonLines, Printer, Tables
from sync_client.cli.trouble import WrongUse
from sync_client.engine import Token
from sync_client.inputs import user_named_by
from sync_client.links.port import parse_address

PROGRAM: Final = "sync-client"
DEFAULT_URL: Final = "ws://localhost:3000"
DEFAULT_TIMEOUT_S: Final = 10.0


class _Said(NamedTuple):
    value: Any
    is_on_command_line: bool


def _remembered(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep what was said for whichever command runs; what stands on the command line wins, the last of it."""
    said: dict[str, _Said] = context.ensure_object(dict)
    name = option.name or ""
    is_on_command_line = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    if name not in said or is_on_command_line:
        said[name] = _Said(value, is_on_command_line)


def common_options(*, hidden: bool) -> list[click.Parameter]:
    option = partial(click.Option, expose_value=False, callback=_remembered, hidden=hidden, show_envvar=True)
    token_file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        option(["--url"], envvar="SYNC_CLIENT_URL", metavar="URL", help=f"The server; {DEFAULT_URL} unless given."),
        option(
            ["--token"], envvar="SYNC_CLIENT_TOKEN", metavar="TOKEN",
            help="Who you are. Prefer the variable or a file: options show in the process list.",
        ),
        option(
            ["--token-file"], envvar="SYNC_CLIENT_TOKEN_FILE", type=token_file, metavar="FILE",
            help="A file that holds the token; it is read again when the token has ended.",
        ),
        option(
            ["--store"], envvar="SYNC_CLIENT_STORE", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
            help="The local store, of one user; unless given, a file for each server in your application directory.",
        ),
        option(
            ["--timeout"], type=click.FloatRange(0, min_open=True), metavar="SECONDS",
            help=f"How long to wait for the server; {DEFAULT_TIMEOUT_S:g} unless given.",
        ),
        option(["--offline"], is_flag=True, help="Never connect: read and write the local store alone."),
        option(["--json"], is_flag=True, help="Print JSON lines also at a terminal."),
    ]  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What the common options come to."""

    url: str
    token: Token = field(repr=False)
    store: Path
    user_id: str | None
    timeout_s: float
    is_offline: bool
    printer: Printer


def setup_of(context: click.Context) -> Setup:
    said: dict[str, _Said] = context.ensure_object(dict)
    url = said["url"].value or DEFAULT_URL
    return Setup(
        url=url,
        token=_token(said),
        store=said["store"].value or _store_of(url),
        user_id=_user(said),
        timeout_s=said["timeout"].value or DEFAULT_TIMEOUT_S,
        is_offline=said["offline"].value,
        printer=_printer(wants_json=said["json"].value),
    )


def _token(said: dict[str, _Said]) -> Token:
    if said["offline"].value:
        return str  # nobody asks for it
    token, file = said["token"], said["token_file"].value
    if file is not None and not token.is_on_command_line:
        return _token_in(file)
    if token.value:
        return str(token.value).strip()
    raise WrongUse("no token: set SYNC_CLIENT_TOKEN or give --token-file FILE, or work --offline")


def _user(said: dict[str, _Said]) -> str | None:
    """Whom the token names, also when it is not to be sent: a store is one user's."""
    token = said["token"].value if said["offline"].value else _token(said)
    return user_named_by(token() if callable(token) else str(token or "").strip())


def _token_in(file: Path) -> Token:
    def read() -> str:
        return file.read_text("utf-8").strip()

    try:
        token = read()
    except (OSError, UnicodeDecodeError):
        raise WrongUse(f"the token file {file} cannot be read: name a text file that you may read") from None
    if not token:
        raise WrongUse(f"the token file {file} is empty: write the token into it")
    return read if file.is_file() else token  # a pipe can be read but once


def _store_of(url: str) -> Path:
    address = urlsplit(parse_address(url).http)
    name = f"{address.netloc}{address.path.removesuffix('/api/sync')}"
    return Path(click.get_app_dir(PROGRAM)) / f"{quote(name.replace(':', '_'), safe='')}.db"


def _printer(*, wants_json: bool) -> Printer:
    if wants_json or not sys.stdout.isatty():
        return JsonLines()
    return Tables(Console(highlight=False), Console(stderr=True, highlight=False))
