"""What goes up and what becomes of it: one request at a time, its failures held back one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sync_client import replica
from sync_client.batches import Batch, Picker, wire_form
from sync_client.events import Apply, AskToken, Effect, Load, Loaded, Send
from sync_client.frames import Failure, Limits, Message, Result, Results, Update
from sync_client.pauses import pause
from sync_client.values import Json, Key, Operation, OperationType, Problem
from sync_client.wire import RETRYABLE

PROTOCOL_VERSION = "1.0.0"
REPLY_S = 60.0
"""How long a request may go without its reply before the link counts as broken."""


class _Request(NamedTuple):
    """What is under way.

    Attributes:
        end: the place in the queue of its last operation.
        reads: acknowledged operations, by the id under which their entity is read.
    """

    message_id: str
    end: int
    operations: list[Operation]
    reads: dict[str, Operation]
    is_atomic: bool
    deadline: float

    @property
    def concerned(self) -> list[Operation]:
        """Every operation that fails with it, whether it was sent or its entity read."""
        return [*self.operations, *self.reads.values()]


class _Hold(NamedTuple):
    """An operation that waits to be tried again."""

    until: float
    attempts: int


class Uploads:
    """The queue's way to the server.

    Args:
        client_id, new_id, chance, now_text: see `Machine`.
        synced_at: of a plain server, the time that its last reply named.
    """

    def __init__(
        self, client_id: str, *, new_id: Callable[[], str], chance: Callable[[], float], now_text: Callable[[], str],
        synced_at: str | None,
    ) -> None:  # fmt: skip
        self._client_id = client_id
        self._new_id = new_id
        self._chance = chance
        self._now_text = now_text
        self.synced_at = synced_at
        self._holds: dict[str, _Hold] = {}
        self._limit = Limits().max_operations
        self.begin(Limits(), is_plain=False)

    def begin(self, limits: Limits, *, is_plain: bool) -> None:
        """A new connection: nothing is under way on it. A plain server is asked for what was missed."""
        self._limits = limits
        self.is_plain = is_plain
        self._asks_for_more = is_plain
        self._request: _Request | None = None
        self._lost: set[Key] = set()
        """What was taken away while the request was under way: its reply may be of before, and come later."""
        self._picker: Picker | None = None
        self._look_at = 0
        self._ahead: Loaded | None = None
        """What is behind the request under way, read while the server works on it."""
        self._must_look = True
        self._pause_until = 0.0
        self._failures = 0

    @property
    def is_under_way(self) -> bool:
        return self._request is not None

    @property
    def is_at_rest(self) -> bool:
        """Every operation that it knows of has its end."""
        return self._request is None and self._picker is None and not self._must_look and not self._holds

    def is_overdue(self, now: float) -> bool:
        return self._request is not None and now >= self._request.deadline

    def deadlines(self) -> list[float]:
        """The moments at which `tick` has something to do, or the reply is overdue."""
        if self._request is not None:
            return [self._request.deadline]
        if self._picker is not None:
            return []
        moments = [hold.until for hold in self._holds.values()]
        if self._must_look:
            moments.append(self._pause_until)
        return [max(self._pause_until, min(moments))] if moments else []

    def tick(self, now: float) -> list[Effect]:
        if any(hold.until <= now for hold in self._holds.values()):
            self._must_look = True
        return self.look(now)

    def written(self, now: float) -> list[Effect]:
        self._must_look = True
        return self.look(now)

    def look(self, now: float) -> list[Effect]:
        """Look for operations to send, if there may be some, unless a request or a look is under way."""
        if self._request is not None or self._picker is not None or not self._must_look or now < self._pause_until:
            return []
        self._must_look = False
        held = {operation_id for operation_id, hold in self._holds.items() if hold.until > now}
        self._picker = Picker(held, self._limits, limit=self._limit, is_plain=self.is_plain)
        self._look_at = 0
        return [Load(0)]

    def loaded(self, loaded: Loaded, now: float, *, cursor: str | None) -> list[Effect]:
        """Send the next batch of what was found; look further where all of it has to wait."""
        picker = self._picker
        if self._request is not None and loaded.after == self._request.end:
            self._ahead = loaded
            return []
        if picker is None or loaded.after != self._look_at:
            return []
        batch = picker.batch(loaded.operations)
        if not batch.operations and batch.unsendable is None and not loaded.is_end:
            self._look_at = loaded.operations[-1].position
            return [Load(self._look_at)]
        self._picker = None
        if batch.unsendable is not None:
            self._must_look = True
            return [self._refuse(*batch.unsendable), *self.look(now)]
        if batch.operations or self._asks_for_more:
            return self._sync(batch, now, cursor)
        # what was due when the look began and is not in the queue has ended otherwise
        self._holds = {one: hold for one, hold in self._holds.items() if one in picker.held}
        return self.look(now)

    def told(self, updates: list[Update]) -> list[Update]:
        """Updates as they count: a plain server tells a `create` again, which begins no deleted entity anew."""
        if self._request is not None:
            self._lost.update(update.row.key for update in updates if update.is_revoked)
        return [update._replace(begins=False) for update in updates] if self.is_plain else updates

    # --- replies ---------------------------------------------------------------------------------------------------

    def results(self, reply: Results, now: float, *, cursor: str | None) -> list[Effect]:
        """Settle what was answered; hold back what may succeed later; go on."""
        if self.is_plain:
            reply = reply._replace(updates=self.told(reply.updates))
            self.synced_at = reply.synced_at or self.synced_at
        else:
            found = [one._replace(has_data=one.has_data and one.key not in self._lost) for one in reply.results]
            reply = reply._replace(results=found, updates=[], resets=[])  # the subscription tells what others did
        at = self._now_text()
        settle = Apply(partial(replica.settle, reply=reply, is_plain=self.is_plain, at=at))
        self._asks_for_more = self.is_plain and reply.has_more
        request = self._request
        if request is None or reply.message_id not in {request.message_id, None}:
            return [settle]
        self._request, self._failures, self._must_look = None, 0, True
        self._limit = min(self._limit * 2, self._limits.max_operations)
        following = self._hold_unfinished(request, reply.results, now)
        sent = self._go_on(reply, now, cursor)
        return [*sent, settle, *self._gone(request, reply.results), *following, *self.look(now)]

    def _go_on(self, reply: Results, now: float, cursor: str | None) -> list[Effect]:
        """Send what was read ahead before the results are stored, so that the server need not wait for that.

        Only where everything went well: what is held back, or was given another id, may concern what follows.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None or self._holds or self.is_plain or not all(result.success for result in reply.results):
            return []
        batch = Picker(set(), self._limits, limit=self._limit, is_plain=False).batch(ahead.operations)
        return self._sync(batch, now, cursor) if batch.operations else []

    def failure(self, failure: Failure, now: float) -> list[Effect] | None:
        """A request failed as a whole: later, in smaller parts, or never. None if the failure is of something else."""
        request = self._request
        if request is None or failure.message_id != request.message_id:
            return None
        self._must_look = True
        if not failure.is_retryable and request.concerned:
            effects = self.blame(failure.problem)
            return effects + self.look(now)
        self._request = self._ahead = None
        self._limit = max(1, len(request.concerned) // 2)
        self._pause_until = now + pause(self._failures, chance=self._chance(), at_least_s=failure.retry_after_s)
        self._failures += 1
        if self._failures > 1 and (len(request.concerned) == 1 or request.is_atomic):
            for operation in request.concerned:  # longer than all wait, so that others go first
                self._hold(operation.operation_id, self._pause_until)
        return [AskToken()] if failure.problem.error_code == "UNAUTHORIZED" else []

    def blame(self, problem: Problem) -> list[Effect]:
        """What the server will never take: the halves of the request are tried, down to what is at fault."""
        request, self._request, self._ahead = self._request, None, None
        if request is None:
            return []
        if len(request.concerned) > 1 and not request.is_atomic:
            self._limit = len(request.concerned) // 2
            return []
        if request.operations:
            return [self._refuse(request.operations, problem)]
        return [Apply(partial(replica.gone, key=read.key)) for read in request.reads.values()]

    def _refuse(self, operations: Sequence[Operation], problem: Problem) -> Apply:
        ids = [operation.operation_id for operation in operations]
        return Apply(partial(replica.refuse, operation_ids=ids, problem=problem, at=self._now_text()))

    def _gone(self, request: _Request, results: Sequence[Result]) -> list[Effect]:
        """What was read to see the effect of an operation, and is there no more."""
        missing = [one for one in results if one.operation_id in request.reads and not one.success]
        return [
            Apply(partial(replica.gone, key=request.reads[one.operation_id].key))
            for one in missing
            if one.problem is None or one.problem.error_code not in RETRYABLE
        ]

    def _hold_unfinished(self, request: _Request, results: Sequence[Result], now: float) -> list[Effect]:
        """Operations without a final result wait, each for itself (M7); a refused token is replaced."""
        codes = {one.operation_id: one.problem.error_code if one.problem is not None else None for one in results}
        finished = {one.operation_id for one in results if one.success or codes[one.operation_id] not in RETRYABLE}
        sent = {read_id: operation.operation_id for read_id, operation in request.reads.items()}
        sent |= {operation.operation_id: operation.operation_id for operation in request.operations}
        for sent_id, operation_id in sent.items():
            if sent_id in finished:
                self._holds.pop(operation_id, None)
            else:
                self._hold(operation_id, now)
        return [AskToken()] if "UNAUTHORIZED" in codes.values() else []

    def _hold(self, operation_id: str, now: float) -> None:
        attempts = self._holds[operation_id].attempts + 1 if operation_id in self._holds else 0
        self._holds[operation_id] = _Hold(now + pause(attempts, chance=self._chance()), attempts)

    # --- the request -----------------------------------------------------------------------------------------------

    def _sync(self, batch: Batch, now: float, cursor: str | None) -> list[Effect]:
        """Send a batch, and read what is behind it meanwhile."""
        operations, is_atomic = batch.operations, batch.is_atomic
        message_id = self._new_id()
        sent = [operation for operation in operations if operation.acknowledged is None]
        reads = {
            f"{message_id}-{number}": operation
            for number, operation in enumerate(operations)
            if operation.acknowledged is not None
        }
        end = operations[-1].position if operations else 0
        self._lost = set()
        self._request = _Request(message_id, end, sent, reads, is_atomic, now + REPLY_S)
        state: Json = {"client_id": self._client_id, "pending_operations": len(sent)}
        data: Json = {
            "request_id": message_id, "client_id": self._client_id, "client_state": state,
            "protocol_version": PROTOCOL_VERSION,
            "operations": [
                *(wire_form(operation, client_id=self._client_id) for operation in sent),
                *(self._read(operation, read_id) for read_id, operation in reads.items()),
            ],
        }  # fmt: skip
        if is_atomic:
            data["atomic"] = True
        if self.is_plain:
            state["last_sync_time"] = self.synced_at
        else:
            state["cursor"] = cursor
            data["entity_types"] = []  # the subscription tells what others did
        message: Message = {"type": "sync", "message_id": message_id, "timestamp": self._now_text(), "data": data}
        return [Send(message), *([Load(end)] if operations and not self.is_plain else [])]

    def _read(self, operation: Operation, read_id: str) -> Json:
        read = Operation(
            operation_id=read_id, operation_type=OperationType.READ, entity_type=operation.entity_type,
            entity_id=operation.entity_id, timestamp=self._now_text(),
        )  # fmt: skip
        return wire_form(read, client_id=self._client_id)
