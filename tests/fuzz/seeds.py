"""Where the fuzzer begins: what the transcripts and the documents say, as bytes for each target."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import orjson

from rest.samples import example_of
from sync_server.auth import issue_token
from sync_server.cursor import Cursor, Scan, ScanKind, format_cursor
from sync_server.protocol.client_messages import CLIENT_MESSAGES, Operation
from sync_server.protocol.wire import wire_schemas
from sync_server.types import Millis, Seq, SpaceId, UserId
from tests.compliance.transcript import frames, load
from tests.fuzz.targets import KEY

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "compliance").glob("*.txt"))
FINDINGS = Path(__file__).parent / "findings"
"""By target: what once broke a promise."""
MOST_BYTES = 4_096
CURSORS = [
    Cursor("e1", Seq(7)),
    Cursor("e1", Seq(7), Scan(ScanKind.SNAPSHOT, None, Seq(1), Seq(5)), Seq(3)),
    Cursor("ab" * 16, Seq(10**18 - 1), Scan(ScanKind.REVOKED, SpaceId("u-1"), Seq(0), Seq(9))),
]
MOMENTS = ["2024-01-10T10:00:00Z", "2024-01-10T10:00:00.120+05:30", "0001-01-01", "9999-12-31T23:59:59.999Z"]


def lines(verb: str) -> Iterator[str]:
    """What follows a verb in all transcripts."""
    for path in TRANSCRIPTS:
        for transcript in load(path):
            yield from (text.removeprefix(f"{verb} ") for _, text in transcript.lines if text.startswith(f"{verb} "))


def from_clients() -> list[bytes]:
    sent = [frame for line in lines(">") for frame in frames(line)[:1]]
    found = [frame.encode() if isinstance(frame, str) else frame for frame in sent]
    return [frame for frame in dict.fromkeys(found) if len(frame) <= MOST_BYTES]


@cache
def from_servers() -> list[bytes]:
    schemas = wire_schemas()
    examples = [example_of(schema, dict(schemas.definitions)) for schema in schemas.server.values()]
    return list(dict.fromkeys([*(line.encode() for line in lines("<")), *map(orjson.dumps, examples)]))


def packed(texts: list[bytes]) -> list[bytes]:
    """The same in MessagePack, of those that are JSON."""
    found = []
    for text in texts:
        try:
            found.append(msgpack.packb(orjson.loads(text)))
        except ValueError:
            continue
    return found


def operations() -> list[bytes]:
    requests = [parsed for text in from_clients() if isinstance(parsed := _json(text), dict)]
    lists = [one["data"].get("operations") for one in requests if isinstance(one.get("data"), dict)]
    return [orjson.dumps(one) for some in lists if isinstance(some, list) for one in some if isinstance(one, dict)]


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def replies() -> list[bytes]:
    examples = [example for text in from_servers() if isinstance(example := orjson.loads(text), dict)]
    bodies = [orjson.dumps({"success": True, "data": one.get("data", one)}) for one in examples]
    return [bytes([kind]) + body for kind in range(6) for body in bodies[-15:]]


def seeds(target: str) -> list[bytes]:
    """The beginnings of a target, with everything that was ever found."""
    return [*_BEGINNINGS[target](), *(path.read_bytes() for path in sorted((FINDINGS / target).glob("*")))]


_BEGINNINGS: Mapping[str, Callable[[], list[bytes]]] = {
    "server_json": from_clients,
    "server_msgpack": lambda: packed(from_clients()),
    "operations": operations,
    "cursor": lambda: [format_cursor(one).encode() for one in CURSORS],
    "token": lambda: [issue_token(KEY, UserId("1"), ttl_s=60, now=Millis(0)).encode()],
    "moment": lambda: [text.encode() for text in MOMENTS],
    "client_json": from_servers,
    "client_msgpack": lambda: packed(from_servers()),
    "client_replies": replies,
    "client_entity": lambda: [*from_servers(), b'{"t\\u0069tle": "\\u5b57", "n": 1e3}'],
}


def words() -> list[str]:
    """What the protocol calls things, for the fuzzer's dictionary."""
    models = [*CLIENT_MESSAGES.values(), Operation]
    schemas = wire_schemas()
    shapes = [*schemas.server.values(), *schemas.client.values(), *schemas.definitions.values()]
    names = {name for model in models for name in model.model_fields}
    names |= {name for shape in shapes for name in shape.get("properties", {})}
    enums = {str(value) for shape in shapes for value in shape.get("enum", [])}
    return sorted(names | enums | set(CLIENT_MESSAGES) | set(schemas.server))
