"""Why a device has or lacks a row: a chain of findings that ends where the row does. Pure: see `explain_row`."""

from enum import StrEnum
from typing import NamedTuple

from sync_server.cursor import Scan, ScanKind, parse_cursor
from sync_server.records import ClientRecord, Entity, EntityKey, Filter, Head, Membership, Step
from sync_server.types import ClientId, Millis, Seq, UserId, format_time


class State(StrEnum):
    OK = "ok"
    STOPS = "stops here"
    UNKNOWN = "not known"


class Answer(StrEnum):
    """What is known of the device: only what it was told, as it acknowledges nothing."""

    TOLD = "told"
    OLDER = "told an older version"
    COMING = "will be told"
    NOT = "is not told"
    UNKNOWN = "not known"


class Finding(NamedTuple):
    about: str
    state: State
    text: str


class Facts(NamedTuple):
    """What the store has of a row and of a client.

    Attributes:
        steps: the newest changes of the entity that the log has, newest first.
        place: the user's membership of the entity's space; `placed` is the row of the log that made it, where it is
            there.
    """

    key: EntityKey
    user_id: UserId
    client_id: ClientId
    head: Head
    has_user: bool
    client: ClientRecord | None = None
    entity: Entity | None = None
    steps: tuple[Step, ...] = ()
    place: Membership | None = None
    placed: Step | None = None


class Position(NamedTuple):
    """How far a client was told, by the latest of its sync responses and the end of its last WebSocket.

    Attributes:
        gap: changes after the first and up to the second of these positions may or may not have been told: its
            WebSocket began without a cursor.
    """

    epoch: str
    seq: Seq
    wanted: Filter | None
    text: str
    scan: Scan | None = None
    gap: tuple[int, int] = (0, 0)

    def is_unsure_of(self, seq: Seq) -> bool:
        return self.gap[0] < seq <= self.gap[1]

    def waits_for(self, entity: Entity) -> bool:
        """Whether the entity comes with the rest of a snapshot that is not told to its end."""
        scan = self.scan
        if scan is None or scan.kind is not ScanKind.SNAPSHOT or scan.space_id not in {None, entity.space_id}:
            return False
        return scan.after < entity.created_seq <= scan.until


class RowExplanation(NamedTuple):
    key: EntityKey
    user_id: UserId
    client_id: ClientId
    findings: tuple[Finding, ...]
    answer: Answer
    version: int | None
    text: str
    remedy: str


class _End(NamedTuple):
    answer: Answer
    text: str
    remedy: str
    version: int | None = None


_CONNECT = "Let it connect, or sync, with the cursor that it keeps."
_NOT_KNOWN = "What the device was told is not known."
_START_OVER = (
    "If it does not show it, the loss is on its side: compare GET /api/sync/spaces/{space_id}/checksum with its own, "
    "and let it start over from a snapshot (`incremental: false`)."
)


def explain_row(facts: Facts) -> RowExplanation:
    """Follow the row on its way to the device; the last finding is where it is."""
    findings: list[Finding] = []
    end = None
    for look in (_entity, _user, _role, _client, _filter, _known, _log, _grant, _told):
        finding, end = look(facts)
        findings.append(finding)
        if end is not None:
            break
    assert end is not None  # the last look always ends
    return RowExplanation(
        facts.key, facts.user_id, facts.client_id, tuple(findings), end.answer, end.version, end.text, end.remedy
    )


def position_of(client: ClientRecord) -> Position | None:
    """None where nothing of what the client was told is stored."""
    synced = parse_cursor(client.cursor) if client.cursor is not None else None
    followed, synced_at = client.followed, client.last_sync_time
    has_left = followed is not None and followed.closed_at is not None
    if followed is not None and has_left and (synced_at is None or _at(followed.closed_at) >= synced_at):
        epoch, start, seq = followed.epoch or "", followed.start or Seq(0), followed.position or Seq(0)
        low = synced.seq if synced is not None and synced.epoch == epoch and synced.scan is None else 0
        at = format_time(_at(followed.closed_at))
        text = f"its last WebSocket was written to up to seq {seq} when it closed at {at}"
        return Position(epoch, seq, followed.wanted, text, gap=(0, 0) if followed.is_resumed else (low, start))
    if synced is None:
        return None
    at = f" at {format_time(synced_at)}" if synced_at is not None else ""
    text = f"its last sync response{at} took it to seq {synced.seq}"
    return Position(synced.epoch, synced.seq, client.asked, text, synced.scan)


# --- the findings, in their order ----------------------------------------------------------------------------------


