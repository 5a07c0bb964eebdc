"""When the store is compared with what the server says it must have: the receipts that still hold wait here.

A comparison reads every row of a space, as only that finds what was damaged; so it is not done at each receipt.

 R1 A receipt is compared only if no change of its space that is not in it was told since.
 R2 Nothing is compared while an operation waits for its end: what it did may be in the receipt and not in the store.
 R3 After a first sync and a reset it is compared at once, else after a moment of rest and a minute after the last time.
 R4 What a reply says is compared only over a WebSocket: over HTTP it overtakes the changes that a poll waits for.
"""

from collections.abc import Iterable

from sync_client.frames import Receipt, Update

REST_S = 1.0
"""How long after a receipt the store is compared, so that what is on its way arrives."""
COMPARE_S = 60.0
"""The least time between two comparisons that nothing but receipts asks for."""


class Receipts:
    """What was told on the present link and not compared yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, Receipt] = {}
        self._told_at = 0.0
        self._compared_at: float | None = None
        self._is_urgent = False

    def begin(self) -> None:
        """A new connection: what the old one told holds no more."""
        self._waiting, self._is_urgent = {}, False

    def told(self, receipts: Iterable[Receipt], now: float, *, is_urgent: bool = False) -> None:
        """Keep these; of two of a space the newer one.

        Args:
            is_urgent: all rows came anew and were never compared.
        """
        for receipt in receipts:
            known = self._waiting.get(receipt.space_id)
            if known is None or known.seq <= receipt.seq:
                self._waiting[receipt.space_id] = receipt
                self._told_at = now
        self._is_urgent |= is_urgent

    def replied(self, receipts: Iterable[Receipt], now: float, *, is_in_order: bool) -> None:
        """Keep what a reply says, or, where the changes before it may come after it, forget what it makes untrue."""
        if is_in_order:
            self.told(receipts, now)
        else:
            for receipt in receipts:
                self._waiting.pop(receipt.space_id, None)

    def changed(self, updates: Iterable[Update]) -> None:
        """Forget what these changes make untrue."""
        for update in updates:
            receipt = self._waiting.get(update.row.space_id or "")
            if receipt is not None and (update.is_revoked or update.seq > receipt.seq):
                del self._waiting[receipt.space_id]

    def reset(self, space_id: str | None) -> None:
        """Forget what was told of a space, or of all of them: its rows come anew."""
        if space_id is None:
            self._waiting.clear()
        self._waiting.pop(space_id or "", None)

    @property
    def due_at(self) -> float | None:
        """When there is something to compare; None while there is nothing."""
        if not self._waiting:
            return None
        if self._is_urgent:
            return self._told_at
        again_at = self._compared_at + COMPARE_S if self._compared_at is not None else self._told_at
        return max(self._told_at + REST_S, again_at)

    def taken(self, now: float) -> tuple[Receipt, ...]:
        """Those that are to be compared now."""
        if self.due_at is None or now < self.due_at:
            return ()
        taken = tuple(self._waiting.values())
        self.begin()
        self._compared_at = now
        return taken
