"""The background job that trims what is older than its retention: the log, tombstones, verdicts, old syncs."""

import asyncio
from functools import partial

import structlog

from sync_server import metrics
from sync_server.clock import now_ms
from sync_server.committer import Committer
from sync_server.errors import CommandError
from sync_server.feed import Feed
from sync_server.orders import Committed
from sync_server.stores.writer import Writer
from sync_server.types import Millis, Seq

DAY_MS = 86_400_000
CHUNK = 2_000
"""Rows in one transaction, so that operations never wait long behind the job."""
_log = structlog.get_logger(__name__)


class Trimmer:
    """Runs every `interval_s`; each of its log lines carries `job=trim`.

    Args:
        retention_days: of the log and of tombstones. Cursors from before are answered with a reset (promise P12).
        verdict_retention_days: of verdicts, and so of harmless resends; with them go settled conflicts and old
            syncs, ended or abandoned.
    """

    def __init__(
        self, feed: Feed, committer: Committer, *, retention_days: int, verdict_retention_days: int, interval_s: float
    ) -> None:
        self._feed = feed
        self._committer = committer
        self._retention_ms = retention_days * DAY_MS
        self._verdict_retention_ms = verdict_retention_days * DAY_MS
        self._interval_s = interval_s

    async def run(self) -> None:
        log = _log.bind(job="trim")
        while True:
            try:
                removed = await self.trim(now_ms())
                log.info("trimmed", changes=removed, floor_seq=self._feed.head.floor_seq)
            except CommandError as error:
                log.warning("trim_failed", reason=error.message)
            await asyncio.sleep(self._interval_s)

    async def trim(self, now: Millis) -> int:
        """Trim everything that is too old at `now`; returns how many changes left the log."""
        removed = await self._trim_log(Millis(now - self._retention_ms))
        await self._trim_verdicts(Millis(now - self._verdict_retention_ms))
        return removed

    async def _trim_log(self, before: Millis) -> int:
        until = await self._feed.read(lambda reader: reader.seq_before(before))
        removed = 0
        while self._feed.head.floor_seq < until:
            count, floor = await self._committer.perform(lambda writer, _: (_trim_changes(writer, until), Committed()))
            self._feed.raise_floor(floor)
            metrics.TRIMMED.inc(count)
            removed += count
        return removed

    async def _trim_verdicts(self, before: Millis) -> None:
        key: tuple[str, str, str] | None = ("", "", "")
        while key is not None:
            key = await self._committer.perform(partial(_trim_decisions, before, key))
        while await self._committer.perform(
            lambda writer, _: (writer.trim_records(before=before, limit=CHUNK), Committed())
        ):
            pass


def _trim_decisions(
    before: Millis, after_key: tuple[str, str, str], writer: Writer, _now: Millis
) -> tuple[tuple[str, str, str] | None, Committed]:
    return writer.trim_decisions(before=before, after_key=after_key, limit=CHUNK), Committed()


def _trim_changes(writer: Writer, until: Seq) -> tuple[int, Seq]:
    count = writer.trim_changes(until=until, limit=CHUNK)
    return count, writer.head().floor_seq
