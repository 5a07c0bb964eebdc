"""A terminal notes app that works without a network: an example of `sync_client`.

`NotesApp` shows how an application opens the client, follows its changes and its status, and writes; `ConflictSheet`
and `RefusedSheet` show how a person settles what the server could not. Needs Textual (`pip install "textual>=8.2"`).
"""

import argparse
import os
from abc import abstractmethod
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from sync_client import (
    Change,
    Conflict,
    Entity,
    EntityNotFoundError,
    InvalidInputError,
    LinkState,
    NoLongerThereError,
    Quarantined,
    Side,
    Status,
    StoreError,
    SyncClient,
)
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Footer, Input, Label, OptionList, Static, TextArea
from textual.widgets.option_list import Option

FIELDS = ("title", "content")
"""What a person edits of a note."""


class NotesApp(App[None]):
    """
    Args:
        store: the file that keeps the notes of this device.

    Raises:
        InvalidInputError: the server's address or the token cannot be used.
    """

    TITLE = "Notes"
    CSS_PATH = "notes_app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("ctrl+n", "new", "New"),
        ("ctrl+s", "save", "Save"),
        ("ctrl+t", "delete", "Delete"),
        ("ctrl+r", "review", "Review"),
        ("ctrl+o", "network", "On/offline"),
        Binding("ctrl+q", "quit", "Quit", priority=True),  # also from a sheet
    ]

    def __init__(self, url: str, *, token: str, store: Path) -> None:
        super().__init__()
        # "manual": where both sides changed the same, this app asks the person instead of following a rule
        self._client = partial(SyncClient, url, token=token, store=store, on_conflict="manual")
        self.notes = self._client()
        self.is_online = True
        self.listed: dict[str, Entity] = {}
        self.note: Entity | None = None
        self._shown = dict.fromkeys(FIELDS, "")
        self._opened = AsyncExitStack()

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield OptionList(id="notes", markup=False)
            with Vertical(id="editor"):
                yield Input(placeholder="Title", id="title")
                yield TextArea(id="content")
        yield Static(id="status", markup=False)
        yield Footer()

    # --- the client: open it, follow it, close it ------------------------------------------------------------------

    async def on_mount(self) -> None:
        # found once: while the app ends, its screen is taken down under those who still follow the client
        self.list = self.query_one("#notes", OptionList)
        self.status_line = self.query_one("#status", Static)
        self.title_box = self.query_one("#title", Input)
        self.content_box = self.query_one("#content", TextArea)
        await self.open_client()
        self.title_box.focus()

    async def on_unmount(self) -> None:
        await self.close_client()

    async def open_client(self) -> None:
        """What `async with` does, for as long as the app runs or until it goes on- or offline."""
        try:
            self.notes = await self._opened.enter_async_context(self._client(connect=self.is_online))
        except StoreError as error:
            self.exit(return_code=1, message=str(error))
            return
        self.run_worker(self.follow_changes(), group="client")
        self.run_worker(self.follow_status(), group="client")

    async def close_client(self) -> None:
        self.workers.cancel_group(self, "client")
        await self._opened.aclose()

    async def follow_changes(self) -> None:
        """Keep the list as the store is, whoever writes: this app, another process, another device."""
        while True:
            self.list.clear_options()
            self.listed.clear()
            async for change in self.notes.changes("note", existing=True):
                if change.kind == "reload":
                    break
                self.take(change)

    async def follow_status(self) -> None:
        async for status in self.notes.statuses():
            self.status_line.update(format_status(status))

    def take(self, change: Change) -> None:
        notes, note_id = self.list, str(change.id)
        if change.entity is None:
            if self.listed.pop(note_id, None) is not None:
                notes.remove_option(note_id)
        elif note_id in self.listed:
            notes.replace_option_prompt(note_id, format_line(change.entity))
        else:
            notes.add_option(Option(format_line(change.entity), note_id))
        if change.entity is not None:
            self.listed[note_id] = change.entity
        if self.note is not None and self.note.id == change.id:
            self.meet(self.note, change.entity)

    # --- the editor ------------------------------------------------------------------------------------------------

    def inside(self) -> dict[str, str]:
        return {"title": self.title_box.value, "content": self.content_box.text}

    def typed(self) -> dict[str, str]:
        """The fields that a person changed since they were shown or saved."""
        return {name: text for name, text in self.inside().items() if text != self._shown[name]}

    def show(self, name: str, text: str) -> None:
        if name == "title":
            self.title_box.value = text
        else:
            area = self.content_box
            cursor = area.cursor_location
            area.text = text
            area.move_cursor(cursor)
        self._shown[name] = self.inside()[name]

    def edit(self, note: Entity | None) -> None:
        """Show a note, or an empty page that becomes one when it is saved."""
        self.note = note
        for name in FIELDS:
            self.show(name, text_of(note.data if note is not None else None, name))

    def meet(self, before: Entity, now: Entity | None) -> None:
        """The note in the editor changed in the store: show it, but never over what is being typed."""
        typed = self.typed()
        if now is None:
            if not typed:
                self.edit(None)
            return
        self.note = now
        for name in FIELDS:
            old, new = text_of(before.data, name), text_of(now.data, name)
            if name not in typed and old != new:
                self.show(name, new)
            elif old != new != typed.get(name, new):
                self.notify(f"The {name} was changed elsewhere: saving yours replaces it.", severity="warning")

    async def action_save(self) -> None:
        """Write what was typed, and that alone: fields that were not touched are in nobody's way."""
        typed, everything = self.typed(), self.inside()
        if not typed:
            return
        try:
            if self.note is not None:
                self.note = await self.notes.update(self.note, typed)
            else:
                self.note = await self.notes.create("note", everything)
        except EntityNotFoundError:  # it was deleted elsewhere while somebody typed here: nothing typed is lost
            self.note = await self.notes.create("note", everything)
        self._shown |= typed

    # --- what a person does ----------------------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#notes")
    async def open_note(self, event: OptionList.OptionSelected) -> None:
        await self.action_save()
        self.edit(self.listed.get(event.option_id or ""))
        self.content_box.focus()

    async def action_new(self) -> None:
        await self.action_save()
        self.edit(None)
        self.title_box.focus()

    async def action_delete(self) -> None:
        if self.note is not None:
            with suppress(EntityNotFoundError):
                await self.notes.delete(self.note)
        self.edit(None)

    async def action_network(self) -> None:
        """Go offline or online: the same store, opened with or without a connection."""
        await self.action_save()
        await self.close_client()
        self.is_online = not self.is_online
        await self.open_client()

    async def action_quit(self) -> None:
        await self.action_save()
        self.exit()

    @work(exclusive=True, group="review")
    async def action_review(self) -> None:
        conflicts, refused = await self.notes.conflicts(), await self.notes.quarantine()
        sheets = [ConflictSheet(self.notes, one) for one in conflicts]
        for sheet in [*sheets, *(RefusedSheet(self.notes, one) for one in refused)]:
            if not await self.push_screen_wait(sheet):
                return
        if not conflicts and not refused:
            self.notify("Nothing waits for you.")


