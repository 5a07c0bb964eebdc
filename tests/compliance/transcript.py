"""Transcripts: conversations as text, one step a line, that any server of this protocol must be able to hold.

    > {"type": "ping"}              the client sends this text as it is
    > pad 20000 {"type": "ping"}    the same, filled with spaces to so many bytes
    > 401 times {"type": "pong"}    the same, so often at the same moment
    > bytes 82a1                    the client sends a binary frame
    < {"type": "pong"}              the server sends a message with at least these members; "*" stands for any value
    close 4502                      the server closes with this code, and says nothing before it but a goodbye
    wait 8s                         time passes; what the server says meanwhile is expected by the lines that follow
    drain                           the operator stops the server
    hang up                         the client's connection is gone
    silence                         the server has said nothing more

Whatever is said must be expected: each step that the client makes, and the end, check that nothing is left over. A
line with `#` is a comment, a line with `==` begins a transcript and names it. A token is `good`, `good for 100s` or
anything else, which is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

Said = dict[str, Any] | int
"""A message of the server, or the code it closed with."""


@dataclass(frozen=True)
class Transcript:
    name: str
    lines: tuple[tuple[int, str], ...]
    """Number in the file and text."""


class Peer(Protocol):
    """A server to talk to, in process or far away."""

    def send(self, frame: str | bytes) -> None: ...
    def wait(self, seconds: float) -> None: ...
    def drain(self) -> None: ...
    def hang_up(self) -> None: ...
    def take(self) -> Said | None:
        """What the server said next, None when it has said nothing more."""


def load(path: Path) -> Iterator[Transcript]:
    """The transcripts of a file, in order."""
    name = ""
    lines: list[tuple[int, str]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if text.startswith("=="):
            if name:
                yield Transcript(name, tuple(lines))
            name, lines = text.strip("= "), []
        elif text.strip() and not text.startswith("#"):
            lines.append((number, text.strip()))
    yield Transcript(name, tuple(lines))


def hold(transcript: Transcript, peer: Peer) -> None:
    """Holds the conversation with `peer`; an AssertionError names the line where it goes another way."""
    for number, text in (*transcript.lines, (0, "silence")):
        verb, _, rest = text.partition(" ")
        match verb:
            case "<":
                said = peer.take()
                pattern = orjson.loads(rest)
                assert agrees(pattern, said), f"line {number}: expected {pattern}, heard {said}"
            case "close":
                expect_close(int(rest), peer, number)
            case _:
                said = peer.take()
                assert said is None, f"line {number}: {said} came before {text!r}"
                act(verb, rest, peer, number)


def act(verb: str, rest: str, peer: Peer, number: int) -> None:
    match verb:
        case ">":
            for frame in frames(rest):
                peer.send(frame)
        case "wait":
            peer.wait(float(rest.removesuffix("s")))
        case "drain":
            peer.drain()
        case "hang":
            peer.hang_up()
        case "silence":
            pass
        case _:
            message = f"line {number}: no such step: {verb}"
            raise ValueError(message)


def frames(rest: str) -> list[str | bytes]:
    match rest.split(" ", 2):
        case ["bytes", *digits]:
            return [bytes.fromhex("".join(digits))]
        case ["pad", size, text]:
            return [text + " " * (int(size) - len(text.encode()))]
        case [times, "times", text]:
            return [text] * int(times)
        case _:
            return [rest]


def expect_close(code: int, peer: Peer, number: int) -> None:
    said = peer.take()
    assert agrees({"type": "goodbye", "code": code}, said), f"line {number}: expected a goodbye, heard {said}"
    said = peer.take()
    assert said == code, f"line {number}: expected a close with {code}, heard {said}"


def agrees(pattern: Any, said: Any) -> bool:
    """Whether `said` has all that the pattern asks for.

    >>> agrees({"type": "pong", "timestamp": "*"}, {"type": "pong", "timestamp": "now", "more": 1})
    True
    >>> agrees([1], [1, 2]), agrees({"a": 1}, {})
    (False, False)
    """
    if pattern == "*":
        return True
    if isinstance(pattern, dict):
        return isinstance(said, dict) and all(
            key in said and agrees(value, said[key]) for key, value in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(said, list) and len(pattern) == len(said) and all(map(agrees, pattern, said))
    return bool(pattern == said)
