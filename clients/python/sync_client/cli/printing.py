"""What the command line says: tables for a person at a terminal, a line of JSON for each thing otherwise.

What was found goes to the standard output, everything else to the standard error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sync_client.values import Change, Conflict, Entity, Json, Key, Quarantined, Side, Status, format_id

_KINDS = {"created": "green", "updated": "yellow", "deleted": "red", "reload": "magenta"}


class Printer(Protocol):
    """Says what was found."""

    def entities(self, entity_type: str, found: Sequence[Entity]) -> None: ...

    def entity(self, entity: Entity) -> None: ...

    def deleted(self, key: Key, *, is_pending: bool) -> None: ...

    def change(self, change: Change) -> None: ...

    def conflicts(self, found: Sequence[Conflict]) -> None: ...

    def conflict(self, conflict: Conflict) -> None: ...

    def quarantine(self, found: Sequence[Quarantined]) -> None: ...

    def status(self, status: Status, facts: Json) -> None:
        """
        Args:
            facts: what else there is to say: `url`, `store`, and `matches` if that was asked.
        """

    def note(self, text: str) -> None:
        """What a person wants to know and a script does not."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[int], None]]:
        """Shows how many entities a first sync has brought."""


class JsonLines:
    """A line of JSON for each thing, in UTF-8 whatever the terminal's language."""

    def entities(self, entity_type: str, found: Sequence[Entity]) -> None:  # noqa: ARG002  tables name it
        for entity in found:
            self._line(entity)

    def entity(self, entity: Entity) -> None:
        self._line(entity)

    def deleted(self, key: Key, *, is_pending: bool) -> None:
        self._line(
            {"type": key.entity_type, "id": format_id(key.entity_id), "is_deleted": True, "is_pending": is_pending}
        )

    def change(self, change: Change) -> None:
        self._line(change)

    def conflicts(self, found: Sequence[Conflict]) -> None:
        for conflict in found:
            self._line(conflict)

    def conflict(self, conflict: Conflict) -> None:
        self._line(conflict)

    def quarantine(self, found: Sequence[Quarantined]) -> None:
        for one in found:
            self._line(one)

    def status(self, status: Status, facts: Json) -> None:
        self._line({**msgspec.to_builtins(status), **facts})

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def progress(self) -> Iterator[Callable[[int], None]]:
        yield lambda _: None

    def _line(self, value: object) -> None:
        click.echo(msgspec.json.encode(value))


