"""The example app, driven as by a person: two devices of one user, on one real server."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import examples.notes_app
import pytest
import pytest_asyncio
from examples.notes_app import ConflictSheet, NotesApp, RefusedSheet, Sheet
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList, Static, TextArea

from tests.harness import free_port, running_server, token_for

BOUND_S = 10.0


class Device:
    """One app and the person in front of it."""

    def __init__(self, app: NotesApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    # --- what the person does

    async def new(self, *, title: str, content: str = "") -> None:
        await self.pilot.press("ctrl+n")
        await self.write(title=title, content=content)

    async def open(self, title: str) -> None:
        await self.until(lambda: title in self.titles)
        notes = self.app.query_one("#notes", OptionList)
        notes.focus()
        notes.highlighted = self.titles.index(title)
        await self.pilot.press("enter")
        await self.until(lambda: self.editor["title"] == title)

    def fill(self, *, title: str | None = None, content: str | None = None) -> None:
        if title is not None:
            self.app.query_one("#title", Input).value = title
        if content is not None:
            self.app.query_one("#content", TextArea).text = content

    async def write(self, *, title: str | None = None, content: str | None = None) -> None:
        self.fill(title=title, content=content)
        await self.pilot.press("ctrl+s")
        await self.until(lambda: not self.app.typed())

    async def go_offline(self) -> None:
        await self.pilot.press("ctrl+o")
        await self.until(lambda: self.status.startswith("offline since"))

    async def go_online(self) -> None:
        await self.pilot.press("ctrl+o")
        await self.until(lambda: self.status.startswith("live"))
        await self.settled()

    async def review(self, kind: type[Sheet]) -> None:
        await self.pilot.press("ctrl+r")
        await self.until(lambda: isinstance(self.app.screen, kind))

    async def choose(self, button: str) -> None:
        self.app.screen.query_one(f"#{button}", Button).press()
        await self.until_home()

    # --- what the person sees

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what the app shows, and look whenever it has nothing left to do."""
        async with asyncio.timeout(BOUND_S):
            while not is_so():
                await self.pilot.pause()

    async def until_home(self) -> None:
        await self.until(lambda: len(self.app.screen_stack) == 1)

    async def settled(self) -> None:
        await self.app.notes.settled(timeout_s=BOUND_S)

    @property
    def lines(self) -> list[str]:
        notes = self.app.query_one("#notes", OptionList)
        return [str(notes.get_option_at_index(index).prompt) for index in range(notes.option_count)]

    @property
    def titles(self) -> list[str]:
        return [line[2:] for line in self.lines]

    @property
    def editor(self) -> dict[str, str]:
        return self.app.inside()

    @property
    def status(self) -> str:
        return str(self.app.query_one("#status", Static).content)

    @property
    def sides(self) -> list[str]:
        """The texts of an open sheet's frames."""
        return [str(side.content) for side in self.app.screen.query(".sides Static").results(Static)]


@asynccontextmanager
async def device(url: str, store: Path) -> AsyncIterator[Device]:
    app = NotesApp(url, token=token_for("1"), store=store)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        yield Device(app, pilot)


