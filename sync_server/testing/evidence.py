"""What can be concluded from what the devices saw, before any promise is looked at."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from sync_client.values import Key

from sync_server.cursor import Cursor, parse_cursor
from sync_server.testing.history import Got, Granted, History, Json, Opened, Restored, Sent, Trimmed, Version, Wrote

BUFFER_BYTES = 65_536
"""What the server queues for one connection before that lags, and is told newest states later."""
_MOST_AROUND = 32
"""Bytes of a frame that are not of its message, at most."""
_MOST_BEFORE = 1_024
"""Bytes of a connection that are not of frames, at most."""
_MARK = re.compile(r"<\d+>")
_SHOWN = {"applied", "merged"}
_LATER = {"SYNC_ERROR", "RATE_LIMIT_EXCEEDED", "TIMEOUT", "NETWORK_ERROR"}


class Verdict(NamedTuple):
    """A result as a device got it; only those that say how an operation ended."""

    at: float
    device: str
    operation_id: str
    operation_type: str
    key: Key | None
    success: bool
    verdict: str | None
    version: int | None
    seq: int | None
    is_other_body: bool
    """It was refused because its id had been used for something else."""

    @property
    def has_effect(self) -> bool:
        return self.seq is not None and self.verdict in _SHOWN and self.operation_type in {"create", "update", "delete"}


class Asked(NamedTuple):
    """An operation as a device sent it for the first time."""

    at: float
    device: str
    operation: Json


class Told(NamedTuple):
    """A row as a device was told it."""

    at: float
    device: str
    key: Key
    space_id: str
    version: int
    seq: int
    data: Json | None
    is_snapshot: bool
    is_revoked: bool


class Message(NamedTuple):
    """What a link told of the log at once: resets first, then rows, then how far that is."""

    at: float
    device: str
    link: int
    resets: tuple[str | None, ...]
    rows: tuple[Told, ...]
    cursor: Cursor | None
    is_caught_up: bool


class Evidence:
    """
    Attributes:
        log: every change that the server's history has, or had when the log was forgotten, by seq.
        versions: the same by entity and number; of two with one number, the newer one.
        reborn: entities that began anew with their first version, as their tombstones had been forgotten.
        forgotten: positions of the log that may have been forgotten before anybody asked for them.
        spaces: in which space an entity is, where anybody was told.
        operations: what each device asked for, by id, as it was sent first.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.restores = list(history.of(Restored))
        trims = [one for one in history.of(Trimmed) if not self.is_lost(one.asked_at)]
        self.forgotten = [range(one.head + 1, one.floor + 1) for one in trims if one.head < one.floor]
        told = [one for trim in trims for one in trim.versions]
        told += [one for truth in history.truths.values() for one in truth.versions]
        self.log = {one.seq: one for one in sorted(told, key=lambda one: one.seq)}
        self.versions: dict[tuple[Key, int], Version] = {(one.key, one.version): one for one in self.log.values()}
        self.reborn = {one.key for one in self.log.values() if self.versions[one.key, one.version] is not one}
        self.verdicts = list(self._verdicts())
        self.messages = list(self._messages())
        self.spaces = self._spaces()
        self.operations = self._operations()

    def is_lost(self, at: float) -> bool:
        """Whether what was true at that moment may have been taken back by a backup."""
        return any(one.backup_at <= at <= one.at for one in self.restores)

    @cached_property
    def taken_back(self) -> dict[tuple[str, Key, int], Told]:
        """What devices were told of entities and is of no history any more: a backup took it back."""
        if not self.restores or self.forgotten:
            return {}
        rows = [row for message in self.messages for row in message.rows if self.is_lost(row.at) and not row.is_revoked]
        return {(row.device, row.key, row.version): row for row in rows if not self._is_kept(row)}

    def _is_kept(self, row: Told) -> bool:
        kept = self.versions.get((row.key, row.version))
        return kept is not None and kept.data == row.data

    def era(self, at: float) -> int:
        """How often a backup had been restored."""
        return sum(one.at <= at for one in self.restores)

    def is_forgotten(self, seq: int | None) -> bool:
        """Whether nobody can know what was at that position."""
        return any(seq in some for some in self.forgotten)

    def is_known(self, *, after: int, until: float = math.inf) -> bool:
        """Whether every change between two positions is in `log`."""
        return not any(some.start <= until and after < some.stop - 1 for some in self.forgotten)

    def is_taken_back(self, device: str, operations: Iterable[str]) -> bool:
        """Whether what one of these did was lost with a backup, or forgotten with the log before anybody asked."""
        named = set(operations)
        ended = [one for one in self.verdicts if one.device == device and one.operation_id in named]
        return any(self.is_lost(one.at) or self.is_forgotten(one.seq) for one in ended)

    def is_changed_again(self, change: Version, *, by: float) -> bool:
        """Whether the next change of the same entity may have been there at a moment: it had been asked for."""
        following = self._following.get(change.seq)
        if following is None:
            return False
        asked = self._asked.get((following.client_id, following.operation_id))
        return asked is None or asked.at <= by

    def may_lag(self, message: Message) -> bool:
        """Whether so much had been written to this link that its buffer may have been full."""
        return message.at >= self._lagging.get((message.device, message.link), math.inf)

    def deletes(self, device: str, key: Key) -> Iterator[str]:
        """The operations by which a device asked for the end of an entity."""
        for operation_id, asked in self.operations[device].items():
            named = asked.operation.get("entity_id")
            if asked.operation["operation_type"] == "delete" and str(named) == key.entity_id:
                yield operation_id

    def may_be_deleted(self, key: Key) -> bool:
        """Whether anybody asked for that, or settled a conflict, which may end in it."""
        asked = (one for device in self.operations for one in self.operations[device].values())
        is_settled = any(one.operation["operation_type"] == "resolve" for one in asked)
        return is_settled or any(any(self.deletes(device, key)) for device in self.operations)

    def client_id(self, device: str) -> str:
        end = self.history.ends.get(device)
        return end.client_id if end is not None else device

    def links(self) -> Iterator[list[Message]]:
        """The messages of each WebSocket, in order."""
        found: dict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in self.messages:
            found[message.device, message.link].append(message)
        yield from found.values()

    def steady_spaces(self, user: str) -> set[str]:
        """Those that the user read from the beginning to the end."""
        grants = [one for one in self.history.of(Granted) if one.user == user]
        unsteady = {one.space_id for one in grants[1:]}
        return set(self.history.truths[user].spaces) - unsteady

    def writers_spaces(self) -> Iterator[tuple[Wrote, str | None]]:
        return ((one, self.spaces.get(one.key)) for one in self.history.of(Wrote))

    # --- parts -----------------------------------------------------------------------------------------------------

    def _verdicts(self) -> Iterator[Verdict]:
        for got in self.history.of(Got):
            if got.message["type"] != "sync_response":
                continue
            for result in got.message["data"]["operation_results"]:
                if result["success"] or result.get("error_code") not in _LATER:
                    yield _verdict(got, result)

    def _messages(self) -> Iterator[Message]:
        sockets = {(one.device, one.link) for one in self.history.of(Opened) if one.kind != "http"}
        for got in self.history.of(Got):
            if (got.device, got.link) in sockets:
                message = _message(got)
                if message is not None:
                    yield message

    def _operations(self) -> dict[str, dict[str, Asked]]:
        found: dict[str, dict[str, Asked]] = defaultdict(dict)
        for sent in self.history.of(Sent):
            if sent.message["type"] == "sync":
                for operation in sent.message["data"].get("operations", ()):
                    found[sent.device].setdefault(operation["operation_id"], Asked(sent.at, sent.device, operation))
        return found

    @cached_property
    def _asked(self) -> dict[tuple[str, str], Asked]:
        """Every operation, by who asked for it and its id."""
        return {
            (self.client_id(device), operation_id): asked
            for device, operations in self.operations.items()
            for operation_id, asked in operations.items()
        }

    @cached_property
    def _following(self) -> dict[int, Version]:
        """By seq, the next change of the same entity."""
        found: dict[int, Version] = {}
        last: dict[Key, int] = {}
        for seq in sorted(self.log):
            one = self.log[seq]
            if one.key in last:
                found[last[one.key]] = one
            last[one.key] = seq
        return found

    @cached_property
    def _lagging(self) -> dict[tuple[str, int], float]:
        """When each link had heard as much as a buffer holds; bytes come in the order in which they were written."""
        found: dict[tuple[str, int], float] = {}
        written: dict[tuple[str, int], int] = defaultdict(lambda: _MOST_BEFORE)
        for got in self.history.of(Got):
            link = got.device, got.link
            written[link] += len(text_of(got.message).encode()) + _MOST_AROUND
            if written[link] > BUFFER_BYTES:
                found.setdefault(link, got.at)
        return found

    @cached_property
    def heard_marks(self) -> list[tuple[Got, frozenset[str]]]:
        """Of every message the texts in it that a person wrote."""
        return [(got, frozenset(_MARK.findall(text_of(got.message)))) for got in self.history.of(Got)]

    def _spaces(self) -> dict[Key, str]:
        spaces = {key: state.space_id for truth in self.history.truths.values() for key, state in truth.rows.items()}
        told = {row.key: row.space_id for message in self.messages for row in message.rows}
        return {key: space for key, space in {**told, **spaces}.items() if space is not None}


