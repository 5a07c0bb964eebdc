"""How a message becomes bytes and bytes become a message."""

from enum import IntEnum

import msgpack
import orjson
import pytest

from sync_server.errors import CloseCode, ErrorCode, ProtocolError
from sync_server.protocol.codec import CODECS, JSON, MAX_DEPTH, MAX_PACKED_ITEMS, MSGPACK, Codec, JsonText, negotiate
from sync_server.types import Verdict

BOTH = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])


def read(codec: Codec, payload: bytes) -> object:
    return codec.decode(payload.decode() if codec.opcode_is_text else payload)


def nested(levels: int) -> dict[str, object]:
    value: object = 1
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


class TestEncoding:
    @BOTH
    def test_splices_stored_json_text(self, codec: Codec) -> None:
        frame = codec.encode({"data": JsonText('{"title":"née","n":1.5}'), "rows": [JsonText("null")]})
        assert read(codec, frame) == {"data": {"title": "née", "n": 1.5}, "rows": [None]}

    def test_does_not_touch_stored_json_text(self) -> None:
        assert JSON.encode({"data": JsonText('{ "n" : 1.00 }')}) == b'{"data":{ "n" : 1.00 }}'

    @BOTH
    def test_writes_enums_as_their_values(self, codec: Codec) -> None:
        frame = codec.encode({"verdict": Verdict.MERGED, "error_code": ErrorCode.CONFLICT, "code": CloseCode.DRAINING})
        assert read(codec, frame) == {"verdict": "merged", "error_code": "CONFLICT", "code": 4000}

    @BOTH
    @pytest.mark.parametrize("foreign", [object(), {1, 2}, {"x": 1j}])
    def test_refuses_what_is_no_json(self, codec: Codec, foreign: object) -> None:
        with pytest.raises(TypeError):
            codec.encode({"value": foreign})

    @BOTH
    def test_keeps_a_plain_number_of_an_enum_plain(self, codec: Codec) -> None:
        class Level(IntEnum):
            HIGH = 3

        assert read(codec, codec.encode({"level": Level.HIGH})) == {"level": 3}