def _entity(facts: Facts) -> tuple[Finding, _End | None]:
    entity = facts.entity
    name = f"{facts.key.entity_type} {facts.key.entity_id}"
    if entity is None:
        text = f"There is no {name}: it was never made here, or its tombstone is trimmed (the log begins at seq "
        finding = Finding("entity", State.STOPS, f"{text}{facts.head.floor_seq + 1}).")
        remedy = "Check the type and the id; the operation that should have made it: sync-server explain op ID."
        return finding, _End(Answer.NOT, f"Nobody is told {name}: there is none.", remedy)
    what = "is deleted since" if entity.deleted else "is at"
    when = f"{format_time(entity.updated_at)} by user {entity.modified_by}"
    text = f"{name} {what} version {entity.version} (seq {entity.seq}), {when}, in space {entity.space_id}."
    return Finding("entity", State.OK, text), None


def _user(facts: Facts) -> tuple[Finding, _End | None]:
    if facts.has_user:
        return Finding("user", State.OK, f"User {facts.user_id} is known."), None
    finding = Finding("user", State.STOPS, f"User {facts.user_id} never came to this server with a valid token.")
    remedy = "Look at the `sub` of the device's token; the user exists from the first request with it on."
    return finding, _End(Answer.NOT, "The device is told nothing: its user is not known.", remedy)


def _role(facts: Facts) -> tuple[Finding, _End | None]:
    assert facts.entity is not None  # the look before ends where there is none
    place, space_id = facts.place, facts.entity.space_id
    if place is None:
        finding = Finding("role", State.STOPS, f"User {facts.user_id} never had a role in space {space_id}.")
        return finding, _End(
            Answer.NOT, f"The device is not told it: its user may not read space {space_id}.", _granting(facts)
        )
    by = f" by user {facts.placed.modified_by} at {format_time(facts.placed.modified_at)}" if facts.placed else ""
    if place.role is not None:
        since = f"seq {place.seq}" if place.seq else "the beginning"
        text = f"User {facts.user_id} is {place.role} of space {space_id} since {since}{by}."
        return Finding("role", State.OK, text), None
    text = f"The role of user {facts.user_id} in space {space_id} was revoked{by} (seq {place.seq})."
    return Finding("role", State.STOPS, text), _End(Answer.NOT, _after_revocation(facts, place), _granting(facts))


def _granting(facts: Facts) -> str:
    assert facts.entity is not None  # see above
    return f"An owner grants a role: PUT /api/sync/spaces/{facts.entity.space_id}/members/{facts.user_id}."


def _after_revocation(facts: Facts, place: Membership) -> str:
    position = position_of(facts.client) if facts.client is not None else None
    if position is not None and position.epoch == facts.head.epoch and position.seq >= place.seq:
        return "The device is not told it, and was told to drop what it had of the space."
    return "The device is not told it; it may still show what it had, which it is told to drop when it next connects."


def _client(facts: Facts) -> tuple[Finding, _End | None]:
    client = facts.client
    if client is None:
        text = (
            f"Nothing is stored of a client {facts.client_id} of user {facts.user_id}. It is noted some seconds after "
            "its first handshake or sync; /changes and /events leave no trace."
        )
        finding = Finding("client", State.UNKNOWN, text)
        return finding, _End(Answer.UNKNOWN, _NOT_KNOWN, f"Check the client id. {_CONNECT}")
    position = position_of(client)
    where = position.text if position is not None else "it said hello, and how far it was told is not stored"
    return Finding("client", State.OK, f"Client {facts.client_id} is known: {where}.{_still_open(client)}"), None


def _still_open(client: ClientRecord) -> str:
    if client.followed is None:
        return ""
    if client.followed.closed_at is None:
        return " Its WebSocket may be open still; what is pushed on it is not stored before it closes."
    return " If it is connected again now, it was told what came since."


def _filter(facts: Facts) -> tuple[Finding, _End | None]:
    assert facts.client is not None  # see above
    assert facts.entity is not None
    wanted = _wanted(facts.client)
    if wanted is None:
        return Finding(
            "filter", State.UNKNOWN, "What it asked for is not stored; it is taken to follow everything."
        ), None
    for what, names, value in (
        ("space", wanted.spaces, facts.entity.space_id),
        ("entity type", wanted.entity_types, facts.key.entity_type),
    ):
        if names is not None and value not in names:
            text = f"It asks for these {what}s alone: {', '.join(names) or 'none'}; {value} is not one of them."
            remedy = (
                "Let it subscribe, or sync, without that filter, and begin with a snapshot: rows from before do not "
                "come by themselves."
            )
            return Finding("filter", State.STOPS, text), _End(
                Answer.NOT, f"The device does not ask for {what} {value}.", remedy
            )
    kinds = [
        f"{len(names)} {what}"
        for what, names in (("spaces", wanted.spaces), ("entity types", wanted.entity_types))
        if names is not None
    ]
    text = (
        f"It asks for {' and '.join(kinds)}, this row's among them."
        if kinds
        else "It asks for everything its user reads."
    )
    return Finding("filter", State.OK, text), None


def _wanted(client: ClientRecord) -> Filter | None:
    """What the client asks for on the WebSocket that may be open, else where it was told last."""
    if client.followed is not None and client.followed.closed_at is None:
        return client.followed.wanted
    position = position_of(client)
    return position.wanted if position is not None else None


