"""The command line: `sync-server serve`, `token`, `migrate`, `explain`, `config`."""

import errno
import json
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from sync_server.auth import issue_token
from sync_server.clock import new_epoch, now_ms
from sync_server.config import Settings, default_text, flag_name, load_settings, variable_name
from sync_server.errors import ConfigurationError, UnclearQuestionError
from sync_server.logs import configure_logging
from sync_server.secret import signing_secret
from sync_server.types import IDENTIFIER_PATTERN, ClientId, EntityId, EntityType, Json, OperationId, UserId

PROGRAM: Final = "sync-server"
MAX_TTL_S: Final = 10 * 365 * 86_400
EXIT_REFUSED: Final = 2
"""Exit status when the settings are wrong, as for a wrong flag."""

MAX_WIDTH: Final = 100
"""Of what is printed for people, however wide the terminal."""

_TOKEN_SETTINGS = ("host", "data_dir", "auth_secret", "auth_audience")
_TOKEN_FLAGS_SHOWN = ("data_dir", "auth_audience")
_WILDCARD_HOSTS = {"0.0.0.0", "::"}  # noqa: S104  recognised, not bound
_METAVARS: Final[Mapping[object, str]] = {int: "INTEGER", float: "NUMBER", Path: "PATH", SecretStr: "SECRET"}

Command = TypeVar("Command", bound=Callable[..., Any])


class _Refusal(click.ClickException):
    exit_code = EXIT_REFUSED


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ConfigurationError as error:
            raise _Refusal(" ".join(str(error).split())) from None
        except UnclearQuestionError as error:
            raise click.ClickException(str(error)) from None


class _UserIdType(click.ParamType[UserId]):
    name = "id"

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> UserId:
        if re.fullmatch(IDENTIFIER_PATTERN, value) is None:
            self.fail("a user id is 1 to 64 letters, digits, - or _", parameter, context)
        return UserId(value)


def _help(name: str, field: FieldInfo) -> str:
    default = default_text(field)
    facts = variable_name(name) if default is None else f"{variable_name(name)}; default: {default}"
    caution = " Prefer the variable: flags show in the process list." if _metavar(field) == "SECRET" else ""
    return f"{field.description}{caution}  [{facts}]"


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    inner = [part for part in get_args(field.annotation) if part is not type(None)] or [field.annotation]
    bare = get_args(inner[0])[0] if get_origin(inner[0]) is Annotated else inner[0]
    return _METAVARS.get(bare, "TEXT")


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Gives a command a flag for each of these settings, with help, variable and default from the model."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            field = Settings.model_fields[name]
            option = click.option(flag_name(name), name, metavar=_metavar(field), help=_help(name, field))
            command = option(command)
        return command

    return decorate


def installed_version() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:
        return "(not installed)"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(installed_version(), prog_name=PROGRAM)
def commands() -> None:
    """WebSocket-first realtime sync server.

    Every setting can be given as a flag of `serve` or as an environment variable of the same name with the prefix
    SYNC_; the flag wins.
    """
    os.umask(0o077)  # what any command writes is its owner's alone: the database, the secret, the locks


@commands.command()
@settings_options(*Settings.model_fields)
def serve(**flags: str | None) -> None:
    """Run the server until it is told to stop.

    The database is brought to the current schema first. SIGTERM and Ctrl-C stop gracefully: clients are told to
    reconnect, and what was acknowledged is on disk.
    """
    given = _given(flags)
    settings = load_settings(given)
    secret = signing_secret(settings)
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    from sync_server.server import serve as run  # noqa: PLC0415  the other commands start faster without the server

    def announce(port: int) -> None:
        click.echo(announcement(settings, port=port, has_secret=secret is not None, flags=given))

    try:
        status = run(settings, secret, on_listening=announce)
    except OSError as error:
        reason = _listening_problem(error, settings)
        if reason is None:
            raise
        raise click.ClickException(reason) from None
    sys.exit(status)


