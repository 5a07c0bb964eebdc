"""The storage port: `Tables` is one transaction, `Store` runs functions in one. Adapters pass `tests/contract`."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from sync_client.values import Conflict, Draft, Key, Operation, Quarantined, Row, Touch

T = TypeVar("T")

JOURNAL_TOUCHES = 200_000
"""Journal lines that are kept at least: who is further behind is told to query again."""

Scalar = str | int | float | bool | None


class Query(NamedTuple):
    """Which entities of a type, in which order.

    Absent and null fields are alike. Nulls come first, then false, true and numbers by their size, then text by code
    point, then lists and objects in no order that is promised. Ties, and a query without an order, go by the length of
    the id and then the id: the order of creation.
    """

    entity_type: str
    where: tuple[tuple[str, Scalar], ...] = ()
    order_by: str | None = None
    descending: bool = False
    limit: int | None = None


class Counts(NamedTuple):
    pending: int
    conflicts: int
    quarantined: int


class JournalPage(NamedTuple):
    """Journal lines after a position.

    Attributes:
        position: of the last of them, or the one asked for.
        has_gap: lines after the position are kept no more.
    """

    touches: list[Touch]
    position: int
    has_gap: bool


class Tables(Protocol):
    """Everything that is stored, inside one transaction: synchronous, and gone as a whole if the transaction fails.

    Methods that take several keys are a few statements, however many keys there are.
    """

    def value(self, name: str) -> str | None:
        """A named text, such as the cursor."""

    def save_value(self, name: str, text: str | None) -> None: ...

    def rows(self, keys: Collection[Key]) -> dict[Key, Row]: ...

    def save_rows(self, rows: Iterable[Row]) -> None:
        """Insert these, in place of those with the same keys."""

    def delete_rows(self, keys: Collection[Key]) -> None: ...

    def mark_stale(self, space_id: str | None) -> None:
        """Mark the rows of a space; None: all."""

    def stale_keys(self, *, limit: int) -> list[Key]: ...

    def versions(self, space_ids: Collection[str], *, deleted: bool = False) -> Iterable[tuple[str, Key, int]]:
        """The space, the name and the version of every row of these spaces that is not deleted, or that is; read on
        while nothing is written."""

    def drafts(self, keys: Collection[Key]) -> dict[Key, Draft]: ...

    def save_drafts(self, drafts: Iterable[Draft]) -> None: ...

    def delete_drafts(self, keys: Collection[Key]) -> None: ...

    def select(self, query: Query) -> list[Key]:
        """The entities as the application sees them: drafts in place of their rows, deleted ones left out."""

    def enqueue(self, operations: Iterable[Operation]) -> None:
        """Put these at the end of the queue."""

    def operations(self, operation_ids: Collection[str]) -> dict[str, Operation]: ...

    def pending(self, keys: Collection[Key]) -> dict[Key, list[Operation]]:
        """The queued operations of these entities, in order; entities without any are left out."""

    def queue(self, *, after: int, limit: int | None) -> list[Operation]:
        """The oldest operations behind a position."""

    def replace_operations(self, operations: Iterable[Operation]) -> None:
        """Store these in place of those with the same operation ids, where they stand in the queue."""

    def dequeue(self, operation_ids: Collection[str]) -> None: ...

    def quarantined(self) -> list[Quarantined]:
        """In the order in which they came."""

    def quarantine(self, refused: Iterable[Quarantined]) -> None: ...

    def release(self, operation_ids: Collection[str]) -> None:
        """Forget these quarantined operations."""

    def conflicts(self) -> list[Conflict]:
        """In the order in which they came."""

    def save_conflicts(self, conflicts: Iterable[Conflict]) -> None: ...

    def delete_conflicts(self, conflict_ids: Collection[str]) -> None: ...

    def aliases(self, keys: Collection[Key]) -> dict[Key, Key]:
        """What a server calls the entities that were made here under another id."""

    def save_alias(self, made: Key, named: Key) -> None: ...

    def write_journal(self, touches: Sequence[Touch]) -> None: ...

    def journal(self, *, after: int, limit: int) -> JournalPage:
        """Lines after the position; `limit` counts transactions, whose lines stay together."""

    def journal_end(self) -> int: ...

    def counts(self) -> Counts: ...


class Store(Protocol):
    """Runs functions over `Tables`, one at a time."""

    @property
    def path(self) -> Path | None:
        """The file that other processes may open as well; None where there is none."""

    async def run(self, job: Callable[[Tables], T], *, durable: bool = False, discard: bool = False) -> T:
        """Run the function in a transaction: committed when this returns, undone if the function raises.

        Args:
            durable: on the disk when this returns, so that it survives the machine and not only the process.
            discard: undo it in any case.

        Raises:
            StoreError: the store cannot be used. Whatever the function raises.
        """

    async def was_changed_elsewhere(self) -> bool:
        """Whether another process committed something since this was last asked, or since the store was opened."""

    async def close(self) -> None:
        """Finish what was begun and let go of everything; may be called again."""
