"""Bytes become one typed map once, and a map becomes bytes once: JSON in text frames, MessagePack in binary frames.

Both codecs carry the same maps: what one of them decodes, the other can encode. Whatever a peer sends, `decode`
answers with a map or a `ProtocolError`, in time and memory bounded by the length of the frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from math import isfinite
from typing import Any, ClassVar, NoReturn, cast

import msgpack  # type: ignore[import-untyped]  # ships no types
import orjson

from sync_server.errors import CloseCode, ProtocolError
from sync_server.types import Json

MAX_DEPTH = 64
"""Objects and lists inside each other in one message; orjson writes at most 254, so that replies always fit."""
MAX_PACKED_ITEMS = 4_096
"""Items of one MessagePack list. The decoder reserves a list's declared length before it has seen the items."""


class JsonText(str):
    """Stored JSON text of one value, spliced into a frame as it is: it is neither parsed nor checked again.

    Only text that this server wrote itself may be wrapped; foreign text could end the frame early.

    >>> JSON.encode({"data": JsonText('{"title":"x"}')})
    b'{"data":{"title":"x"}}'
    """

    __slots__ = ()


class Codec(ABC):
    """One way to write a message: how it is called in the opening handshake, and the kind of frame it travels in.

    Attributes:
        subprotocol: the name in `Sec-WebSocket-Protocol`.
        opcode_is_text: the frame kind; the other kind is refused.
    """

    __slots__ = ()
    subprotocol: ClassVar[str]
    opcode_is_text: ClassVar[bool]

    @abstractmethod
    def encode(self, message: Mapping[str, object]) -> bytes:
        """The frame's payload; UTF-8 where frames are text.

        Keys are plain `str`; values are JSON's, enums and `JsonText`.

        Raises:
            TypeError: the message holds something else: a mistake of the server, not of the peer.
        """

    @abstractmethod
    def decode(self, frame: str | bytes) -> Json:
        """The one map in a frame, with `str` keys, finite numbers and at most `MAX_DEPTH` levels.

        Of a repeated key the last value counts. Integers past 64 bits become floats in JSON and are refused in
        MessagePack; no field takes either.

        Raises:
            ProtocolError: with BAD_FRAME; the text never repeats what was in the frame.
        """


class JsonCodec(Codec):
    __slots__ = ()
    subprotocol = "sync.v1.json"
    opcode_is_text = True

    def encode(self, message: Mapping[str, object]) -> bytes:
        return orjson.dumps(message, _splice, orjson.OPT_PASSTHROUGH_SUBCLASS)

    def decode(self, frame: str | bytes) -> Json:
        if not isinstance(frame, str):
            _refuse("This connection speaks JSON in text frames; a binary frame came.")
        try:
            value = orjson.loads(frame)
        except ValueError as error:
            _refuse(f"The frame is not JSON: {_json_problem(error)}.")
        if type(value) is not dict:
            _refuse("The frame is JSON, but no object.")
        if frame.count("{") + frame.count("[") > MAX_DEPTH:
            _check_depth(value)
        return cast("Json", value)


class MsgpackCodec(Codec):
    __slots__ = ()
    subprotocol = "sync.v1.msgpack"
    opcode_is_text = False

    def encode(self, message: Mapping[str, object]) -> bytes:
        return cast("bytes", msgpack.packb(message, default=_unwrap, strict_types=True))

    def decode(self, frame: str | bytes) -> Json:
        if isinstance(frame, str):
            _refuse("This connection speaks MessagePack in binary frames; a text frame came.")
        try:
            value = msgpack.unpackb(frame, strict_map_key=True, max_array_len=MAX_PACKED_ITEMS)
        except ValueError:
            _refuse("The frame is not one whole MessagePack value of maps, lists and scalars.")
        if type(value) is not dict:
            _refuse("The frame is MessagePack, but no map.")
        _check_values(value)
        return cast("Json", value)


JSON = JsonCodec()
MSGPACK = MsgpackCodec()
CODECS: Mapping[str, Codec] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}


def negotiate(offered: Sequence[str]) -> tuple[Codec, str | None]:
    """The codec of a new connection and the subprotocol to name when it is accepted.

    The client's first known offer wins. With none offered, or none known, it is JSON and no subprotocol is named: a
    tool that sends none works, and a browser that insists on an unknown one ends the connection itself (WHATWG
    WebSockets, "establish a WebSocket connection").

    >>> negotiate(["sync.v9", "sync.v1.msgpack"])[1], negotiate(["chat"])[1]
    ('sync.v1.msgpack', None)
    """
    for name in offered:
        codec = CODECS.get(name)
        if codec is not None:
            return codec, name
    return JSON, None


def _splice(value: object) -> orjson.Fragment:
    if type(value) is JsonText:
        return orjson.Fragment(value.encode())
    raise TypeError


def _unwrap(value: object) -> Any:
    if type(value) is JsonText:
        return orjson.loads(value.encode())
    if isinstance(value, Enum):
        return value.value
    raise TypeError


def _json_problem(error: ValueError) -> str:
    if isinstance(error, orjson.JSONDecodeError):
        return f"{error.msg.partition(':')[0]} at character {error.pos}"
    return "it cannot be read"


def _check_depth(message: dict[str, Any]) -> None:
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if type(child) is dict or type(child) is list]
        if not level:
            return
    _refuse(f"The message is nested deeper than {MAX_DEPTH} levels.")


def _check_values(message: dict[str, Any]) -> None:
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if type(node) is dict and not _KEYS.issuperset(map(type, node)):
                _refuse("A map's keys are strings.")
            kinds = set(map(type, _children(node)))
            if not kinds <= _KINDS or (float in kinds and not _is_finite(node)):
                _refuse("A value is null, a boolean, a finite number, a string, a list or a map.")
            if dict in kinds or list in kinds:
                below += [child for child in _children(node) if type(child) is dict or type(child) is list]
        if not below:
            return
        level = below
    _refuse(f"The message is nested deeper than {MAX_DEPTH} levels.")


def _is_finite(node: Any) -> bool:
    return all(isfinite(child) for child in _children(node) if type(child) is float)


def _children(node: Any) -> Any:
    return node.values() if type(node) is dict else node


_KEYS = frozenset({str})
_KINDS = frozenset({str, int, bool, float, type(None), dict, list})


def _refuse(problem: str) -> NoReturn:
    raise ProtocolError(CloseCode.BAD_FRAME, problem) from None