def mentioned(history: History) -> set[Key]:
    """Every entity that anybody wrote to or was answered about."""
    answered = {
        Key(result["entity_type"], str(result["entity_id"]))
        for got in history.of(Got)
        if got.message["type"] == "sync_response"
        for result in got.message["data"]["operation_results"]
        if result.get("entity_id") is not None
    }
    return answered | {event.key for event in history.of(Wrote)}


def disputes(history: History) -> dict[str, Key]:
    """Every conflict that anybody was told of, and what it is about."""
    found = {}
    for got in history.of(Got):
        told = [got.message["conflict"]] if got.message["type"] == "conflict" else []
        if got.message["type"] == "sync_response":
            told = [*got.message["data"]["operation_results"], *got.message["data"].get("conflicts", ())]
        for one in told:
            if one.get("conflict_id") and one.get("entity_id") is not None:
                found[one["conflict_id"]] = Key(one["entity_type"], str(one["entity_id"]))
    return found


def _verdict(got: Got, result: Json) -> Verdict:
    key = None
    if result.get("entity_type") and result.get("entity_id") is not None:
        key = Key(result["entity_type"], str(result["entity_id"]))
    return Verdict(
        got.at, got.device, result["operation_id"], result["operation_type"], key, result["success"],
        result.get("verdict"), result.get("new_version"), result.get("seq"),
        (result.get("details") or {}).get("field") == "operation_id",
    )  # fmt: skip


