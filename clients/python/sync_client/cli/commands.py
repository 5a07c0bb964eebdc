"""The commands `get`, `put`, `delete`, `watch`, `conflicts`, `quarantine` and `status`."""

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import click
import msgspec
from click.exceptions import NoArgsIsHelpError

from sync_client.cli.fields import FIELD
from sync_client.cli.options import PROGRAM, common_options
from sync_client.cli.session import Session, Shortfall, connected, first, is_live
from sync_client.cli.trouble import EXIT_INTERRUPTED, Trouble, Unconfirmed, WrongUse
from sync_client.clock import new_id
from sync_client.errors import InvalidInputError, SyncClientError
from sync_client.inputs import STRATEGIES
from sync_client.values import Conflict, Entity, Json, Key, LinkState, Quarantined

_on_conflict = click.option(
    "--on-conflict",
    type=click.Choice(STRATEGIES),
    help="What becomes of fields that someone else changed as well; unless given, each TYPE has its rule.",
)
_entity_type = click.argument("entity_type", metavar="TYPE")
_fields = click.argument("fields", nargs=-1, type=FIELD, metavar="[FIELD=VALUE]...")


class _Command(click.Command):
    """Takes the common options as well, and leaves them to the help of the whole."""

    def __init__(self, *arguments: Any, **facts: Any) -> None:
        super().__init__(*arguments, **facts)
        self.params += common_options(hidden=self.name != PROGRAM)

    def make_context(self, *arguments: Any, **facts: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **facts)
        except NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise _in_one_line(error) from None


class _Commands(_Command, click.Group):
    command_class = _Command
    group_class = type

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise _in_one_line(error) from None
        except InvalidInputError as error:
            raise WrongUse(str(error)) from None
        except SyncClientError as error:
            raise Trouble(str(error)) from None
        except KeyboardInterrupt:
            context.exit(EXIT_INTERRUPTED)


def _in_one_line(error: click.UsageError) -> WrongUse:
    path = error.ctx.command_path if error.ctx is not None else PROGRAM
    return WrongUse(f"{error.format_message().rstrip('.')}; see `{path} --help`")


# --- commands ------------------------------------------------------------------------------------------------------

_SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_LATER: Final = f"`{PROGRAM} --help` lists the options that every command takes, such as --url, --offline and --json."


@click.group(PROGRAM, cls=_Commands, context_settings=_SETTINGS)
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def commands() -> None:
    """Read and write what a sync server keeps, with or without a network.

    Everything is read from a local store and written to it first. A command connects, brings the store in step, waits
    for the server's word on what it wrote, and ends. At a terminal it prints tables, elsewhere JSON lines.

    \b
    Examples:
      export SYNC_CLIENT_URL=ws://localhost:3000 SYNC_CLIENT_TOKEN=...
      sync-client put note title=Shopping content="milk, eggs"
      sync-client get note --where title=Shopping
      sync-client --offline put note --id my-note title="Written on a train"
      sync-client watch note --existing
      sync-client status --verify

    The options below may stand before or after the command.

    \b
    Exit status:
      0    done
      1    refused: by the server, or because of a conflict; or the local store cannot be used
      2    the command line is wrong
      3    the server did not answer in time: what was written is in the local store and goes up later
      130  interrupted
    """


