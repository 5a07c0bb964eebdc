"""Receipts under every interleaving of commits, publications and reads that arrive late: what is told was so."""

from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sync_server.receipts import Receipts, StoredReceipts
from sync_server.records import Receipt
from sync_server.types import Seq, SpaceId

SPACES = [SpaceId(name) for name in "abc"]
spaces = st.sampled_from(SPACES)


class Held:
    """A wait that ends when the test says so."""

    def __await__(self) -> Generator[None]:
        yield


class ReceiptsLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.committed = [Receipt(space_id, Seq(0), 0, 0) for space_id in SPACES]
        """Every state there ever was, oldest first."""
        self.unpublished: deque[Receipt] = deque()
        self.reads: deque[Coroutine[Any, Any, None]] = deque()
        self.head = self.published = Seq(0)
        self.receipts = Receipts(Seq(0), self.load, capacity=2)

    def at(self, seq: int) -> dict[SpaceId, Receipt]:
        """How things stood at a position."""
        return {one.space_id: one for one in self.committed if one.seq <= seq}

    async def load(self, space_ids: list[SpaceId]) -> StoredReceipts:
        now = self.at(self.head)
        read = StoredReceipts(self.head, {space_id: now[space_id] for space_id in space_ids})
        await Held()
        return read

    @rule(space_id=spaces)
    def commit(self, space_id: SpaceId) -> None:
        self.head = Seq(self.head + 1)
        receipt = Receipt(space_id, self.head, self.head * 1_000, self.head)
        self.committed.append(receipt)
        self.unpublished.append(receipt)

    @precondition(lambda self: self.unpublished)
    @rule()
    def publish(self) -> None:
        receipt = self.unpublished.popleft()
        self.receipts.take([receipt])
        self.published = receipt.seq

    @rule(some=st.lists(spaces, min_size=1, unique=True))
    def read(self, some: list[SpaceId]) -> None:
        self.reads.append(self.receipts.load(some))
        self.go_on()

    @precondition(lambda self: self.reads)
    @rule()
    def arrive(self) -> None:
        self.go_on()

    def go_on(self) -> None:
        """Let the oldest read take its next step: to the database, or from there."""
        try:
            self.reads[0].send(None)
            self.reads.rotate(-1)
        except StopIteration:
            self.reads.popleft()

    @invariant()
    def what_is_told_was_so(self) -> None:
        for seq in range(max(0, self.published - 3), self.head + 1):
            told = self.receipts.at(Seq(seq), SPACES, head_seq=self.published)
            assert all(self.at(seq)[one.space_id] == one for one in told)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.receipts._known) <= 2

    def teardown(self) -> None:
        for read in self.reads:
            read.close()


TestReceiptsLaws = ReceiptsLaws.TestCase
