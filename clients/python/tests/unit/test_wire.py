"""Bytes to frames and back: what is not known is ignored, what is known and wrong is refused, in both codecs alike."""

from typing import Any

import msgspec
import pytest
from sync_client import replies, told
from sync_client.frames import (
    CaughtUp,
    Changes,
    ConflictClosed,
    ConflictOpened,
    DifferingBuckets,
    Expiring,
    Failure,
    Goodbye,
    Greeting,
    Heard,
    Limits,
    Ping,
    Receipt,
    Reset,
    Results,
)
from sync_client.values import Key, OperationType
from sync_client.wire import JSON, LEAST_BYTES, LONGEST_WAIT_S, MESSAGE_PACK, RETRYABLE, Codec, UnreadableFrameError

DEPTH = 100_000
AT = "2026-01-02T03:04:05Z"


@pytest.fixture(params=[JSON, MESSAGE_PACK], ids=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    found: Codec = request.param
    return found


def read(codec: Codec, **message: Any) -> Any:
    return codec.decode(codec.encode(message))


def item(operation_type: str = "update", version: int = 2, entity_id: int | str = "a", **members: Any) -> Any:
    return {
        "operation_type": operation_type, "version": version, "entity_type": "note", "entity_id": entity_id,
        "data": {"id": entity_id, "title": "x"}, "modified_at": AT, "modified_by": 1, "space_id": "u-1", **members,
    }  # fmt: skip


def view(**members: Any) -> Any:
    return {
        "conflict_id": "c1", "entity_type": "note", "entity_id": "a", "conflict_type": "content",
        "conflict_fields": ["title"], "base_data": {"title": "base"}, "rule": "manual", "timestamp": AT,
        "server_data": {"version": 2, "data": {"title": "theirs"}, "modified_at": AT, "modified_by": 2},
        "client_data": {"version": 1, "data": {"title": "mine"}, "operation_type": "update"}, **members,
    }  # fmt: skip


def results(codec: Codec, **data: Any) -> Results:
    found = read(codec, type="sync_response", message_id="m", data=data)
    assert isinstance(found, Results)
    return found


def result(**members: Any) -> Any:
    return {"operation_id": "o1", "success": True, "entity_type": "note", "entity_id": "a", **members}


KNOWN: list[dict[str, Any]] = [
    {"type": "handshake", "success": True},
    {"type": "auth", "success": True},
    {"type": "auth_expiring"},
    {"type": "sync_response", "data": {}},
    {"type": "server_update", "entity_type": "note", "entity_id": 1, "update_data": item(), "cursor": "c"},
    {"type": "server_updates", "updates": [item()], "cursor": "c"},
    {"type": "reset", "space_id": None},
    {"type": "caught_up", "cursor": "c"},
    {"type": "conflict", "conflict": view()},
    {"type": "conflict_resolved", "success": True, "conflict_id": "c1"},
    {"type": "ping"},
    {"type": "error", "error": "no", "error_code": "FORBIDDEN"},
    {"type": "goodbye"},
]
WRONG: list[dict[str, Any]] = [
    {"type": "handshake", "success": "yes"},
    {"type": "auth"},
    {"type": "sync_response", "data": {"operation_results": [{"operation_id": "o1"}]}},
    {"type": "sync_response"},
    {"type": "server_update", "entity_type": "note", "entity_id": 1, "cursor": "c"},
    {"type": "server_update", "entity_type": "note", "entity_id": 1.5, "update_data": item()},
    {"type": "server_updates", "updates": None, "cursor": "c"},
    {"type": "server_updates", "updates": [item(version="2")], "cursor": "c"},
    {"type": "server_updates", "updates": [item(version=-1)], "cursor": "c"},
    {"type": "server_updates", "updates": [item(version=2**53)], "cursor": "c"},
    {"type": "server_updates", "updates": [item(data=[1])], "cursor": "c"},
    {"type": "server_updates", "updates": [{k: v for k, v in item().items() if k != "data"}], "cursor": "c"},
    {"type": "server_updates", "updates": [item(entity_id=None)], "cursor": "c"},
    {"type": "reset", "space_id": 7},
    {"type": "caught_up", "cursor": 7},
    {"type": "conflict", "conflict": {"conflict_id": "c1"}},
    {"type": "conflict_resolved", "success": True},
    {"type": "ping", "message_id": []},
    {"type": "error", "error": "no"},
    {"type": "goodbye", "retry_after_ms": "soon"},
]


class TestAMessage:
    @pytest.mark.parametrize("message", KNOWN, ids=lambda message: message["type"])
    def test_with_unknown_members_is_read(self, codec: Codec, message: dict[str, Any]) -> None:
        with_more = {**message, "unknown": [1], "also": {"unknown": None}}
        assert read(codec, **with_more) == read(codec, **message)

    def test_of_each_known_type_is_tried_here(self) -> None:
        assert {message["type"] for message in KNOWN} == {message["type"] for message in WRONG} | {"auth_expiring"}
        assert {message["type"] for message in KNOWN} == told.TYPES

    @pytest.mark.parametrize("message", [{"type": "presence", "user": 7}, {"type": "pong"}, {"type": ""}])
    def test_of_an_unknown_type_is_a_sign_of_life(self, codec: Codec, message: dict[str, Any]) -> None:
        assert read(codec, **message) == Heard()

    @pytest.mark.parametrize("message", WRONG, ids=lambda message: message["type"])
    def test_of_a_known_type_that_is_wrong_is_refused(self, codec: Codec, message: dict[str, Any]) -> None:
        with pytest.raises(UnreadableFrameError):
            read(codec, **message)

    @pytest.mark.parametrize("message", [{}, {"type": 7}, {"type": None}])
    def test_without_a_type_is_refused(self, codec: Codec, message: dict[str, Any]) -> None:
        with pytest.raises(UnreadableFrameError, match="no type"):
            read(codec, **message)

    @pytest.mark.parametrize("message", [None, 7, ["ping"], "ping"])
    def test_that_is_no_map_is_refused(self, codec: Codec, message: Any) -> None:
        with pytest.raises(UnreadableFrameError, match="no type"):
            codec.decode(codec.encode(message))

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"\x81", b'{"type":"ping"', b"[" * 100_000])
    def test_that_is_not_well_formed_is_refused(self, codec: Codec, data: bytes) -> None:
        with pytest.raises(UnreadableFrameError):
            codec.decode(data)

    def test_that_is_too_deep_is_refused(self, codec: Codec) -> None:
        """It would end the task that reads, and not the connection alone."""
        known = codec.encode({"type": "error", "error": "x", "error_code": "x", "details": {"x": "HERE"}})
        data = known.encode() if isinstance(known, str) else known
        here, deep = (
            (b'"HERE"', b"[" * DEPTH + b"]" * DEPTH) if codec is JSON else (b"\xa4HERE", b"\x91" * DEPTH + b"\xc0")
        )
        with pytest.raises(UnreadableFrameError):
            codec.decode(data.replace(here, deep))

    def test_with_what_json_cannot_say_is_refused(self) -> None:
        data = {"x": msgspec.msgpack.Ext(5, b"x")}
        with pytest.raises(UnreadableFrameError):
            read(MESSAGE_PACK, type="server_updates", updates=[item(data=data)])

    def test_is_written_as_its_codec_says(self) -> None:
        message = {"type": "ping", "n": [1, None, "é"]}
        assert JSON.encode(message) == '{"type":"ping","n":[1,null,"é"]}'
        packed = MESSAGE_PACK.encode(message)
        assert isinstance(packed, bytes)
        assert msgspec.msgpack.decode(packed) == message