class Sheet(ModalScreen[bool]):
    """Something that waits for a person. It closes once that is settled, here or on another device."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(False)", "Later")]

    def __init__(self, notes: SyncClient) -> None:
        super().__init__()
        self.notes = notes

    @abstractmethod
    async def waits(self) -> bool:
        """Whether nobody has settled it yet."""

    @work
    async def on_mount(self) -> None:
        async for _ in self.notes.statuses():
            if not await self.waits():
                self.dismiss(True)
                return

    def edited(self) -> dict[str, str]:
        return {area.id: area.text for area in self.query(TextArea) if area.id is not None}


class ConflictSheet(Sheet):
    def __init__(self, notes: SyncClient, conflict: Conflict) -> None:
        super().__init__(notes)
        self.conflict = conflict

    def compose(self) -> ComposeResult:
        conflict = self.conflict
        with VerticalScroll(id="sheet"):
            yield Label(f"This {conflict.entity_type} was changed on both sides.")
            for name in conflict.fields:
                with Horizontal(classes="sides"):
                    yield framed(f"{name}: base", Static(text_of(conflict.base, name), markup=False))
                    for whose, side in (("mine", conflict.mine), ("theirs", conflict.theirs)):
                        yield framed(f"{whose} {time_of(side)}", Static(side_of(side, name), markup=False))
                if name in FIELDS:
                    yield framed(f"{name}: merged", TextArea(text_of(conflict.mine.data, name), id=name))
            with Horizontal(classes="buttons"):
                yield Button("Keep mine", id="mine")
                yield Button("Keep theirs", id="theirs")
                yield Button("Use merged", id="merge", variant="primary")
        yield Footer()

    async def waits(self) -> bool:
        return self.conflict.conflict_id in [one.conflict_id for one in await self.notes.conflicts()]

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        with suppress(NoLongerThereError):  # somebody was faster; the sheet is about to close
            match event.button.id:
                case "mine":
                    await self.notes.keep_mine(self.conflict)
                case "theirs":
                    await self.notes.keep_theirs(self.conflict)
                case _:
                    await self.notes.merge(self.conflict, self.edited())


class RefusedSheet(Sheet):
    def __init__(self, notes: SyncClient, refused: Quarantined) -> None:
        super().__init__(notes)
        self.refused = refused

    def compose(self) -> ComposeResult:
        operation = self.refused.operation
        with VerticalScroll(id="sheet"):
            yield Label(f"The server refused to {operation.operation_type} this {operation.entity_type}.")
            yield Static(self.refused.problem.error, id="reason", markup=False)
            for name in FIELDS:
                if name in (operation.fields or {}):
                    yield framed(name, TextArea(text_of(operation.fields, name), id=name))
            with Horizontal(classes="buttons"):
                yield Button("Drop it", id="drop", variant="error")
                yield Button("Try again", id="retry", variant="primary")
        yield Footer()

    async def waits(self) -> bool:
        return self.refused.operation_id in [one.operation_id for one in await self.notes.quarantine()]

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        with suppress(NoLongerThereError):
            if event.button.id == "drop":
                await self.notes.drop(self.refused)
            else:
                await self.notes.retry(self.refused, self.edited())


# --- text -----------------------------------------------------------------------------------------------------------


def text_of(data: dict[str, Any] | None, name: str) -> str:
    return str((data or {}).get(name) or "")


def side_of(side: Side, name: str) -> str:
    return text_of(side.data, name) if side.data is not None else "(deleted)"


def time_of(side: Side) -> str:
    return clock(datetime.fromisoformat(side.modified_at)) if side.modified_at is not None else ""


def clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M}"


def format_line(note: Entity) -> str:
    """A line of the list: the dot says that some of the note has not reached the server."""
    return f"{'•' if note.is_pending else ' '} {text_of(note.data, 'title') or 'Untitled'}"


def format_status(status: Status) -> str:
    state = {LinkState.LIVE: "live", LinkState.CONNECTING: "connecting", LinkState.CATCHING_UP: "catching up"}
    parts = [state.get(status.state, f"{status.state} since {clock(status.since)}")]
    counts = {"pending": status.pending, "in conflict": status.conflicts, "refused": status.quarantined}
    parts += [f"{count} {what}" for what, count in counts.items() if count]
    if status.last_synced_at is not None:
        parts.append(f"synced {clock(status.last_synced_at)}")
    return " / ".join([*parts, *([status.problem] if status.problem is not None else [])])


def framed(title: str, widget: Widget) -> Widget:
    widget.border_title = title
    return widget


def main() -> None:
    parser = argparse.ArgumentParser(description="Terminal notes that work offline.")
    parser.add_argument("--url", default=os.environ.get("SYNC_CLIENT_URL", "ws://localhost:3000"), help="the server")
    parser.add_argument("--token", default=os.environ.get("SYNC_CLIENT_TOKEN", ""), help="whose notes these are")
    parser.add_argument("--store", default="notes.db", type=Path, metavar="FILE", help="keeps the notes of this device")
    options = parser.parse_args()
    if not options.token:
        parser.error("no token: name one with --token, or set SYNC_CLIENT_TOKEN")
    try:
        app = NotesApp(options.url, token=options.token, store=options.store)
    except InvalidInputError as error:
        parser.error(str(error))
    app.run()
    parser.exit(app.return_code or 0)


if __name__ == "__main__":
    main()
