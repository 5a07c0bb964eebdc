"""Planted bugs: each breaks a promise in the way that servers of this kind are known to break it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from sync_client import replica
from sync_client.stores.memory import MemoryTables

from sync_server import feed
from sync_server.conflict import decide
from sync_server.conflict.model import Outcome, Rule
from sync_server.feed import Feed
from sync_server.handlers import entities
from sync_server.hub import Hub, _Round
from sync_server.orders import Batch, Committed
from sync_server.records import Update
from sync_server.round import Round
from sync_server.stores.log_reader import LogReader
from sync_server.testing import servers
from sync_server.testing.plan import Choice
from sync_server.testing.servers import SimulatedServer, SteppedCommitter
from sync_server.types import ClientId, OperationType, Role, Verdict

Patch = Callable[[], AbstractContextManager[object]]


class Mutant(NamedTuple):
    """
    Attributes:
        breaks: the promise that is found broken.
        faults: what has to go wrong for it to show.
        plain: whether clients of the T3 document are needed.
    """

    name: str
    plant: Patch
    breaks: str
    acts: tuple[Choice, ...]
    faults: tuple[Choice, ...]
    recent: int = 10_000
    plain: int = 0
    size: int = 14


SEVERAL = (Choice("create", 1), Choice("several", 3))
WRITES = (Choice("create", 3), Choice("update", 5), Choice("delete", 1))
LATE_WRITES = (Choice("create", 2), Choice("update", 4), Choice("update_late", 8))


@contextmanager
def acknowledges_before_commit() -> Iterator[None]:
    """What the last transaction wrote is not yet on the disk when it is acknowledged."""
    kept: dict[SimulatedServer, bytes] = {}
    write, killed = servers._FailingStore.write, SimulatedServer._was_killed

    @contextmanager
    def unsynced(store: Any) -> Iterator[Any]:
        kept[store._server] = store._server.back_up().read_bytes()
        with write(store) as writer:
            yield writer

    def lost(server: SimulatedServer) -> None:
        killed(server)
        if server in kept:
            store, server._store = server._store, None
            assert store is not None
            store.close()
            for suffix in ("-wal", "-shm"):
                Path(f"{server._path}{suffix}").unlink(missing_ok=True)
            server._path.write_bytes(kept[server])

    with patch.object(servers._FailingStore, "write", unsynced), patch.object(SimulatedServer, "_was_killed", lost):
        yield


@contextmanager
def publishes_before_commit() -> Iterator[None]:
    run = Round.run

    def hasty(current: Round, batches: Sequence[Batch]) -> Any:
        results = run(current, batches)
        hub = hubs[-1]
        hub._rounds.append(_Round(current.committed.updates, (), ()))
        hub._published.set()
        return results

    hubs: list[Hub] = []
    init = Hub.__init__

    def known(hub: Hub, *args: Any, **options: Any) -> None:
        init(hub, *args, **options)
        hubs.append(hub)

    with patch.object(Round, "run", hasty), patch.object(Hub, "__init__", known):
        yield


@contextmanager
def skips_a_seq() -> Iterator[None]:
    broadcast = Hub._broadcast

    async def some(hub: Hub, space_id: Any, updates: list[Update]) -> None:
        await broadcast(hub, space_id, [update for update in updates if update.seq % 3])

    with patch.object(Hub, "_broadcast", some):
        yield


@contextmanager
def tells_newest_states_alone() -> Iterator[None]:
    """Of two changes of an entity in one round, everybody is told the second alone, and not who lags only."""
    broadcast = Hub._broadcast

    async def newest(hub: Hub, space_id: Any, updates: list[Update]) -> None:
        last = {(update.entity_type, update.entity_id): update for update in updates}
        await broadcast(hub, space_id, [update for update in updates if update in last.values()])

    with patch.object(Hub, "_broadcast", newest):
        yield


@contextmanager
def drops_on_overflow() -> Iterator[None]:
    push = Hub._push

    def dropped(hub: Hub, subscriber: Any, frames: Any, seq: Any) -> int:
        if frames is not None and subscriber.socket.congested:
            subscriber.position = seq
            return 0
        return push(hub, subscriber, frames, seq)

    with patch.object(Hub, "_push", dropped):
        yield


@contextmanager
def forgets_whose_operation_it_is() -> Iterator[None]:
    """Two clients that number their operations from one are taken for one."""
    run = Round.run

    def mixed_up(current: Round, batches: Sequence[Batch]) -> Any:
        return run(current, [batch._replace(client_id=ClientId("all")) for batch in batches])

    with patch.object(Round, "run", mixed_up):
        yield


@contextmanager
def goes_by_timestamps() -> Iterator[None]:
    """What was written in the same moment as the last change that somebody has is not after it."""
    updates = LogReader.updates

    def later(reader: LogReader, scans: Any, **options: Any) -> list[Update]:
        scans = list(scans)
        position = min((scan.after for scan in scans), default=0)
        known = reader._rows("SELECT timestamp FROM changes WHERE seq = ?", (position,))
        moment = max((row[0] for row in known), default=0)
        after = {row[0] for row in reader._rows("SELECT seq FROM changes WHERE timestamp > ?", (moment,))}
        return [update for update in updates(reader, scans, **options) if update.seq in after]

    with patch.object(LogReader, "updates", later):
        yield


@contextmanager
def forgets_the_horizon() -> Iterator[None]:
    anchored = feed._anchored

    def covered(cursor: Any, head: Any) -> Any:
        return anchored(cursor, head._replace(floor_seq=0))

    with patch.object(feed, "_anchored", covered):
        yield


@contextmanager
def merges_without_a_field() -> Iterator[None]:
    merged = decide._with

    def forgetful(data: Any, settlements: Any) -> Any:
        return merged(data, [one for one in settlements if one.name != "content"])

    with patch.object(decide, "_with", forgetful), patch.object(decide, "_submitted", lambda *_: {}):
        yield


@contextmanager
def raises_the_dead() -> Iterator[None]:
    """A snapshot tells what was deleted as if it lived."""
    snapshot = LogReader.snapshot

    class Undead:
        def __init__(self, reader: LogReader) -> None:
            self._reader = reader

        def _rows(self, sql: str, parameters: Any) -> Any:
            return self._reader._rows(sql.replace("AND e.deleted = 0", "").replace("e.deleted,", "0,"), parameters)

    def with_dead(reader: LogReader, scans: Any, **options: Any) -> Any:
        return snapshot(Undead(reader), scans, **options)  # type: ignore[arg-type]

    with patch.object(LogReader, "snapshot", with_dead):
        yield


@contextmanager
def pushes_to_the_revoked() -> Iterator[None]:
    changed = Hub._rights_changed

    def granted_only(hub: Hub, user_id: Any, update: Update) -> None:
        if update.data is not None:
            changed(hub, user_id, update)

    with patch.object(Hub, "_rights_changed", granted_only):
        yield


@contextmanager
def loses_what_was_cancelled() -> Iterator[None]:
    """What was committed for somebody who has gone meanwhile is not published."""
    deliver = SteppedCommitter._deliver

    def delivered(committer: Any, jobs: Sequence[Any], results: Any, committed: Sequence[Committed]) -> None:
        hub = committer._publish.__self__
        batches = [job.work for job in jobs if isinstance(job.work, Batch)]
        is_gone = batches and not any(
            subscriber.viewer.client_id == batch.client_id
            for batch in batches
            for subscriber in hub.connections_of(batch.user_id)
        )
        if is_gone:
            for made in committed:
                if made.updates:
                    hub._feed.advance(made.updates)
            committed = []
        deliver(committer, jobs, results, committed)

    with patch.object(SteppedCommitter, "_deliver", delivered):
        yield


@contextmanager
def passes_over_what_is_overtaken() -> Iterator[None]:
    """Who hears of a change takes it for the next one."""

    def next_one(of: Feed, updates: Sequence[Update], receipts: Any = ()) -> bool:
        of.recent.extend(updates)
        of._receipts.take(receipts)
        of.head = of.head._replace(head_seq=updates[-1].seq)
        return True

    with patch.object(Feed, "advance", next_one):
        yield


@contextmanager
def ignores_the_epoch() -> Iterator[None]:
    anchored = feed._anchored

    def covered(cursor: Any, head: Any) -> Any:
        return anchored(cursor._replace(epoch=head.epoch, seq=min(cursor.seq, head.head_seq)), head)

    with patch.object(feed, "_anchored", covered):
        yield


@contextmanager
def counts_on_after_a_restore() -> Iterator[None]:
    """The number of a version that a backup took back is given to another one."""
    head = LogReader.head
    with patch.object(LogReader, "head", lambda reader: head(reader)._replace(version_floor=0)):
        yield


@contextmanager
def writes_over_what_nobody_saw() -> Iterator[None]:
    """The last one wins, whatever it is based on, and no conflict says so."""

    def on_top(case: Any, entity: Any) -> Outcome:
        return decide._update_on_top(case, entity, Rule.SAME_VERSION)

    with patch.object(decide, "_update_stale", on_top):
        yield


@contextmanager
def only_says_that_it_deletes() -> Iterator[None]:
    done = Outcome(Verdict.APPLIED, Rule.NO_CHANGE, deleted=True)
    with patch.dict(decide._OF_TYPE, {OperationType.DELETE: lambda _: done}):
        yield


@contextmanager
def lets_viewers_write() -> Iterator[None]:
    role_of = Round._role

    def generous(current: Round, batch: Batch, space_id: Any) -> Role | None:
        return Role.EDITOR if role_of(current, batch, space_id) is not None else None

    with patch.object(Round, "_role", generous):
        yield


@contextmanager
def shows_entities_to_anybody() -> Iterator[None]:
    """Who knows the id of an entity is told it over HTTP, whoever they are."""
    with patch.object(entities, "role_in", lambda *_: Role.VIEWER):
        yield


@contextmanager
def forgets_to_send_deletes() -> Iterator[None]:
    """A bug of the client: what its queue drops is never sent, and nobody is told."""
    enqueue = MemoryTables.enqueue

    def some(tables: MemoryTables, operations: Any) -> None:
        enqueue(tables, [one for one in operations if one.operation_type != "delete"])

    with patch.object(MemoryTables, "enqueue", some):
        yield


@contextmanager
def wipes_what_waits_at_a_reset() -> Iterator[None]:
    """A bug of the client: rows that are told anew take with them what was never sent."""
    mark = replica.mark

    def wiping(tables: Any, space_id: str | None) -> None:
        tables.dequeue([operation.operation_id for operation in tables.queue(after=0, limit=None)])
        mark(tables, space_id)

    with patch.object(replica, "mark", wiping):
        yield


KILLS, FULL_DISK, CUTS = (Choice("kill_server", 1),), (Choice("fill_disk", 1),), (Choice("cut", 1),)
OFFLINE = (Choice("go_down", 1), Choice("cut", 1))
SLOW, TRIMMED = (Choice("slow_down", 1),), (Choice("trim", 1), Choice("go_down", 3))
RIGHTS, BACKUP = (Choice("change_rights", 1),), (Choice("back_up", 1),)
BURSTS = (Choice("create", 2), Choice("update", 3), Choice("burst", 4))
DELETES, DISORDER = (Choice("create", 3), Choice("delete", 3)), (Choice("shuffle", 1),)

MUTANTS = (
    Mutant("acknowledges before commit", acknowledges_before_commit, "P1", WRITES, KILLS),
    Mutant("publishes before commit", publishes_before_commit, "P6", WRITES, FULL_DISK),
    Mutant("skips a seq", skips_a_seq, "P4", WRITES, CUTS, size=30),
    Mutant("tells newest states alone", tells_newest_states_alone, "P4", SEVERAL, CUTS),
    Mutant("drops on overflow", drops_on_overflow, "P9", BURSTS, SLOW),
    Mutant("forgets whose operation it is", forgets_whose_operation_it_is, "P2", WRITES, CUTS, plain=2),
    Mutant("goes by timestamps", goes_by_timestamps, "P9", BURSTS, OFFLINE, recent=0),
    Mutant("forgets the horizon", forgets_the_horizon, "P9", WRITES, TRIMMED, recent=0),
    Mutant("merges without a field", merges_without_a_field, "P8", LATE_WRITES, OFFLINE),
    Mutant("raises the dead", raises_the_dead, "P6", DELETES, (*RIGHTS, *BACKUP)),
    Mutant("pushes to the revoked", pushes_to_the_revoked, "P10", WRITES, RIGHTS, size=40),
    Mutant("loses what was cancelled", loses_what_was_cancelled, "P9", WRITES, OFFLINE),
    Mutant("passes over what is overtaken", passes_over_what_is_overtaken, "P4", BURSTS, DISORDER),
    Mutant("ignores the epoch", ignores_the_epoch, "P9", WRITES, BACKUP),
    Mutant("counts on after a restore", counts_on_after_a_restore, "P8", LATE_WRITES, BACKUP, plain=2, size=30),
    Mutant("writes over what nobody saw", writes_over_what_nobody_saw, "P8", LATE_WRITES, OFFLINE, size=24),
    Mutant("only says that it deletes", only_says_that_it_deletes, "P8", DELETES, CUTS),
    Mutant("lets viewers write", lets_viewers_write, "P10", WRITES, RIGHTS, size=24),
    Mutant("shows entities to anybody", shows_entities_to_anybody, "P10", WRITES, RIGHTS),
    Mutant("wipes what waits at a reset", wipes_what_waits_at_a_reset, "P8", WRITES, (*BACKUP, *OFFLINE), size=24),
    Mutant("forgets to send deletes", forgets_to_send_deletes, "P8", DELETES, CUTS),
)
