"""Group commit: many requests, one transaction, on a thread of its own. An answer means fsync (promise P1)."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import structlog

from schema.registry import Registry
from sync_server import metrics
from sync_server.clock import monotonic_s, new_id, now_ms
from sync_server.errors import CommandError, ErrorCode
from sync_server.ids import IdBlocks
from sync_server.orders import Batch, Committed, Decided
from sync_server.round import Round
from sync_server.stores.sql import Store, StoreBusyError, StoreError
from sync_server.stores.writer import Writer
from sync_server.types import ConflictId, Millis, SyncId, UserId, Verdict

T = TypeVar("T")
Task = Callable[[Writer, Millis], tuple[T, Committed]]
"""Something rare that writes: returns its answer and what it changed."""

MAX_QUEUED_OPERATIONS = 200_000
LINGER_S = 0.001
"""Longest wait of a round for the clients of the round before, who send again as soon as they have their verdicts."""
_log = structlog.get_logger(__name__)


class QueuedBatch(NamedTuple):
    """A batch between its door and its verdicts, for who looks at the queue."""

    batch: Batch
    queued_at: Millis
    is_processing: bool


class _Job(NamedTuple):
    work: Batch | Task[Any]
    future: asyncio.Future[Any]
    queued_at: Millis


class Committer:
    """The only writer of the database. `start` it in the event loop that `publish` belongs to, `close` it there.

    While one round commits, the next one collects. A caller that is cancelled never cancels the commit. A database
    error on a round of several batches falls back to one transaction each, so that only the guilty batch fails; when
    no transaction can begin, none is guilty and all of them fail at once.

    Args:
        publish: called in the event loop with what each transaction committed, in seq order, before the futures of its
            batches are resolved.
    """

    def __init__(
        self, store: Store, registry: Registry, publish: Callable[[Committed], None], *, max_operations: int
    ) -> None:
        self._store = store
        self._registry = registry
        self._publish = publish
        self._max_operations = max_operations
        self._ids = IdBlocks()
        self._queue: deque[_Job] = deque()
        self._processing: list[_Job] = []
        self._queued_operations = 0
        self._wake = threading.Condition()
        self._wanted = 1
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    async def submit(self, batch: Batch) -> list[Decided]:
        """The verdicts of the batch, in the order of its operations, once they are durable.

        Raises:
            CommandError: SYNC_ERROR, retryable, when the database could not do it: nothing happened then; another code
                when the batch as a whole is refused.
        """
        if self._queued_operations + len(batch.orders) > MAX_QUEUED_OPERATIONS:
            message = "The server has too much to write right now; send this again later."
            raise CommandError(ErrorCode.SYNC_ERROR, message, retry_after_ms=1_000)
        result: list[Decided] = await self._enqueue(batch, len(batch.orders))
        return result

    async def perform(self, task: Task[T]) -> T:
        """What the task returns, once what it wrote is durable and published.

        Raises:
            CommandError: raised by the task, or SYNC_ERROR when the database could not do it.
        """
        result: T = await self._enqueue(task, 1)
        return result

    def queued(self, user_id: UserId) -> list[QueuedBatch]:
        """The user's batches that have no verdicts yet, oldest first."""
        jobs = [(job, True) for job in self._processing] + [(job, False) for job in tuple(self._queue)]
        return [
            QueuedBatch(job.work, job.queued_at, processing)
            for job, processing in jobs
            if isinstance(job.work, Batch) and job.work.user_id == user_id and not job.future.done()
        ]

    def cancel(self, user_id: UserId, sync_id: SyncId) -> int:
        """Drop the sync's batches that no round has taken yet; returns how many operations that were."""
        with self._wake:
            dropped = [
                job
                for job in self._queue
                if isinstance(job.work, Batch) and job.work.user_id == user_id and job.work.sync_id == sync_id
            ]
            for job in dropped:
                self._queue.remove(job)
        message = "This sync was cancelled before these operations were done."
        for job in dropped:
            self._settle(job, CommandError(ErrorCode.CONFLICT, message, details={"sync_id": sync_id}))
        return sum(_size(job) for job in dropped)

    async def _enqueue(self, work: Batch | Task[Any], operations: int) -> Any:
        job = _Job(work, asyncio.get_running_loop().create_future(), now_ms())
        with self._wake:
            if self._closing:
                message = "The server is stopping; send this again after reconnecting."
                raise CommandError(ErrorCode.SYNC_ERROR, message, retry_after_ms=1_000)
            self._queue.append(job)
            self._queued_operations += operations
            if len(self._queue) >= self._wanted:
                self._wake.notify()
        self._waits()
        return await job.future  # a cancelled caller cancels this future, never the commit

    def _waits(self) -> None:
        """Something was queued: for who drives the rounds without a thread."""

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        returning = 0
        while (jobs := self._take(returning)) is not None:
            returning = len(jobs)
            outcome = self._perform_round(jobs)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._deliver, jobs, *outcome)

    def _perform_round(self, jobs: list[_Job]) -> tuple[list[Any], list[Committed]]:
        started = monotonic_s()
        self._processing = jobs
        outcome = self._commit(jobs)
        metrics.ROUND_SECONDS.observe(monotonic_s() - started)
        operations = sum(map(_size, jobs))
        metrics.ROUND_OPERATIONS.observe(operations)
        for made in outcome[1]:
            if made.updates:
                _log.debug("round_committed", operations=operations, head_seq=made.updates[-1].seq)
        return outcome

    def _take(self, returning: int) -> list[_Job] | None:
        """The jobs of the next round: one task, or batches up to the limit. None once closed and empty.

        Args:
            returning: how many callers have just been answered and may be back in a moment.
        """
        with self._wake:
            expected = len(self._queue) + returning
            while not self._queue:
                if self._closing:
                    return None
                self._wake.wait()
            if len(self._queue) < expected:
                self._linger(expected)
            jobs = [self._queue.popleft()]
            operations = _size(jobs[0])
            while self._queue and isinstance(jobs[0].work, Batch) and isinstance(self._queue[0].work, Batch):
                operations += _size(self._queue[0])
                if operations > self._max_operations:
                    break
                jobs.append(self._queue.popleft())
            return jobs

    def _linger(self, expected: int) -> None:
        self._wanted = expected
        self._wake.wait(LINGER_S)
        self._wanted = 1

    def _commit(self, jobs: Sequence[_Job]) -> tuple[list[Any], list[Committed]]:
        """The result or error of each job, and what the transactions committed."""
        try:
            results, committed = self._transaction(jobs)
        except Exception as error:  # noqa: BLE001  the one place where a failed transaction becomes an answer
            self._ids.forget()
            if len(jobs) > 1 and not isinstance(error, StoreBusyError):
                return self._commit_alone(jobs)
            return [self._failure(error)] * len(jobs), []
        return results, [committed]

    def _commit_alone(self, jobs: Sequence[_Job]) -> tuple[list[Any], list[Committed]]:
        results: list[Any] = []
        committed: list[Committed] = []
        for job in jobs:
            result, made = self._commit([job])
            results += result
            committed += made
        return results, committed

    def _transaction(self, jobs: Sequence[_Job]) -> tuple[list[Any], Committed]:
        now = now_ms()
        with self._store.write() as writer:
            work = jobs[0].work
            if not isinstance(work, Batch):
                result, committed = work(writer, now)
                return [result], committed
            batches = [job.work for job in jobs if isinstance(job.work, Batch)]
            current = Round(writer, self._registry, self._ids, now=now, new_conflict_id=_new_conflict_id)
            return list(current.run(batches)), current.committed

    def _failure(self, error: Exception) -> CommandError:
        if isinstance(error, CommandError):
            return error
        metrics.ROUND_FAILURES.inc()
        if isinstance(error, StoreError):
            _log.error("round_refused", reason=str(error))
        else:
            _log.exception("round_failed", exc_info=error)
        message = "The server could not store this; nothing of it happened. Send it again."
        return CommandError(ErrorCode.SYNC_ERROR, message, retry_after_ms=1_000)

    # --- back in the event loop ------------------------------------------------------------------------------------

    def _deliver(self, jobs: Sequence[_Job], results: Sequence[Any], committed: Sequence[Committed]) -> None:
        if self._processing is jobs:  # else the next round is at work already
            self._processing = []
        for made in committed:
            self._publish(made)
        for job, result in zip(jobs, results, strict=True):
            self._settle(job, result)
        metrics.QUEUE.set(self._queued_operations)

    def _settle(self, job: _Job, result: Any) -> None:
        self._queued_operations -= _size(job)
        if isinstance(job.work, Batch) and not isinstance(result, Exception):
            _count(result)
        if job.future.done():
            return  # its caller went away meanwhile; what was committed stays
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


_OPERATIONS = {verdict: metrics.OPERATIONS.labels(verdict.value) for verdict in Verdict}


def _size(job: _Job) -> int:
    return len(job.work.orders) if isinstance(job.work, Batch) else 1


def _count(results: Sequence[Decided]) -> None:
    verdicts = Counter(result.decision.verdict for result in results if not result.duplicate)
    metrics.DUPLICATES.inc(len(results) - verdicts.total())
    for verdict, count in verdicts.items():
        _OPERATIONS[verdict].inc(count)


def _new_conflict_id() -> ConflictId:
    return ConflictId(new_id("conflict"))
