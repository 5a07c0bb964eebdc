"""Laws of what reads foreign bytes and texts: each raises its own error or none, and loses nothing on the way."""

import base64
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sync_client import inputs, replies
from sync_client.errors import InvalidInputError
from sync_client.frames import Changes
from sync_client.links.port import parse_address, seconds
from sync_client.stores.sqlite_schema import migrate
from sync_client.stores.sqlite_tables import SqliteTables
from sync_client.values import Key, Row, format_id, parse_id
from sync_client.wire import JSON, LONGEST_WAIT_S, MESSAGE_PACK, Codec, UnreadableFrameError

from clients.python.tests.builders import create
from clients.python.tests.unit.test_wire import KNOWN, WRONG

CODECS = st.sampled_from([JSON, MESSAGE_PACK])
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=60)
TEXTS = st.text(max_size=20)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)
ENTITIES = st.dictionaries(TEXTS, VALUES, max_size=4)
MEMBERS = sorted({name for message in [*KNOWN, *WRONG] for name in message})
MESSAGES = st.builds(
    lambda message, members: {**message, **members},
    st.sampled_from([*KNOWN, *WRONG]),
    st.dictionaries(st.sampled_from(MEMBERS) | TEXTS, VALUES, max_size=3),
)
REPLIES: list[Callable[[bytes], object]] = [
    lambda body: replies.sync_reply(body, "m"),
    replies.changes_reply,
    replies.spaces_reply,
    replies.conflicts_reply,
    replies.checksum_reply,
    lambda body: replies.error_reply(body, "m", None),
]
CHECKS: list[Callable[[Any], object]] = [
    inputs.checked_type,
    inputs.checked_new_id,
    inputs.checked_space,
    inputs.checked_strategy,
    lambda value: inputs.checked_key((value, value)),
    lambda value: inputs.checked_fields({"title": value}, {}),
    lambda value: inputs.checked_names("spaces", [value]),
    lambda value: inputs.checked_query("note", {"title": value}, order_by=None, limit=None),
    lambda value: inputs.checked_fields({str(value): 1}, {}),
    lambda value: inputs.checked_query("note", {}, order_by=str(value), limit=None),
    lambda value: parse_address(str(value)),
    lambda value: parse_address(f"ws://{value}"),
]


def update_of(codec: Codec, data: object) -> Any:
    item = {"operation_type": "update", "version": 2, "entity_type": "note", "entity_id": 1, "data": data}
    return codec.decode(codec.encode({"type": "server_updates", "updates": [item]}))


class TestAFrame:
    @given(codec=CODECS, message=MESSAGES)
    def test_of_any_members_is_one_or_unreadable(self, codec: Codec, message: dict[str, Any]) -> None:
        with suppress(UnreadableFrameError):
            codec.decode(codec.encode(message))

    @given(codec=CODECS, noise=st.binary(max_size=100) | ANY_TEXT)
    def test_of_noise_is_unreadable(self, codec: Codec, noise: bytes | str) -> None:
        with pytest.raises(UnreadableFrameError):
            codec.decode(noise)

    @given(codec=CODECS, message=st.sampled_from(KNOWN), data=st.data())
    def test_that_was_cut_is_unreadable(self, codec: Codec, message: dict[str, Any], data: st.DataObject) -> None:
        whole = codec.encode(message)
        with pytest.raises(UnreadableFrameError):
            codec.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])

    @given(codec=CODECS, entity=ENTITIES)
    def test_tells_an_entity_as_it_is(self, codec: Codec, entity: dict[str, Any]) -> None:
        changes = update_of(codec, entity)
        assert isinstance(changes, Changes)
        assert msgspec.json.decode(str(changes.updates[0].row.data)) == entity


class TestAReply:
    @pytest.mark.parametrize("read", REPLIES)
    @given(body=st.binary(max_size=80) | MESSAGES.map(msgspec.json.encode) | VALUES.map(msgspec.json.encode))
    def test_over_http_is_one_or_unreadable(self, read: Callable[[bytes], object], body: bytes) -> None:
        for whole in (body, b'{"success":true,"data":' + body + b"}"):
            with suppress(UnreadableFrameError):
                read(whole)

    @given(noise=st.binary(max_size=10))
    @example(b"\xc3(")
    @example(b"\\ud800")
    def test_with_noise_in_an_entity_is_unreadable_or_an_object(self, noise: bytes) -> None:
        item = b'{"operation_type":"update","version":1,"entity_type":"note","entity_id":1,"data":{"t":"' + noise
        try:
            frames = replies.changes_reply(b'{"data":{"cursor":"c","has_more":true,"changes":[' + item + b'"}}]}}')
        except UnreadableFrameError:
            return
        (changes,) = frames
        assert isinstance(changes, Changes)
        assert isinstance(msgspec.json.decode(str(changes.updates[0].row.data)), dict)

    @given(header=ANY_TEXT | st.integers().map(str) | st.none())
    def test_says_how_long_to_wait_or_nothing(self, header: str | None) -> None:
        found = seconds(header)
        assert found is None or 0 <= found <= LONGEST_WAIT_S


class TestAnArgument:
    @pytest.mark.parametrize("check", CHECKS)
    @given(value=ANY_TEXT | VALUES | st.floats() | st.integers())
    def test_is_taken_or_named(self, check: Callable[[Any], object], value: Any) -> None:
        with suppress(InvalidInputError):
            check(value)

    @given(token=ANY_TEXT | st.integers(0, 4_000).map("[".__mul__))
    @example("[" * 100_000)
    def test_that_is_a_token_names_a_user_or_nobody(self, token: str) -> None:
        middle = base64.urlsafe_b64encode(token.encode(errors="replace")).decode().rstrip("=")
        for text in (token, f"a.{token}.b", f"a.{middle}.b"):
            assert inputs.user_named_by(text) is None or text != token

    @given(wire=st.integers(0, 2**53 - 1) | st.from_regex(r"[A-Za-z0-9_\-]{1,64}", fullmatch=True))
    def test_that_is_an_id_has_one_stored_text(self, wire: int | str) -> None:
        assert parse_id(format_id(parse_id(wire))) == parse_id(wire)


def sqlite_tables() -> SqliteTables:
    connection = sqlite3.connect(":memory:")
    migrate(connection)
    return SqliteTables(connection)


class TestAStoredValue:
    @given(entity=ENTITIES, space_id=st.none() | TEXTS)
    def test_is_read_as_it_was_written(self, entity: dict[str, Any], space_id: str | None) -> None:
        tables = sqlite_tables()
        text = msgspec.json.encode(entity).decode()
        row = Row(Key("note", "a"), space_id, 1, text, None, None)
        queued = msgspec.structs.replace(create("o1"), fields=entity)
        tables.save_rows([row])
        tables.enqueue([queued])
        assert tables.rows([row.key]) == {row.key: row}
        assert [one.fields for one in tables.queue(after=0, limit=None)] == [queued.fields]

    @given(name=TEXTS | ANY_TEXT, value=ANY_TEXT | NUMBERS | st.booleans() | st.none(), entity=ENTITIES)
    @example(name="title", value="\ud800", entity={})
    def test_is_found_by_every_question_that_may_be_asked(self, name: str, value: Any, entity: dict[str, Any]) -> None:
        tables = sqlite_tables()
        try:
            query = inputs.checked_query("note", {name: value}, order_by=name, limit=None)
        except InvalidInputError:
            return
        fields = {**entity, name: value}
        tables.save_rows([Row(Key("note", "a"), None, 1, msgspec.json.encode(fields).decode(), None, None)])
        assert tables.select(query) == [Key("note", "a")]
