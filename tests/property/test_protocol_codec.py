"""Laws of the codecs: what is written can be read, both write the same maps, and nothing a peer sends breaks them."""

from math import isfinite
from typing import Any

import msgpack
import orjson
from hypothesis import given
from hypothesis import strategies as st

from sync_server.errors import CloseCode, ProtocolError
from sync_server.protocol.codec import JSON, MSGPACK, Codec, JsonText
from sync_server.types import Verdict

CODECS = st.sampled_from([JSON, MSGPACK])
TEXTS = st.text(max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
MAPS = st.dictionaries(TEXTS, VALUES, max_size=6)
HOSTILE = st.recursive(
    SCALARS
    | st.floats()
    | st.binary(max_size=4)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS | st.integers(0, 9) | st.binary(max_size=3), inner, max_size=4)
    ),
)


def frame_of(codec: Codec, payload: bytes) -> str | bytes:
    return payload.decode() if codec.opcode_is_text else payload


def decoded(codec: Codec, frame: str | bytes) -> dict[str, Any] | CloseCode:
    try:
        return codec.decode(frame)
    except ProtocolError as error:
        return error.close_code


def is_clean(value: Any) -> bool:
    """Whether a value is one that JSON has."""
    if isinstance(value, dict):
        return all(type(key) is str and is_clean(child) for key, child in value.items())
    if isinstance(value, list):
        return all(map(is_clean, value))
    return value is None or type(value) in {bool, int, str} or (type(value) is float and isfinite(value))


class TestTheCodecs:
    @given(codec=CODECS, message=MAPS)
    def test_read_what_they_write(self, codec: Codec, message: dict[str, Any]) -> None:
        assert codec.decode(frame_of(codec, codec.encode(message))) == message

    @given(message=MAPS)
    def test_agree(self, message: dict[str, Any]) -> None:
        assert JSON.decode(JSON.encode(message).decode()) == MSGPACK.decode(MSGPACK.encode(message))

    @given(codec=CODECS, stored=MAPS)
    def test_splice_stored_text_as_if_it_were_the_value(self, codec: Codec, stored: dict[str, Any]) -> None:
        spliced = {"verdict": Verdict.APPLIED, "data": JsonText(orjson.dumps(stored).decode())}
        plain = {"verdict": "applied", "data": stored}
        assert codec.decode(frame_of(codec, codec.encode(spliced))) == plain

    @given(codec=CODECS, message=MAPS)
    def test_can_pass_on_what_the_other_read(self, codec: Codec, message: dict[str, Any]) -> None:
        read = codec.decode(frame_of(codec, codec.encode(message)))
        assert all(other.encode(read) for other in (JSON, MSGPACK))


class TestAHostileFrame:
    @given(codec=CODECS, frame=st.binary(max_size=200) | st.text(st.characters(), max_size=200))
    def test_of_noise_is_a_map_or_a_bad_frame(self, codec: Codec, frame: str | bytes) -> None:
        result = decoded(codec, frame)
        assert result is CloseCode.BAD_FRAME or is_clean(result)

    @given(message=st.dictionaries(TEXTS, HOSTILE, max_size=4))
    def test_of_foreign_types_is_a_clean_map_or_a_bad_frame(self, message: dict[str, Any]) -> None:
        result = decoded(MSGPACK, msgpack.packb(message))
        assert result == (message if is_clean(message) else CloseCode.BAD_FRAME)

    @given(codec=CODECS, message=MAPS, data=st.data())
    def test_that_was_cut_is_refused(self, codec: Codec, message: dict[str, Any], data: st.DataObject) -> None:
        whole = codec.encode(message)
        cut = data.draw(st.integers(0, len(whole) - 1))
        part = whole[:cut]
        frame = part.decode(errors="replace") if codec.opcode_is_text else part
        assert decoded(codec, frame) is CloseCode.BAD_FRAME

    @given(text=st.text(st.characters(codec=None, categories=None), max_size=50))
    def test_with_any_code_point_never_breaks_out(self, text: str) -> None:
        result = decoded(JSON, '{"a":"' + text + '"}')
        assert result is CloseCode.BAD_FRAME or is_clean(result)