class TestARow:
    def test_is_read_with_all_that_was_told(self, codec: Codec) -> None:
        found = read(codec, type="server_updates", updates=[item()], cursor="c1")
        assert isinstance(found, Changes)
        (update,) = found.updates
        assert update.row == (Key("note", "a"), "u-1", 2, '{"id":"a","title":"x"}', AT, "1", False)
        assert (update.begins, update.is_revoked, found.cursor) == (False, False, "c1")

    @pytest.mark.parametrize(
        ("wire", "stored"), [(12, "12"), ("note-a", "note-a"), ("12", "12"), (2**53 - 1, "9007199254740991"), (0, "0")]
    )
    def test_is_stored_under_the_text_of_its_id(self, codec: Codec, wire: int | str, stored: str) -> None:
        found = read(codec, type="server_updates", updates=[item(entity_id=wire, modified_by=wire)])
        row = found.updates[0].row
        assert (row.key.entity_id, row.modified_by) == (stored, stored)

    def test_of_a_delete_has_no_data_whatever_is_told(self, codec: Codec) -> None:
        some = [item("delete"), item("delete", data=None)]
        found = read(codec, type="server_updates", updates=some)
        assert [update.row.data for update in found.updates] == [None, None]

    def test_of_a_plain_delete_needs_no_data(self, codec: Codec) -> None:
        bare = {"operation_type": "delete", "version": 3}
        found = read(codec, type="server_update", entity_type="note", entity_id=1, update_data=bare)
        assert (found.updates[0].row.data, found.updates[0].row.version, found.cursor) == (None, 3, None)

    @pytest.mark.parametrize(
        ("kind", "version", "begins"),
        [("create", 1, True), ("create", 2, False), ("update", 1, False), ("create", 417_000_001, True)],
    )
    def test_begins_with_a_first_version(self, codec: Codec, kind: str, version: int, *, begins: bool) -> None:
        found = read(codec, type="server_updates", updates=[item(kind, version)])
        assert found.updates[0].begins is begins

    def test_that_is_revoked_says_so(self, codec: Codec) -> None:
        some = [item("delete", reason="revoked"), item("delete", reason="deleted")]
        found = read(codec, type="server_updates", updates=some)
        assert [update.is_revoked for update in found.updates] == [True, False]

    def test_has_its_escapes_undone(self) -> None:
        """A field is found by its name however a server wrote it."""
        text = (
            '{"type":"server_updates","updates":[{"operation_type":"create","version":1,"entity_type":"note",'
            '"entity_id":1,"data": {"id":1,"t\\u0069tle":"gr\\u00f6\\u00dfer","path":"a\\\\u0041\\n"} }]}'
        )
        found = JSON.decode(text)
        assert isinstance(found, Changes)
        data = found.updates[0].row.data
        assert data is not None
        assert '"title":"größer"' in data
        assert msgspec.json.decode(data) == {"id": 1, "title": "größer", "path": "a\\u0041\n"}

    def test_is_the_same_in_both_codecs(self) -> None:
        data = {"id": 1, "é": [None, True, 1.5, {"x": 'q"\\'}], "n": -(2**60)}
        rows = [read(one, type="server_updates", updates=[item(data=data)]) for one in (JSON, MESSAGE_PACK)]
        assert rows[0] == rows[1]


