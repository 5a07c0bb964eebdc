"""Offline-first client of the sync server.

async with SyncClient("ws://localhost:3000", token=my_token, store="notes.db") as notes:
    note = await notes.create("note", title="Shopping", content="milk")
    await notes.update(note, content="milk, eggs")
    async for change in notes.changes("note"):
        print(change.kind, change.entity)
"""

from sync_client.client import SyncClient
from sync_client.errors import (
    ClosedError,
    EntityNotFoundError,
    InvalidInputError,
    NoLongerThereError,
    StoreError,
    SyncClientError,
)
from sync_client.values import (
    Change,
    Conflict,
    Entity,
    Key,
    LinkState,
    Operation,
    Problem,
    Progress,
    Quarantined,
    Side,
    Status,
)

__all__ = [
    "Change",
    "ClosedError",
    "Conflict",
    "Entity",
    "EntityNotFoundError",
    "InvalidInputError",
    "Key",
    "LinkState",
    "NoLongerThereError",
    "Operation",
    "Problem",
    "Progress",
    "Quarantined",
    "Side",
    "Status",
    "StoreError",
    "SyncClient",
    "SyncClientError",
]