@commands.command(epilog=_LATER)
@_entity_type
@click.argument("entity_id", metavar="[ID]", required=False)
@click.option("--where", type=FIELD, multiple=True, help="Those whose field has this value; may be repeated.")
@click.option("--order-by", metavar="FIELD", help="By this field; with - before it, from the largest to the smallest.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="At most so many.")
@connected
async def get(
    session: Session, entity_type: str, entity_id: str | None, where: Sequence[tuple[str, Any]], order_by: str | None,
    limit: int | None,
) -> None:  # fmt: skip
    """Print one entity, or those of a TYPE.

    \b
    Examples:
      sync-client get note
      sync-client get note my-note
      sync-client get todo --where done=false --order-by -priority --limit 5
    """
    if entity_id is not None and (where or order_by is not None or limit is not None):
        raise WrongUse("an ID names one entity: leave out --where, --order-by and --limit")
    shortfall = await session.caught_up()
    if entity_id is None:
        found = await session.client.query(entity_type, dict(where), order_by=order_by, limit=limit)
        session.printer.entities(entity_type, found)
    elif (entity := await session.client.get(entity_type, entity_id)) is not None:
        session.printer.entity(entity)
    elif shortfall is None:
        raise Trouble(f"there is no {entity_type} {entity_id}")
    if shortfall is not None:
        raise shortfall.trouble(f"this is what the local store has, which may be old: {shortfall.reason}")


@commands.command(epilog=_LATER)
@_entity_type
@_fields
@click.option("--id", "entity_id", metavar="ID", help="Change this one, or create it; without an ID, one is made.")
@click.option("--data", metavar="JSON|-", help="The fields as a JSON object; - reads it from the standard input.")
@_on_conflict
@connected
async def put(
    session: Session, entity_type: str, fields: Sequence[tuple[str, Any]], entity_id: str | None, data: str | None,
    on_conflict: str | None,
) -> None:  # fmt: skip
    """Create an entity, or change some fields of one.

    A value is JSON if it reads as JSON, else text: done=true is a boolean, title=Milk is text, title='"5"' is text too.

    \b
    Examples:
      sync-client put note title=Shopping content="milk, eggs"
      sync-client put note --id my-note content="milk, eggs, bread"
      echo '{"title": "Shopping"}' | sync-client put note --data -
    """
    given = {**_object(data), **dict(fields)}
    if not given:
        raise WrongUse("nothing to write: give field=value or --data")
    if "id" in given:
        raise WrongUse("the id is no field: give it with --id")
    entity, shortfall = await _sought(session, entity_type, entity_id)
    mark = new_id()
    if entity is not None or (entity_id is not None and entity_id.isdecimal()):
        written = await session.client.update((entity_type, entity_id or ""), given, on_conflict=on_conflict)
    else:
        written = await session.client.create(entity_type, given, entity_id=entity_id)
    await session.verdict(written.key, mark, shortfall)


@commands.command(epilog=_LATER)
@_entity_type
@click.argument("entity_id", metavar="ID")
@_on_conflict
@connected
async def delete(session: Session, entity_type: str, entity_id: str, on_conflict: str | None) -> None:
    """Delete an entity."""
    entity, shortfall = await _sought(session, entity_type, entity_id)
    mark = new_id()
    await session.client.delete((entity_type, entity_id), on_conflict=on_conflict)
    await session.verdict(entity.key if entity is not None else Key(entity_type, entity_id), mark, shortfall)


@commands.command(epilog=_LATER)
@click.argument("entity_type", metavar="[TYPE]", required=False)
@click.option("--existing", is_flag=True, help="First, print those of the TYPE that are there already, as created.")
@connected
async def watch(session: Session, entity_type: str | None, existing: bool) -> None:  # noqa: FBT001  click hands it in
    """Print what changes, until Ctrl-C.

    Here and on the server; what was missed since the store was last in step comes first.
    """
    if existing and entity_type is None:
        raise WrongUse("--existing needs a TYPE")
    if session.client.status.last_synced_at is None and not session.setup.is_offline:
        session.printer.note("waiting for the first sync")
        await first(session.caught_up(timeout_s=math.inf), session.stopped())
    session.printer.note("watching; end with Ctrl-C")

    async def follow() -> None:
        async with aclosing(session.client.changes(entity_type, existing=existing)) as changes:
            async for change in changes:
                session.printer.change(change)

    await first(follow(), session.stopped())


@commands.command(epilog=_LATER)
@click.option("--verify", is_flag=True, help="Compare checksums: does the store have what the server has?")
@connected
async def status(session: Session, verify: bool) -> None:  # noqa: FBT001  click hands it in
    """Print how things stand.

    The connection, what was not sent yet, and what waits for a person.
    """
    setup = session.setup
    await session.looked()
    now = session.client.status
    if setup.is_offline:
        now = replace(now, problem="--offline was given")
    facts: Json = {"url": setup.url, "store": str(setup.store)}
    if verify and is_live(now):
        facts["matches"] = await _matches(session)
    session.printer.status(now, facts)
    if facts.get("matches") is False:
        raise Trouble(
            "the local store differed from the server and was mended: run `sync-client status --verify` again"
        )
    if now.state is LinkState.STOPPED:
        raise Trouble(now.problem or "the server said not to come back")
    if not is_live(now) and not setup.is_offline:
        raise Unconfirmed(f"not in step with the server: {now.problem or 'it did not answer in time'}")


@commands.group(invoke_without_command=True, epilog=_LATER)
@click.pass_context
def conflicts(context: click.Context) -> None:
    """What two sides changed at once: list, show, settle.

    \b
    Examples:
      sync-client conflicts
      sync-client conflicts show ID
      sync-client conflicts keep-mine ID
      sync-client conflicts merge ID title="The best of both"
    """
    if context.invoked_subcommand is None:
        context.invoke(list_conflicts)


@conflicts.command("list", epilog=_LATER)
@connected
async def list_conflicts(session: Session) -> None:
    """Print the open conflicts, oldest first."""
    shortfall = await session.settled()
    session.printer.conflicts(await session.client.conflicts())
    if shortfall is not None:
        raise shortfall.trouble(f"this is what the local store has, which may be old: {shortfall.reason}")


@conflicts.command(epilog=_LATER)
@click.argument("conflict_id", metavar="ID")
@connected
async def show(session: Session, conflict_id: str) -> None:
    """Print both sides of a conflict."""
    conflict, _ = await _conflict(session, conflict_id)
    session.printer.conflict(conflict)


@conflicts.command("keep-mine", epilog=_LATER)
@click.argument("conflict_id", metavar="ID")
@connected
async def keep_mine(session: Session, conflict_id: str) -> None:
    """Settle it: the side of the write that met the conflict stands."""
    await _settle(session, conflict_id, session.client.keep_mine)


@conflicts.command("keep-theirs", epilog=_LATER)
@click.argument("conflict_id", metavar="ID")
@connected
async def keep_theirs(session: Session, conflict_id: str) -> None:
    """Settle it: what the server has stays."""
    await _settle(session, conflict_id, session.client.keep_theirs)


@conflicts.command(epilog=_LATER)
@click.argument("conflict_id", metavar="ID")
@click.argument("fields", nargs=-1, required=True, type=FIELD, metavar="FIELD=VALUE...")
@connected
async def merge(session: Session, conflict_id: str, fields: Sequence[tuple[str, Any]]) -> None:
    """Settle it with these values."""
    await _settle(session, conflict_id, partial(_merged, session, dict(fields)))


@commands.group(invoke_without_command=True, epilog=_LATER)
@click.pass_context
def quarantine(context: click.Context) -> None:
    """What the server did not accept: list, mend, drop.

    \b
    Examples:
      sync-client quarantine
      sync-client quarantine retry ID title="A shorter one"
      sync-client quarantine drop ID
    """
    if context.invoked_subcommand is None:
        context.invoke(list_quarantine)


@quarantine.command("list", epilog=_LATER)
@connected
async def list_quarantine(session: Session) -> None:
    """Print what was not accepted, oldest first."""
    shortfall = await session.settled()
    session.printer.quarantine(await session.client.quarantine())
    if shortfall is not None:
        raise shortfall.trouble(f"this is what the local store has, which may be old: {shortfall.reason}")


@quarantine.command(epilog=_LATER)
@click.argument("operation_id", metavar="ID")
@_fields
@connected
async def retry(session: Session, operation_id: str, fields: Sequence[tuple[str, Any]]) -> None:
    """Send it once more, with these fields instead of those it had; all of its transaction with it."""
    refused, mark = await _refused(session, operation_id), new_id()
    await session.client.retry(refused, dict(fields))
    await session.verdict(refused.operation.key, mark)


@quarantine.command(epilog=_LATER)
@click.argument("operation_id", metavar="ID")
@connected
async def drop(session: Session, operation_id: str) -> None:
    """Forget it for good; all of its transaction with it."""
    await session.client.drop(await _refused(session, operation_id))
    session.printer.note("dropped")


# --- parts of commands ---------------------------------------------------------------------------------------------


def _object(data: str | None) -> Json:
    if data is None:
        return {}
    text = sys.stdin.buffer.read() if data == "-" else data
    try:
        found: Json = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise WrongUse(f'--data must be a JSON object, such as {{"title": "Milk"}}: {error}') from None
    return found


async def _sought(session: Session, entity_type: str, entity_id: str | None) -> tuple[Entity | None, Shortfall | None]:
    """An entity; if the store does not have it, the store is brought in step first."""
    if entity_id is None:
        return None, None
    entity = await session.client.get(entity_type, entity_id)
    if entity is not None:
        return entity, None
    shortfall = await session.caught_up()
    return await session.client.get(entity_type, entity_id), shortfall


async def _conflict(session: Session, conflict_id: str) -> tuple[Conflict, Shortfall | None]:
    shortfall = None
    for is_last in (False, True):
        for one in await session.client.conflicts():
            if one.conflict_id == conflict_id:
                return one, shortfall
        if not is_last:
            shortfall = await session.settled()
    raise Trouble(f"there is no open conflict {conflict_id}: see them with `{PROGRAM} conflicts`")


async def _settle(session: Session, conflict_id: str, settle: Callable[[Conflict], Awaitable[None]]) -> None:
    conflict, shortfall = await _conflict(session, conflict_id)
    mark = new_id()
    await settle(conflict)
    await session.verdict(conflict.key, mark, shortfall)


async def _merged(session: Session, fields: Json, conflict: Conflict) -> None:
    await session.client.merge(conflict, fields)


async def _refused(session: Session, operation_id: str) -> Quarantined:
    for one in await session.client.quarantine():
        if one.operation_id == operation_id:
            return one
    raise Trouble(f"there is no operation {operation_id} in the quarantine: see them with `{PROGRAM} quarantine`")


async def _matches(session: Session) -> bool:
    if not session.client.status.is_syncing_here:
        raise Unconfirmed("another process holds the connection of this store: end it, then compare")
    try:
        async with asyncio.timeout(session.setup.timeout_s):
            return await session.client.verify()
    except (ConnectionError, TimeoutError) as error:
        reason = str(error) or "it did not answer in time"
        raise Unconfirmed(f"the store cannot be compared with the server: {reason}") from None