class TestAResult:
    def test_is_read_with_all_that_was_told(self, codec: Codec) -> None:
        given = result(
            operation_type="update", verdict="merged", entity_id=12, new_version=3, data={"id": 12}, conflict_id="c1",
            modified_at=AT,
        )  # fmt: skip
        (one,) = results(codec, operation_results=[given]).results
        about = (Key("note", "12"), 3, True, '{"id":12}', "c1", None, AT)
        assert one == ("o1", OperationType.UPDATE, True, "merged", *about)

    def test_tells_no_data_from_data_that_is_nothing(self, codec: Codec) -> None:
        bare, nothing = results(codec, operation_results=[result(), result(data=None)]).results
        assert (bare.has_data, bare.data) == (False, None)
        assert (nothing.has_data, nothing.data) == (True, None)

    def test_of_a_resend_says_nothing_of_the_entity_but_that_it_was_deleted(self, codec: Codec) -> None:
        some = [
            result(duplicate=True, operation_type="update", data={"id": "a"}),
            result(duplicate=True, operation_type="delete", data=None),
        ]
        assert [one.has_data for one in results(codec, operation_results=some).results] == [False, True]

    def test_without_an_id_is_left_out(self, codec: Codec) -> None:
        given = [result(operation_id=None), result(operation_id="o2")]
        assert [one.operation_id for one in results(codec, operation_results=given).results] == ["o2"]

    def test_without_an_entity_names_none(self, codec: Codec) -> None:
        given = [result(entity_id=None), result(entity_type=None)]
        assert [one.key for one in results(codec, operation_results=given).results] == [None, None]

    def test_of_an_unknown_type_is_read(self, codec: Codec) -> None:
        (one,) = results(codec, operation_results=[result(operation_type="merge")]).results
        assert one.operation_type is None

    def test_that_was_refused_says_why(self, codec: Codec) -> None:
        given = result(success=False, error="too long", error_code="VALIDATION_ERROR", details={"field": "title"})
        (one,) = results(codec, operation_results=[given]).results
        assert one.problem is not None
        assert (one.problem.error, one.problem.error_code) == ("too long", "VALIDATION_ERROR")
        assert one.problem.details == {"field": "title"}

    def test_without_a_code_may_succeed_later(self, codec: Codec) -> None:
        (one,) = results(codec, operation_results=[result(success=False, error="oh")]).results
        assert one.problem is not None
        assert one.problem.error_code in RETRYABLE