def _message(got: Got) -> Message | None:
    message = got.message
    rows: list[Told] = []
    resets: tuple[str | None, ...] = ()
    match message["type"]:
        case "server_update":
            rows = [_told(got, {**message, **message["update_data"]}, message)]
        case "server_updates":
            rows = [_told(got, update, message) for update in message["updates"]]
        case "reset":
            resets = (message["space_id"],)
        case "caught_up":
            pass
        case "sync_response":
            data = message["data"]
            rows = [_told(got, update, data) for update in data.get("server_updates", ())]
            # its resets are for those without a subscription; who has one is told them again, with the rows
            return Message(got.at, got.device, got.link, (), tuple(rows), None, is_caught_up=False)
        case _:
            return None
    cursor = parse_cursor(message["cursor"]) if message.get("cursor") is not None else None
    is_caught_up = message["type"] == "caught_up"
    return Message(got.at, got.device, got.link, resets, tuple(rows), cursor, is_caught_up)


def _told(got: Got, update: Json, envelope: Json) -> Told:
    data: Any = update["data"]
    if data is not None:
        data = {name: value for name, value in data.items() if name != "id"}
    key = Key(update["entity_type"], str(update["entity_id"]))
    return Told(
        got.at, got.device, key, update["space_id"], update["version"], update["seq"], data,
        envelope.get("update_type") == "snapshot", update.get("reason") == "revoked",
    )  # fmt: skip


def text_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