@commands.command()
@click.option("--user", "user_id", type=_UserIdType(), required=True, help="Whom the token names: its `sub`.")
@click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(1, MAX_TTL_S),
    default=3_600,
    show_default=True,
    metavar="SECONDS",
    help="How long the token is valid.",
)
@settings_options(*_TOKEN_SETTINGS)
def token(user_id: UserId, ttl_s: int, **flags: str | None) -> None:
    """Print a token for a user, and nothing else.

    It is signed with the secret that a server with the same settings uses, which is generated if there is none yet.
    """
    settings = load_settings(_given(flags))
    secret = signing_secret(settings)
    if secret is None:
        message = "SYNC_AUTH_JWKS is set, so tokens are issued elsewhere; set SYNC_AUTH_SECRET to issue them here"
        raise ConfigurationError(message)
    click.echo(issue_token(secret, user_id, ttl_s=ttl_s, now=now_ms(), audience=settings.auth_audience))


@commands.command()
@settings_options("data_dir", "database_url")
def migrate(**flags: str | None) -> None:
    """Bring the database to the current schema and stop.

    `serve` does the same before it listens. A database that a newer version has written is refused. The server must be
    stopped.
    """
    from sync_server.stores.migrations import migrate as run  # noqa: PLC0415  the other commands start faster without
    from sync_server.stores.opening import locked_engine  # noqa: PLC0415

    settings = load_settings(_given(flags))
    with locked_engine(settings.data_dir, settings.effective_database_url) as engine:
        click.echo(f"The database is at schema {run(engine)}.")


@commands.command("new-epoch")
@settings_options("data_dir", "database_url")
def renew_epoch(**flags: str | None) -> None:
    """Make every client start over from a snapshot: run it after a backup was restored.

    A restored database is behind what clients have seen. In a new epoch their cursors mean nothing, so that they are
    told everything again, and what they have not sent yet is kept and accepted. Versions go on far above the old
    ones, so that what was written on a lost version is a conflict. The server must be stopped.
    """
    from sync_server.stores.opening import opened_store  # noqa: PLC0415  the other commands start faster without

    settings = load_settings(_given(flags))
    with opened_store(settings.data_dir, settings.effective_database_url) as store, store.write() as writer:
        writer.start_epoch(new_epoch())
    click.echo("The log has a new epoch; clients start over when they connect.")


@commands.group(cls=_Commands)
def explain() -> None:
    """Say why: why an operation ended as it did, why a device has or lacks a row.

    Reads the database itself, while the server runs and while it does not, and writes nothing.
    """


_user_option = click.option("--user", "user_id", type=_UserIdType(), help="Whose client it is.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, with every value whole.")


@explain.command("op", short_help="Why an operation ended as it did.")
@click.argument("operation_id", metavar="ID")
@_user_option
@click.option("--client", "client_id", metavar="ID", help="The client that sent it.")
@_json_option
@settings_options("data_dir", "database_url")
def explain_operation(
    operation_id: str, user_id: UserId | None, client_id: str | None, *, as_json: bool, **flags: str | None
) -> None:
    """Say which rule gave an operation its verdict, from which base, against whom.

    ID is the operation_id that the client chose. Where several clients used it, name one with --user and --client;
    --user also makes the search in a large database fast.
    """
    from sync_server.explanations import printing, questions, replies  # noqa: PLC0415  the others start faster without

    with questions.reading(load_settings(_given(flags)).effective_database_url) as reader:
        found = questions.operation_explained(reader, OperationId(operation_id), user_id=user_id, client_id=client_id)
    _print_explanation(
        dict(replies.operation_view(found)), printing.operation_text(found, width=_width()), as_json=as_json
    )


