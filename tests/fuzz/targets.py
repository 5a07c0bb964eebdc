"""What is fuzzed: each target takes bytes as a peer may send them and raises only where a promise is broken."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw
from sync_client import replies, wire
from sync_client.frames import Changes, Frame, Results

from sync_server.auth import Authenticator
from sync_server.cursor import format_cursor, parse_cursor
from sync_server.errors import CommandError, ProtocolError
from sync_server.protocol.client_messages import Sync
from sync_server.protocol.codec import JSON, MSGPACK, Codec
from sync_server.protocol.machine import Deliver, Machine, MachineLimits, Send
from sync_server.protocol.operations import RefusedOperation, parse_operation, parse_operations
from sync_server.types import format_time, parse_time

LIMITS = MachineLimits()
HANDSHAKE = {"type": "handshake", "client_id": "c", "token": "good"}
KEY = "a secret for tests, at least 32 bytes long"
TOKENS = Authenticator(secret=KEY)


def server_json(data: bytes) -> None:
    _server(JSON, _text(data))


def server_msgpack(data: bytes) -> None:
    _server(MSGPACK, data)


def _server(codec: Codec, frame: str | bytes) -> None:
    """What is read can be written by both codecs and read again, and the connection has a word for it."""
    with suppress(ProtocolError):
        message = codec.decode(frame)
        assert JSON.decode(JSON.encode(message).decode()) == message
        MSGPACK.encode(message)
    machine = Machine(codec, LIMITS, now=0.0)
    hello = codec.encode(HANDSHAKE)
    machine.receive(hello.decode() if codec.opcode_is_text else hello, now=0.0)
    machine.greeted()
    machine.authenticated(expires_at=3_600.0, expires_at_text="soon", now=0.0)
    for command in machine.receive(frame, now=0.0):
        if isinstance(command, Send):
            codec.encode(command.message)
        if isinstance(command, Deliver) and isinstance(command.message, Sync):
            _operations(command.message.data.operations)


def operations(data: bytes) -> None:
    with suppress(ProtocolError):
        _operations([JSON.decode(_text(data))])


def _operations(raw: list[Any]) -> None:
    """A list is read as its members are, and each refusal can be told."""
    for one, parsed in zip(raw, parse_operations(raw), strict=True):
        alone = parse_operation(one)
        if isinstance(parsed, RefusedOperation):
            assert isinstance(alone, RefusedOperation)
            assert JSON.encode(parsed.error.details) == JSON.encode(alone.error.details)
        else:
            assert parsed == alone


def cursor(data: bytes) -> None:
    with suppress(CommandError):
        found = parse_cursor(_text(data))
        assert parse_cursor(format_cursor(found)) == found


def token(data: bytes) -> None:
    with suppress(CommandError):
        TOKENS.authenticate(_text(data), now=0)  # type: ignore[arg-type]


def moment(data: bytes) -> None:
    with suppress(ValueError):
        found = parse_time(_text(data))
        _printable(found)


def _printable(found: Any) -> None:
    try:
        text = format_time(found)
    except ValueError as error:
        raise AssertionError(found) from error
    assert parse_time(text) == found


def client_json(data: bytes) -> None:
    _client(wire.JSON, _text(data))


def client_msgpack(data: bytes) -> None:
    _client(wire.MESSAGE_PACK, data)


def _client(codec: wire.Codec, data: str | bytes) -> None:
    with suppress(wire.UnreadableFrameError):
        _stored(codec.decode(data))


def _stored(frame: Frame) -> None:
    """What a frame tells of entities is text that the store can search."""
    updates = frame.updates if isinstance(frame, Changes | Results) else []
    texts = [one.row.data for one in updates]
    if isinstance(frame, Results):
        texts += [one.data for one in frame.results]
    for text in texts:
        assert text is None or isinstance(msgspec.json.decode(text), dict)


def client_replies(data: bytes) -> None:
    """The first byte chooses the reply, as the path does."""
    body = data[1:]
    readers: list[Callable[[bytes], Any]] = [
        lambda body: _stored(replies.sync_reply(body, "m")),
        lambda body: [_stored(frame) for frame in replies.changes_reply(body)],
        replies.spaces_reply,
        replies.conflicts_reply,
        replies.checksum_reply,
        lambda body: replies.error_reply(body, "m", None),
    ]
    with suppress(wire.UnreadableFrameError):
        readers[data[0] % len(readers) if data else 0](body)


def client_entity(data: bytes) -> None:
    """The stored text of an entity means what was told."""
    try:
        told = msgspec.json.decode(data)
    except wire.UNREADABLE:
        return
    text = wire.JSON.text(Raw(data))
    assert (msgspec.json.decode(text) if text is not None else None) == told


def _text(data: bytes) -> str:
    """As a text frame has it: only what is UTF-8 comes this far."""
    return data.decode("utf-8", "replace")


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        server_json, server_msgpack, operations, cursor, token, moment, client_json, client_msgpack, client_replies,
        client_entity,
    )
}  # fmt: skip