class TestAReply:
    def test_has_its_rows_resets_and_time(self, codec: Codec) -> None:
        found = results(
            codec, server_updates=[item()], resets=[{"space_id": "s1"}, {}], new_client_state={"last_sync_time": AT},
        )  # fmt: skip
        assert [update.row.version for update in found.updates] == [2]
        assert (found.message_id, found.resets, found.synced_at, found.has_more) == ("m", ["s1", None], AT, False)

    def test_of_conflicts_has_those_that_are_open(self, codec: Codec) -> None:
        some = [view(conflict_id="open"), view(conflict_id="done", status="resolved"), view(resolution={"by": 1})]
        found = results(codec, conflicts=some, conflicts_omitted=2)
        assert [one.conflict_id for one in found.conflicts] == ["open"]
        assert found.omits_conflicts
        assert not results(codec, conflicts=some).omits_conflicts

    def test_without_data_is_how_a_plain_server_refuses(self, codec: Codec) -> None:
        found = read(codec, type="sync_response", message_id="m", error="wait", error_code="RATE_LIMIT_EXCEEDED")
        assert isinstance(found, Failure)
        assert (found.message_id, found.problem.error, found.is_retryable) == ("m", "wait", True)


class TestAConflict:
    def opened(self, codec: Codec, **members: Any) -> Any:
        found = read(codec, type="conflict", conflict=view(**members))
        assert isinstance(found, ConflictOpened)
        return found.conflict

    def test_has_both_sides_and_their_base(self, codec: Codec) -> None:
        found = self.opened(codec, entity_id=12, operation_id="o1")
        assert (found.mine.version, found.mine.data, found.theirs.version) == (1, {"title": "mine"}, 2)
        assert (found.theirs.data, found.theirs.modified_by, found.theirs.modified_at) == ({"title": "theirs"}, 2, AT)
        assert (found.base, found.fields, found.rule, found.since) == ({"title": "base"}, ["title"], "manual", AT)
        assert (found.key, found.whole, found.operation_id) == (Key("note", "12"), {"title": "theirs"}, "o1")

    def test_where_mine_deletes_has_nothing_on_my_side(self, codec: Codec) -> None:
        mine = {"version": 1, "data": {"title": "left over"}, "operation_type": "delete"}
        found = self.opened(codec, conflict_type="delete", client_data=mine)
        assert (found.mine.data, found.theirs.data) == (None, {"title": "theirs"})

    def test_where_theirs_deleted_has_nothing_on_their_side_and_what_was(self, codec: Codec) -> None:
        found = self.opened(codec, conflict_type="delete")
        assert (found.mine.data, found.theirs.data, found.whole) == ({"title": "mine"}, None, {"title": "theirs"})

    @pytest.mark.parametrize("members", [{"requires_manual_resolution": False}, {"conflict": view(status="resolved")}])
    def test_that_nobody_must_settle_is_a_sign_of_life(self, codec: Codec, members: dict[str, Any]) -> None:
        assert read(codec, **{"type": "conflict", "conflict": view(), **members}) == Heard()

    def test_is_closed_when_it_was_settled(self, codec: Codec) -> None:
        assert read(codec, type="conflict_resolved", success=True, conflict_id="c1") == ConflictClosed("c1")
        assert read(codec, type="conflict_resolved", success=False, conflict_id="c1") == Heard()


