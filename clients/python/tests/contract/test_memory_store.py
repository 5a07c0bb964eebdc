"""The store in memory keeps the contract."""

import pytest
from sync_client.stores.memory import MemoryStore
from sync_client.stores.port import Store

from .store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> Store:
        return MemoryStore()