class TestDecodingJson:
    def test_gives_the_map(self) -> None:
        assert JSON.decode('{"type":"ping","n":[1,2.5,null,true]}') == {"type": "ping", "n": [1, 2.5, None, True]}

    @pytest.mark.parametrize(
        "frame",
        [
            "",
            "ping",
            "[]",
            "null",
            '"text"',
            '{"a":1',
            '{"a":1} x',
            '{"a":1}{"b":2}',
            '{"a":NaN}',
            '{"a":Infinity}',
            '{"a":-Infinity}',
            '{"a":1e999}',
            '{"a":"\\ud800"}',
            '{"a":"\\udc00\\ud800"}',
            '{"a":"\ud800"}',
            "\ufeff{}",
            "{'a':1}",
            '{"a":01}',
            '{"a":1,}',
            '{"a":"line\nbreak"}',
            '{"a":"\x00"}',
        ],
    )
    def test_refuses_a_broken_frame(self, frame: str) -> None:
        with pytest.raises(ProtocolError) as caught:
            JSON.decode(frame)
        assert caught.value.close_code is CloseCode.BAD_FRAME

    def test_refuses_a_binary_frame(self) -> None:
        with pytest.raises(ProtocolError, match="binary frame"):
            JSON.decode(b"{}")

    def test_takes_nesting_up_to_the_limit(self) -> None:
        assert JSON.decode(orjson.dumps(nested(MAX_DEPTH)).decode()) == nested(MAX_DEPTH)

    @pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 253, 900, 100_000])
    def test_refuses_nesting_past_the_limit(self, levels: int) -> None:
        with pytest.raises(ProtocolError):
            JSON.decode('{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}")

    def test_takes_many_brackets_that_are_not_nested(self) -> None:
        assert JSON.decode('{"a":[' + "[]," * 1000 + "[]]}") == {"a": [[]] * 1001}

    def test_takes_brackets_in_strings_for_what_they_are(self) -> None:
        assert JSON.decode('{"a":"' + "[" * 1000 + '"}') == {"a": "[" * 1000}

    def test_keeps_a_nul_character_that_is_escaped(self) -> None:
        assert JSON.decode('{"a":"\\u0000"}') == {"a": "\x00"}

    def test_takes_the_last_of_repeated_keys(self) -> None:
        assert JSON.decode('{"a":1,"a":2}') == {"a": 2}

    def test_never_repeats_the_frame_in_its_error(self) -> None:
        with pytest.raises(ProtocolError) as caught:
            JSON.decode('{"token": secret}')
        assert "secret" not in caught.value.message
        assert caught.value.__suppress_context__


class TestDecodingMsgpack:
    def test_gives_the_map(self) -> None:
        message = {"type": "ping", "n": [1, 2.5, None, True, -(2**63), 2**64 - 1]}
        assert MSGPACK.decode(msgpack.packb(message)) == message

    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\xc1", id="reserved byte"),
            pytest.param(b"\x81\xa1a", id="incomplete"),
            pytest.param(msgpack.packb([1]), id="no map"),
            pytest.param(msgpack.packb({"a": 1}) + b"\xc0", id="trailing data"),
            pytest.param(msgpack.packb({1: 2}), id="integer key"),
            pytest.param(msgpack.packb({b"a": 2}), id="bytes key"),
            pytest.param(msgpack.packb({"b": {b"": 2}}), id="inner bytes key"),
            pytest.param(b"\x81\x90\x01", id="list as key"),
            pytest.param(msgpack.packb({"a": b"x"}), id="bytes"),
            pytest.param(msgpack.packb({"a": [b""]}), id="empty bytes"),
            pytest.param(msgpack.packb({"a": msgpack.ExtType(5, b"x")}), id="extension"),
            pytest.param(msgpack.packb({"a": msgpack.Timestamp(5)}), id="timestamp"),
            pytest.param(msgpack.packb({"a": float("nan")}), id="NaN"),
            pytest.param(msgpack.packb({"a": [float("-inf")]}), id="infinity"),
            pytest.param(b"\x81\xa1\xff\xc0", id="invalid UTF-8"),
            pytest.param(b"\x81\xa1a\xa3\xed\xa0\x80", id="lone surrogate"),
            pytest.param(b"\xdd\xff\xff\xff\xff", id="declared list of 2**32"),
            pytest.param(b"\xdf\xff\xff\xff\xff", id="declared map of 2**32"),
            pytest.param(b"\xdb\xff\xff\xff\xff", id="declared string of 2**32"),
            pytest.param(msgpack.packb({"a": [0] * (MAX_PACKED_ITEMS + 1)}), id="list past the limit"),
            pytest.param(b"\x91" * 100_000 + b"\xc0", id="nested past the decoder's stack"),
            pytest.param(msgpack.packb(nested(MAX_DEPTH + 1)), id="nested past the limit"),
        ],
    )
    def test_refuses_a_broken_frame(self, frame: bytes) -> None:
        with pytest.raises(ProtocolError) as caught:
            MSGPACK.decode(frame)
        assert caught.value.close_code is CloseCode.BAD_FRAME

    def test_refuses_a_text_frame(self) -> None:
        with pytest.raises(ProtocolError, match="text frame"):
            MSGPACK.decode("{}")

    def test_takes_nesting_up_to_the_limit(self) -> None:
        assert MSGPACK.decode(msgpack.packb(nested(MAX_DEPTH))) == nested(MAX_DEPTH)

    def test_takes_a_list_up_to_the_limit(self) -> None:
        assert MSGPACK.decode(msgpack.packb({"a": [0] * MAX_PACKED_ITEMS})) == {"a": [0] * MAX_PACKED_ITEMS}


class TestNegotiation:
    def test_gives_json_when_nothing_is_offered(self) -> None:
        assert negotiate([]) == (JSON, None)

    @pytest.mark.parametrize("name", list(CODECS))
    def test_gives_the_codec_that_is_offered(self, name: str) -> None:
        assert negotiate([name]) == (CODECS[name], name)

    def test_follows_the_order_of_the_client(self) -> None:
        assert negotiate(["sync.v2", "sync.v1.msgpack", "sync.v1.json"]) == (MSGPACK, "sync.v1.msgpack")

    def test_names_no_subprotocol_when_none_is_known(self) -> None:
        assert negotiate(["chat", "SYNC.V1.JSON"]) == (JSON, None)


class TestACodec:
    def test_says_which_kind_of_frame_it_takes(self) -> None:
        assert (JSON.opcode_is_text, MSGPACK.opcode_is_text) == (True, False)