class TestTheRest:
    def test_a_greeting_has_limits_and_an_admission(self, codec: Codec) -> None:
        found = read(
            codec, type="handshake", success=True, capabilities=["subscribe"], heartbeat_interval_ms=20_000,
            limits={"max_message_bytes": 65_536, "max_operations": 10}, auth={"success": True, "user_id": 7},
        )  # fmt: skip
        assert isinstance(found, Greeting)
        assert (found.capabilities, found.limits, found.heartbeat_s) == ({"subscribe"}, Limits(65_536, 10), 20.0)
        assert found.admission == (7, None)
        assert found.problem is None

    def test_a_greeting_of_a_plain_server_says_nothing_more(self, codec: Codec) -> None:
        found = read(codec, type="handshake", success=True)
        assert found == Greeting(None, Limits(), None, None, None)

    def test_limits_that_would_shut_everything_out_are_not_believed(self, codec: Codec) -> None:
        found = read(codec, type="handshake", success=True, limits={"max_message_bytes": 0, "max_operations": 0})
        assert found.limits == Limits(LEAST_BYTES, 1)

    def test_a_refused_token_says_why(self, codec: Codec) -> None:
        found = read(codec, type="auth", success=False, error="expired", error_code="UNAUTHORIZED")
        assert (found.problem.error, found.problem.error_code) == ("expired", "UNAUTHORIZED")

    @pytest.mark.parametrize(
        ("code", "retryable", "is_retryable"),
        [
            ("SYNC_ERROR", None, True),
            ("FORBIDDEN", None, False),
            ("FORBIDDEN", True, True),
            ("FORBIDDEN", False, False),
        ],
    )
    def test_an_error_may_be_tried_again_as_it_says(
        self, codec: Codec, code: str, *, retryable: bool | None, is_retryable: bool
    ) -> None:
        found = read(codec, type="error", error="x", error_code=code, retryable=retryable, retry_after_ms=1_500)
        assert (found.is_retryable, found.retry_after_s) == (is_retryable, 1.5)

    def test_a_wait_is_neither_in_the_past_nor_for_ever(self, codec: Codec) -> None:
        for given, wait in ((-5, 0.0), (1e12, LONGEST_WAIT_S)):
            assert read(codec, type="goodbye", reason="later", retry_after_ms=given) == Goodbye("later", wait)

    def test_a_ping_is_answered_with_its_own_words_if_they_are_short(self, codec: Codec) -> None:
        assert read(codec, type="ping", message_id="m", timestamp=AT) == Ping("m", AT)
        assert read(codec, type="ping", message_id="m" * 129) == Ping(None, None)

    def test_the_others_are_what_they_say(self, codec: Codec) -> None:
        assert read(codec, type="auth_expiring") == Expiring()
        assert read(codec, type="reset", space_id="s1") == Reset("s1")
        assert read(codec, type="caught_up") == CaughtUp(None)

    def test_receipts_are_read_where_they_are(self, codec: Codec) -> None:
        told = {"space_id": "s1", "seq": 4, "checksum": "00000000000000ff", "count": 2}
        expected = (Receipt("s1", 4, 255),)
        assert read(codec, type="caught_up", cursor="c", receipts=[told]) == CaughtUp("c", expected)
        found = read(codec, type="sync_response", data={"new_client_state": {"receipts": [told]}})
        assert isinstance(found, Results)
        assert found.receipts == expected
        with pytest.raises(UnreadableFrameError):
            read(codec, type="caught_up", cursor="c", receipts=[{**told, "checksum": "none"}])