@pytest_asyncio.fixture
async def devices(tmp_path: Path) -> AsyncIterator[tuple[Device, Device]]:
    """Two devices that are live."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(tmp_path / "server"))
        phone = await stack.enter_async_context(device(server.http_url, tmp_path / "phone.db"))
        laptop = await stack.enter_async_context(device(server.http_url, tmp_path / "laptop.db"))
        for one in (phone, laptop):
            await one.until(lambda one=one: one.status.startswith("live"))
        yield phone, laptop


async def meet(*devices: Device) -> None:
    """Everything of each is with all of them."""
    for one in devices:
        await one.settled()
    first, *others = devices
    for other in others:
        await other.until(lambda other=other: sorted(other.lines) == sorted(first.lines))


class TestTwoDevices:
    async def test_that_met_show_the_same_list(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await phone.new(title="Shopping", content="milk")
        await laptop.new(title="Books", content="Emma")
        await meet(phone, laptop)
        assert sorted(phone.titles) == ["Books", "Shopping"]

    async def test_that_wrote_different_notes_offline_have_both(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await phone.go_offline()
        await laptop.go_offline()
        await phone.new(title="Shopping")
        await laptop.new(title="Books")
        assert phone.lines == ["• Shopping"]
        assert "1 pending" in phone.status
        await phone.go_online()
        await laptop.go_online()
        await meet(phone, laptop)
        assert sorted(phone.lines) == ["  Books", "  Shopping"]
        assert "pending" not in phone.status

    async def test_that_wrote_different_lines_offline_have_both(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await phone.new(title="Shopping", content="milk\n\neggs\n")
        await meet(phone, laptop)
        await laptop.open("Shopping")
        await phone.go_offline()
        await laptop.go_offline()
        await phone.write(content="oat milk\n\neggs\n")
        await laptop.write(content="milk\n\nten eggs\n")
        await phone.go_online()
        await laptop.go_online()
        for one in devices:
            await one.until(lambda one=one: one.editor["content"] == "oat milk\n\nten eggs\n")
            assert "conflict" not in one.status

    async def test_that_wrote_one_title_offline_settle_it_on_either(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await titles_in_conflict(phone, laptop)
        await phone.review(ConflictSheet)
        await laptop.review(ConflictSheet)
        assert phone.sides == laptop.sides == ["Shopping", "Groceries", "Market"]
        await phone.choose("mine")
        await laptop.until_home()
        await meet(phone, laptop)
        for one in devices:
            await one.until(lambda one=one: "conflict" not in one.status)
            assert one.lines == ["  Groceries"]

    @pytest.mark.parametrize(("button", "title"), [("theirs", "Market"), ("merge", "Market groceries")])
    async def test_settle_a_title_offline_as_well(
        self, devices: tuple[Device, Device], button: str, title: str
    ) -> None:
        phone, laptop = devices
        await titles_in_conflict(phone, laptop)
        await laptop.go_offline()
        await laptop.review(ConflictSheet)
        laptop.app.screen.query_one("#title", TextArea).text = "Market groceries"
        await laptop.choose(button)
        await laptop.go_online()
        await meet(phone, laptop)
        await phone.until(lambda: "conflict" not in phone.status and phone.titles == [title])

    async def test_of_which_one_deleted_what_the_other_changed_may_keep_it(
        self, devices: tuple[Device, Device]
    ) -> None:
        phone, laptop = devices
        await phone.new(title="Shopping", content="milk")
        await meet(phone, laptop)
        await laptop.open("Shopping")
        await phone.go_offline()
        await laptop.go_offline()
        await phone.pilot.press("ctrl+t")
        await laptop.write(content="milk, eggs")
        await phone.go_online()
        await laptop.go_online()
        await laptop.until(lambda: "1 in conflict" in laptop.status)
        await laptop.review(ConflictSheet)
        await laptop.choose("mine")
        await meet(phone, laptop)
        assert phone.titles == ["Shopping"]


async def titles_in_conflict(phone: Device, laptop: Device) -> None:
    """One note whose title both changed offline: the laptop's stands, the phone's waits."""
    await phone.new(title="Shopping")
    await meet(phone, laptop)
    await laptop.open("Shopping")
    await phone.go_offline()
    await laptop.go_offline()
    await phone.write(title="Groceries")
    await laptop.write(title="Market")
    await laptop.go_online()
    await phone.go_online()
    for one in (phone, laptop):
        await one.until(lambda one=one: "1 in conflict" in one.status)


class TestEditor:
    async def test_is_never_overwritten_while_somebody_types(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await phone.new(title="Shopping", content="milk")
        await meet(phone, laptop)
        await laptop.open("Shopping")
        laptop.fill(content="milk, eggs")
        await phone.write(title="Groceries", content="bread")
        await laptop.until(lambda: laptop.editor["title"] == "Groceries")
        assert laptop.editor["content"] == "milk, eggs"
        assert [notice.severity for notice in laptop.app._notifications] == ["warning"]

    async def test_of_a_note_deleted_elsewhere_makes_it_anew(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await phone.new(title="Shopping", content="milk")
        await meet(phone, laptop)
        await laptop.open("Shopping")
        laptop.fill(content="milk, eggs")
        await phone.pilot.press("ctrl+t")
        await laptop.until(lambda: laptop.lines == [])
        await laptop.write()
        await meet(phone, laptop)
        assert phone.titles == ["Shopping"]

    async def test_saves_a_note_that_is_left(self, devices: tuple[Device, Device]) -> None:
        phone, _ = devices
        await phone.new(title="Shopping")
        await phone.new(title="Books")
        phone.fill(content="Emma")
        await phone.open("Shopping")
        await phone.open("Books")
        assert phone.editor == {"title": "Books", "content": "Emma"}

    async def test_saves_before_the_app_quits(self, tmp_path: Path) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with device(url, tmp_path / "a.db") as phone:
            phone.fill(title="Shopping")
            await phone.pilot.press("ctrl+q")
        async with device(url, tmp_path / "a.db") as phone:
            await phone.until(lambda: phone.lines == ["• Shopping"])


class TestRefused:
    async def test_is_shown_with_its_reason_and_tried_again(self, devices: tuple[Device, Device]) -> None:
        phone, laptop = devices
        await phone.new(title="x" * 2_000)
        await phone.until(lambda: "1 refused" in phone.status)
        await phone.review(RefusedSheet)
        assert "at most 1000" in str(phone.app.screen.query_one("#reason", Static).content)
        phone.app.screen.query_one("#title", TextArea).text = "Short"
        await phone.choose("retry")
        await meet(phone, laptop)
        assert laptop.titles == ["Short"]

    async def test_is_dropped(self, devices: tuple[Device, Device]) -> None:
        phone, _ = devices
        await phone.new(title="x" * 2_000)
        await phone.until(lambda: "1 refused" in phone.status)
        await phone.review(RefusedSheet)
        await phone.choose("drop")
        await phone.until(lambda: "refused" not in phone.status)
        assert phone.lines == []

    async def test_does_not_keep_the_app_from_quitting(self, devices: tuple[Device, Device]) -> None:
        phone, _ = devices
        await phone.new(title="x" * 2_000)
        await phone.until(lambda: "1 refused" in phone.status)
        await phone.review(RefusedSheet)
        await phone.pilot.press("ctrl+q")
        await phone.until(lambda: phone.app.return_code == 0)

    async def test_may_wait_for_later(self, devices: tuple[Device, Device]) -> None:
        phone, _ = devices
        await phone.new(title="x" * 2_000)
        await phone.until(lambda: "1 refused" in phone.status)
        await phone.review(RefusedSheet)
        await phone.pilot.press("escape")
        await phone.until_home()
        assert "1 refused" in phone.status


class TestStart:
    @pytest.mark.parametrize(
        ("options", "says"),
        [([], "--token"), (["--token", "x", "--url", "gopher://x"], "url")],
    )
    def test_without_what_it_needs_says_so_in_a_line(self, options: list[str], says: str, tmp_path: Path) -> None:
        run = subprocess.run(
            [sys.executable, examples.notes_app.__file__, *options], cwd=tmp_path, capture_output=True, text=True,
            check=False, timeout=30, env={"PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert run.returncode == 2
        assert says in run.stderr.splitlines()[-1]

    async def test_on_a_store_that_cannot_be_used_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "a.db").write_text("no database")
        app = NotesApp("http://127.0.0.1:1", token="x", store=tmp_path / "a.db")
        async with app.run_test():
            pass
        assert app.return_code == 1