def _known(facts: Facts) -> tuple[Finding, _End | None]:
    if facts.client is not None and position_of(facts.client) is not None:
        return Finding("position", State.OK, "How far it was told is stored."), None
    text = "It never synced; how far an open WebSocket is written to is in the server's memory alone until it closes."
    return Finding("position", State.UNKNOWN, text), _End(
        Answer.UNKNOWN, _NOT_KNOWN, "Ask again once it has synced or disconnected."
    )


def _log(facts: Facts) -> tuple[Finding, _End | None]:
    position, head = _position(facts), facts.head
    if not position.seq and position.epoch == head.epoch:
        return Finding("log", State.OK, "It stands at the beginning of the log."), None
    if position.epoch != head.epoch or position.seq > head.head_seq:
        text = "Its cursor is of another epoch of the log (a backup was restored): it starts over."
    elif position.seq < head.floor_seq:
        text = (
            f"Its cursor, seq {position.seq}, is below the horizon, seq {head.floor_seq}: it is reset and starts over."
        )
    else:
        where = f"between the horizon, seq {head.floor_seq}, and the head, seq {head.head_seq}"
        return Finding("log", State.OK, f"Its cursor, seq {position.seq}, is {where}."), None
    return Finding("log", State.STOPS, text), _coming(facts, "with a snapshot of everything")


def _grant(facts: Facts) -> tuple[Finding, _End | None]:
    assert facts.place is not None  # see above
    position = _position(facts)
    if position.seq < facts.place.seq:
        text = f"It has not come to its grant, seq {facts.place.seq}, yet."
        return Finding("grant", State.STOPS, text), _coming(facts, "with a snapshot of the space")
    return Finding("grant", State.OK, "It has come to its grant."), None


def _told(facts: Facts) -> tuple[Finding, _End | None]:
    entity, position = facts.entity, _position(facts)
    assert entity is not None  # see above
    own = next(iter(facts.steps), None)
    if own is not None and (own.modified_by, own.client_id) == (facts.user_id, facts.client_id):
        return Finding("cursor", State.OK, "It made the last change itself, and had it in the result."), _was_told(
            entity
        )
    if position.waits_for(entity):
        text = "It is in the middle of a snapshot, and has not come to this row."
        return Finding("cursor", State.STOPS, text), _coming(facts, "with the rest of the snapshot")
    if position.is_unsure_of(entity.seq):
        text = (
            f"Its last WebSocket began at seq {position.gap[1]} without a cursor, after the row's last change, seq "
            f"{entity.seq}: nothing says whether it had the row before."
        )
        remedy = "Let it begin with a snapshot (`incremental: false`), or sync with the cursor that it keeps."
        return Finding("cursor", State.UNKNOWN, text), _End(
            Answer.UNKNOWN, "Whether the device was told it is not known.", remedy
        )
    if entity.seq <= position.seq:
        text = f"It was told everything up to seq {position.seq}; the row's last change is seq {entity.seq}."
        return Finding("cursor", State.OK, text), _was_told(entity)
    text = f"It was told up to seq {position.seq}; the row's last change, seq {entity.seq}, comes after that."
    return Finding("cursor", State.STOPS, text), _behind(facts, entity, position)


def _was_told(entity: Entity) -> _End:
    if entity.deleted:
        return _End(
            Answer.NOT, "The device was told that it is deleted.", "To bring it back, update or create it again."
        )
    remedy = _START_OVER.format(space_id=entity.space_id)
    return _End(Answer.TOLD, f"The device was told it, as of version {entity.version}.", remedy, entity.version)


def _behind(facts: Facts, entity: Entity, position: Position) -> _End:
    if entity.created_seq > position.seq or position.is_unsure_of(entity.created_seq):
        return _coming(facts, "with the changes after its cursor")
    told = next((step.version for step in facts.steps if step.seq <= position.seq), None)
    version = f"version {told}" if told is not None else "an older version"
    what = "the delete comes" if entity.deleted else f"version {entity.version} comes"
    text = f"The device was told {version}; {what} when it next connects or catches up."
    return _End(Answer.OLDER, text, _CONNECT, told)


def _coming(facts: Facts, how: str) -> _End:
    assert facts.entity is not None  # see above
    if facts.entity.deleted:
        text = "The device is not told it, as it is deleted; if it still shows it, that ends when it next connects."
        return _End(Answer.NOT, text, _CONNECT)
    return _End(Answer.COMING, f"The device is told it when it next connects or catches up, {how}.", _CONNECT)


def _position(facts: Facts) -> Position:
    position = position_of(facts.client) if facts.client is not None else None
    assert position is not None  # `_known` ends where there is none
    return position


def _at(moment: Millis | None) -> Millis:
    return moment if moment is not None else Millis(0)