class TestOverHttp:
    """The same, as the replies of docs/rest.md."""

    def test_changes_are_resets_rows_and_the_end(self) -> None:
        page = {"changes": [item()], "cursor": "c1", "resets": [{"space_id": "s1"}], "unknown": 7}
        reset, rows, *end = replies.changes_reply(body({**page, "has_more": False}))
        assert (reset, end) == (Reset("s1"), [CaughtUp("c1")])
        assert isinstance(rows, Changes)
        assert (rows.updates[0].row.data, rows.cursor) == ('{"id":"a","title":"x"}', "c1")
        assert len(replies.changes_reply(body({**page, "has_more": True}))) == 2
        told = {"space_id": "s1", "seq": 4, "checksum": "00000000000000ff", "count": 2}
        *_, last = replies.changes_reply(body({**page, "has_more": False, "receipts": [told]}))
        assert last == CaughtUp("c1", (Receipt("s1", 4, 255),))

    def test_what_differs_is_buckets_and_then_rows(self) -> None:
        buckets = replies.buckets_reply(body({"differing": [3, 9], "checksum": "00000000000000ff"}))
        rows = replies.rows_reply(body({"updates": [item()], "gone": [["note", 7]], "has_more": True}))
        assert buckets == DifferingBuckets([3, 9], 255)
        assert ([one.row.key for one in rows.updates], rows.gone) == ([Key("note", "a")], [Key("note", "7")])
        assert rows.has_more

    def test_a_sync_is_answered_with_results(self) -> None:
        found = replies.sync_reply(body({"operation_results": [result()]}), "m")
        assert isinstance(found, Results)
        assert (found.message_id, [one.operation_id for one in found.results]) == ("m", ["o1"])

    def test_spaces_conflicts_and_checksums_are_read(self) -> None:
        (space,) = replies.spaces_reply(body({"spaces": [{"space_id": "u-1", "is_personal": True}]}))
        (conflict,) = replies.conflicts_reply(body({"conflicts": [view()]}))
        assert (space.space_id, space.is_personal, conflict.conflict_id) == ("u-1", True, "c1")
        assert replies.checksum_reply(body({"checksum": "00000000000000ff", "cursor": "c"})) == 255

    @pytest.mark.parametrize(
        "read_reply",
        [
            replies.changes_reply, replies.spaces_reply, replies.conflicts_reply, replies.checksum_reply,
            replies.buckets_reply, replies.rows_reply,
            lambda data: replies.sync_reply(data, "m"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize(
        "data",
        [
            b"", b"<html>", b"{}", b'{"data":7}', b"\xff", b'{"data":{"x":' + b"[" * DEPTH + b"]" * DEPTH + b"}}",
            b'{"data":{"changes":[{}],"spaces":7,"conflicts":{},"checksum":"x","operation_results":7}}',
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_refused(self, read_reply: Any, data: bytes) -> None:
        with pytest.raises(UnreadableFrameError):
            read_reply(data)

    def test_a_refusal_is_a_failure_and_anything_else_is_not_the_servers(self) -> None:
        refusal = b'{"error":"slow down","error_code":"RATE_LIMIT_EXCEEDED","details":null,"more":1}'
        found = replies.error_reply(refusal, "m", 2.0)
        assert found is not None
        assert (found.message_id, found.problem.error_code, found.is_retryable) == ("m", "RATE_LIMIT_EXCEEDED", True)
        assert (found.problem.details, found.retry_after_s) == ({}, 2.0)
        assert replies.error_reply(b"<html>", "m", None) is None
        assert replies.error_reply(b'"\xff"', "m", None) is None


def body(data: Any) -> bytes:
    return msgspec.json.encode({"data": data, "success": True})