class Tables:
    """
    Args:
        out: where what was found goes.
        err: where notes and the progress go.
    """

    def __init__(self, out: Console, err: Console) -> None:
        self._out = out
        self._err = err

    def entities(self, entity_type: str, found: Sequence[Entity]) -> None:
        if not found:
            self.note(f"no {entity_type} found")
            return
        names = list(dict.fromkeys(name for entity in found for name in _fields(entity.data)))
        rows = [
            [entity.id, *(entity.data.get(name, "") for name in names), entity.version, _pending(entity.is_pending)]
            for entity in found
        ]
        self._table(["id", *names, "version", ""], rows)

    def entity(self, entity: Entity) -> None:
        self._facts({
            entity.type: entity.id, **_fields(entity.data),
            "(version)": f"{entity.version} {_pending(entity.is_pending)}".strip(), "(space)": entity.space_id,
            "(modified)": _modified(entity.modified_at, entity.modified_by),
        })  # fmt: skip

    def deleted(self, key: Key, *, is_pending: bool) -> None:
        self._say(self._out, f"deleted {key.entity_type} {key.entity_id} {_pending(is_pending)}".rstrip())

    def change(self, change: Change) -> None:
        fields = _fields(change.entity.data) if change.entity is not None else {}
        shown = " ".join(f"{printable(name)}={printable(value)}" for name, value in fields.items())
        name = "changed a lot: look anew" if change.kind == "reload" else f"{change.type} {change.id}"
        pending = _pending(change.entity is not None and change.entity.is_pending)
        line = Text.assemble(
            (change.kind, _KINDS[change.kind]), " ", (printable(name), "bold"), f"  {shown}", (f" {pending}", "dim")
        )
        line.rstrip()
        self._out.print(line, soft_wrap=True)

    def conflicts(self, found: Sequence[Conflict]) -> None:
        if not found:
            self.note("no conflicts")
            return
        rows = [
            [one.conflict_id, f"{one.entity_type} {one.entity_id}", ", ".join(one.fields), one.since] for one in found
        ]
        self._table(["conflict", "of", "fields", "since"], rows)
        self.note("see both sides: sync-client conflicts show ID")

    def conflict(self, conflict: Conflict) -> None:
        self._facts({
            "conflict": conflict.conflict_id, "of": f"{conflict.entity_type} {conflict.entity_id}",
            "since": conflict.since, "why": conflict.rule,
        })  # fmt: skip
        names = conflict.fields or list(dict.fromkeys([*(conflict.mine.data or {}), *(conflict.theirs.data or {})]))
        rows = [
            [
                name,
                _of_side(conflict.base, name),
                _of_side(conflict.mine.data, name),
                _of_side(conflict.theirs.data, name),
            ]
            for name in names
        ]
        mine, theirs = _heading("mine", conflict.mine), _heading("theirs", conflict.theirs)
        self._table(["field", "before both", mine, theirs], rows)
        this = conflict.conflict_id
        self.note(f"settle it: sync-client conflicts keep-mine {this} (or keep-theirs, or merge {this} field=value)")

    def quarantine(self, found: Sequence[Quarantined]) -> None:
        if not found:
            self.note("nothing in the quarantine")
            return
        rows = [
            [one.operation_id, _summary(one), f"{one.problem.error} ({one.problem.error_code})", one.since]
            for one in found
        ]
        self._table(["operation", "what", "reason", "since"], rows)
        self.note(
            "send it again: sync-client quarantine retry ID [field=value]; forget it: sync-client quarantine drop ID"
        )

    def status(self, status: Status, facts: Json) -> None:
        link = f" ({status.link})" if status.link is not None else ""
        elsewhere = "" if status.is_syncing_here or status.link is None else ", by another process"
        synced = status.last_synced_at
        shown: dict[str, object] = {
            "state": f"{status.state.replace('_', ' ')}{link}{elsewhere}",
            "why": status.problem,
            "server": facts["url"],
            "store": facts["store"],
            "client": status.client_id,
            "last synced": f"{synced.astimezone():%Y-%m-%d %H:%M:%S}" if synced is not None else "never",
            "not sent yet": status.pending,
            "conflicts": _hinted(status.conflicts, "sync-client conflicts"),
            "not accepted": _hinted(status.quarantined, "sync-client quarantine"),
        }
        if "matches" in facts:
            shown["as the server"] = "yes" if facts["matches"] else "NO: the store differs"
        self._facts(shown)

    def note(self, text: str) -> None:
        self._say(self._err, text, style="dim")

    @contextmanager
    def progress(self) -> Iterator[Callable[[int], None]]:
        if not self._err.is_terminal:
            yield lambda _: None
            return
        with self._err.status("waiting for the server") as shown:
            yield lambda rows: shown.update(f"first sync: {rows:,} entities so far")

    def _say(self, console: Console, text: str, *, style: str = "") -> None:
        console.print(Text(printable(text), style=style), soft_wrap=True)

    def _facts(self, facts: Mapping[str, object]) -> None:
        grid = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            if value is not None:
                grid.add_row(Text(printable(name), style="bold"), Text(printable(value), overflow="fold"))
        self._out.print(grid)

    def _table(self, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for index, name in enumerate(names):
            table.add_column(Text(printable(name)), overflow="fold", no_wrap=index == 0)  # ids are there to be copied
        for row in rows:
            table.add_row(*(Text(printable(value)) for value in row))
        self._out.print(table)


def printable(value: object) -> str:
    r"""Text as it is, anything else as JSON; what a terminal would obey is spelled out.

    >>> printable("milk"), printable(["milk", None]), printable("a\x1b[31mb")
    ('milk', '["milk",null]', 'a\\x1b[31mb')
    """
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _fields(data: Json) -> Json:
    return {name: value for name, value in data.items() if name != "id"}


def _pending(is_pending: bool) -> str:  # noqa: FBT001  the one thing it is about
    return "(not sent yet)" if is_pending else ""


def _modified(at: str | None, by: object) -> str | None:
    return f"{at} by user {by}" if at is not None and by is not None else at


def _of_side(data: Json | None, name: str) -> Any:
    return "(not there)" if data is None else data.get(name, "(none)")


def _heading(name: str, side: Side) -> str:
    return f"{name} (deleted)" if side.data is None else name


def _summary(one: Quarantined) -> str:
    operation = one.operation
    fields = " ".join(f"{name}={printable(value)}" for name, value in (operation.fields or {}).items())
    return f"{operation.operation_type} {operation.entity_type} {operation.entity_id} {fields}".rstrip()


def _hinted(count: int, command: str) -> str:
    return f"{count} (see them: {command})" if count else "0"
