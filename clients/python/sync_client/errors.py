"""What can go wrong for the person who uses the client; everything else is handled and shown in the status."""


class SyncClientError(Exception):
    """Base of what this package raises."""


class InvalidInputError(SyncClientError, ValueError):
    """An argument cannot be used; nothing was written.

    Attributes:
        field: which one.
        problem: what is wrong with it, and what to do.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


class EntityNotFoundError(SyncClientError, LookupError):
    """There is no such entity in the local store."""

    def __init__(self, entity_type: str, entity_id: str) -> None:
        super().__init__(f"there is no {entity_type} {entity_id} in the local store")


class NoLongerThereError(SyncClientError, LookupError):
    """A conflict was settled, or a quarantined operation was retried or dropped, meanwhile."""


class StoreError(SyncClientError):
    """The local store cannot be used: its text says why and what to do."""


class ClosedError(SyncClientError, RuntimeError):
    """The client is not open: use it inside `async with`."""

    def __init__(self) -> None:
        super().__init__("the client is not open; use it inside `async with SyncClient(...)`")