@explain.command("entity", short_help="Why a device has or lacks a row.")
@click.argument("entity_type", metavar="TYPE")
@click.argument("entity_id", metavar="ID")
@click.option("--client", "client_id", metavar="ID", required=True, help="The device: its client_id.")
@_user_option
@_json_option
@settings_options("data_dir", "database_url")
def explain_entity(
    entity_type: str, entity_id: str, client_id: str, user_id: UserId | None, *, as_json: bool, **flags: str | None
) -> None:
    """Say why a device has or lacks a row: the row, the user's role, what the device asks for, how far it was told.

    What a device is told is known from its sync responses and from its WebSocket once that has closed; a device
    acknowledges nothing, so "told" is what can be said.
    """
    from sync_server.explanations import printing, questions  # noqa: PLC0415  the other commands start faster without
    from sync_server.records import EntityKey  # noqa: PLC0415

    key = EntityKey(EntityType(entity_type), EntityId(entity_id))
    with questions.reading(load_settings(_given(flags)).effective_database_url) as reader:
        found = questions.row_explained(reader, key, ClientId(client_id), user_id=user_id)
    _print_explanation(printing.row_view(found), printing.row_text(found, width=_width()), as_json=as_json)


def _print_explanation(view: Json, text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(view, ensure_ascii=False, indent=2) if as_json else text)


def _width() -> int:
    return min(MAX_WIDTH, shutil.get_terminal_size().columns)


@commands.command()
@settings_options(*Settings.model_fields)
def config(**flags: str | None) -> None:
    """Print every setting as it takes effect; secrets are masked."""
    for name, text in load_settings(_given(flags)).printable.items():
        click.echo(f"{variable_name(name)}={text}")


def announcement(settings: Settings, *, port: int, has_secret: bool, flags: Mapping[str, str]) -> str:
    """What the server prints once it listens: where it is, where its state is, how to get in."""
    address = f"{_shown_host(settings.host)}:{port}"
    how = _token_command(flags) if has_secret else "from the issuer whose keys SYNC_AUTH_JWKS names"
    lines = {
        "WebSocket": f"ws://{address}/api/sync/ws",
        "REST": f"http://{address}/api/sync",
        "API pages": f"http://{address}/docs",
        "Data": str(settings.data_dir.resolve()),
        "Token": how,
    }
    return "\n".join([f"{PROGRAM} {installed_version()}", *(f"  {name:<10} {text}" for name, text in lines.items())])


def main(arguments: Sequence[str] | None = None, *, default_command: str | None = None) -> None:
    """Run the command line; ends the process.

    Args:
        arguments: in place of the process's.
        default_command: what to run where the first argument is no command.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    stands_alone = {*commands.commands, "-h", "--help", "--version"}
    if default_command is not None and (not arguments or arguments[0] not in stands_alone):
        arguments.insert(0, default_command)
    commands.main(arguments, prog_name=_program())


def _given(flags: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in flags.items() if text is not None}


def _shown_host(host: str) -> str:
    if host in _WILDCARD_HOSTS:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _token_command(flags: Mapping[str, str]) -> str:
    given = [part for name in _TOKEN_FLAGS_SHOWN if name in flags for part in (flag_name(name), flags[name])]
    return f"{_program()} {shlex.join(['token', '--user', '1', *given])}"


def _program() -> str:
    """How this program was started, so that what is printed can be typed again."""
    started = Path(sys.argv[0])
    if started.suffix == ".py":
        return f"python {shlex.quote(str(started))}"
    return PROGRAM if shutil.which(PROGRAM) is not None or started.name != PROGRAM else str(started)


def _listening_problem(error: OSError, settings: Settings) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} of {settings.host} is in use: stop what listens there, "
            "or choose another with --port or SYNC_PORT"
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{settings.host} is no address of this machine: set another with --host or SYNC_HOST"
    if error.errno == errno.EACCES and error.filename is None:
        return f"port {settings.port} may not be used by this user: choose one above 1023 with --port or SYNC_PORT"
    return None
