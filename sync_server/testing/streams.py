"""What a WebSocket told, frame by frame: no gap, no repetition, and at each `caught_up` just what the log says."""

from collections.abc import Iterator

from sync_client.values import Key

from sync_server.testing.evidence import Evidence, Message, Told
from sync_server.testing.history import Json, Version


def gaps(evidence: Evidence) -> Iterator[str]:
    """P4: every change of the spaces comes once, in the order of the log, or a newer one of the same entity does.

    Only who lags is told newest states, and nobody lags to whom less was written than a buffer holds. Then an older one
    need not come where a newer one was told, or may have been there; that one is looked for in its own place.
    """
    for messages in evidence.links():
        yield from _out_of_order(messages)
        yield from _missing(evidence, messages)


def wrong_states(evidence: Evidence) -> Iterator[str]:
    """P5: who has caught up has what the log makes of it, wherever they began, and so has a snapshot.

    Unknown are entities that may have changed where the log was forgotten before anybody asked for it.
    """
    yield from _wrong_snapshots(evidence)
    only = _only_sockets(evidence)
    replicas: dict[str, Replica] = {}
    for message in evidence.messages:
        if message.device not in only:
            continue
        replica = replicas.setdefault(message.device, Replica())
        replica.take(message)
        if message.is_caught_up and _is_of_now(evidence, message):
            yield from _different(evidence, message, replica)


def _wrong_snapshots(evidence: Evidence) -> Iterator[str]:
    newest = {evidence.log[seq].key: evidence.log[seq] for seq in sorted(evidence.log)}
    for user, truth in evidence.history.truths.items():
        readable = {key for key in newest if evidence.spaces.get(key) in truth.spaces}
        for key in sorted({*readable, *truth.rows}):
            change, row = newest.get(key), truth.rows.get(key)
            is_known = evidence.is_known(after=change.seq if change is not None else 0)
            if is_known and _data(change) != (row.data if row is not None else None):
                yield f"user {user} is told {key} as {row} in a snapshot, the log says {change}"


class Replica:
    """What a client keeps: of each entity the newest state, of each reset only what follows."""

    def __init__(self) -> None:
        self.rows: dict[Key, Told] = {}
        self._stale: set[Key] = set()

    def take(self, message: Message) -> None:
        for space_id in message.resets:
            self._stale |= {key for key, row in self.rows.items() if space_id in {None, row.space_id}}
        for row in message.rows:
            self._put(row)
        if message.is_caught_up:
            for key in self._stale:
                self.rows.pop(key, None)
            self._stale.clear()

    def _put(self, row: Told) -> None:
        if row.is_revoked:
            self.rows.pop(row.key, None)
        elif row.key not in self.rows or row.key in self._stale or self.rows[row.key].seq < row.seq:
            self.rows[row.key] = row
        self._stale.discard(row.key)


def _out_of_order(messages: list[Message]) -> Iterator[str]:
    last = 0
    for message in messages:
        if message.resets:
            last = 0
        for row in message.rows:
            if row.is_snapshot or row.is_revoked or message.cursor is None:
                continue  # a reply may repeat what was pushed
            if row.seq <= last:
                yield f"{row.device} was told seq {row.seq} after seq {last}"
            last = row.seq


def _missing(evidence: Evidence, messages: list[Message]) -> Iterator[str]:
    user = evidence.history.users[messages[0].device]
    if user not in evidence.history.truths:
        return
    spaces = evidence.steady_spaces(user)
    client_id = evidence.client_id(messages[0].device)
    told: set[int] = set()
    newest: dict[Key, int] = {}
    position: int | None = None
    for message in messages:
        told |= {row.seq for row in message.rows}
        newest |= {row.key: max(row.seq, newest.get(row.key, 0)) for row in message.rows}
        cursor = message.cursor
        if message.resets or cursor is None or cursor.scan is not None or not _is_of_now(evidence, message):
            position = None if message.resets else position
            continue
        is_snapshot = any(row.is_snapshot for row in message.rows)  # it leaves out what is gone, and its cursors jump
        if position is not None and not is_snapshot:
            for seq in range(position + 1, cursor.seq + 1):
                change = evidence.log.get(seq)
                if change is None or seq in told or change.client_id == client_id:
                    continue
                is_newer = newest.get(change.key, 0) > seq or evidence.is_changed_again(change, by=message.at)
                if evidence.spaces.get(change.key) in spaces and not (is_newer and evidence.may_lag(message)):
                    yield f"{message.device} stands at seq {cursor.seq} and was never told seq {seq} of {change.key}"
        position = cursor.seq


def _different(evidence: Evidence, message: Message, replica: Replica) -> Iterator[str]:
    assert message.cursor is not None  # `caught_up` has one
    spaces = evidence.steady_spaces(evidence.history.users[message.device])
    own = evidence.client_id(message.device)
    expected: dict[Key, Version] = {}
    for seq in sorted(seq for seq in evidence.log if seq <= message.cursor.seq):
        change = evidence.log[seq]
        if evidence.spaces.get(change.key) in spaces:
            expected[change.key] = change
    for key in sorted({*expected, *(key for key, row in replica.rows.items() if row.space_id in spaces)}):
        change_or_none, row = expected.get(key), replica.rows.get(key)
        if change_or_none is not None and change_or_none.client_id == own:
            continue  # its own: it came as an acknowledgement, not in the stream
        after = change_or_none.seq if change_or_none is not None else 0
        is_known = evidence.is_known(after=after, until=message.cursor.seq)
        if is_known and _data(change_or_none) != (row.data if row is not None else None):
            yield (
                f"{message.device} has caught up with seq {message.cursor.seq} at {message.at:.3f} s "
                f"and has {key} as {row}, not as {change_or_none}"
            )


def _data(change: Version | None) -> Json | None:
    return change.data if change is not None else None


def _is_of_now(evidence: Evidence, message: Message) -> bool:
    return message.cursor is not None and message.cursor.epoch == evidence.history.epoch


def _only_sockets(evidence: Evidence) -> set[str]:
    """Devices that never heard of changes over HTTP."""
    return set(evidence.history.ends) - evidence.history.http_devices
