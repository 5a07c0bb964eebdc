"""When the store is compared with what the server says it must have: the receipts that still hold wait here.

A comparison reads every row of a space, as only that finds what was damaged; so it is not done at each receipt.

 R1 A receipt is compared only if no change of its space that is not in it was told since.
 R2 Nothing is compared while an operation waits for its end: what it did may be in the receipt and not in the store.
 R3 After a first sync and a reset it is compared at once, else after a moment of rest and a minute after the last time.
 R4 A receipt that comes beside the feed, over HTTP, counts once the feed has told as much of its space.
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
        self._early: dict[str, Receipt] = {}
        self._told_at = 0.0
        self._compared_at: float | None = None
        self._is_urgent = False

    def begin(self) -> None:
        """A new connection: what the old one told holds no more."""
        self._waiting, self._early, self._is_urgent = {}, {}, False

    def told(self, receipts: Iterable[Receipt], now: float, *, is_urgent: bool = False) -> None:
        """Keep these; of two of a space the newer one.

        Args:
            is_urgent: all rows came anew and were never compared.
        """
        for receipt in receipts:
            early = self._early.get(receipt.space_id, receipt)
            known = self._waiting.get(receipt.space_id, receipt)
            if max(early.seq, known.seq) <= receipt.seq:
                self._early.pop(receipt.space_id, None)
                self._waiting[receipt.space_id] = receipt
                self._told_at = now
        self._is_urgent |= is_urgent

    def answered(self, receipts: Iterable[Receipt], now: float, *, is_in_order: bool) -> None:
        """Keep what came with the results of a request.

        Args:
            is_in_order: it came after the changes that it counts; else the feed has to tell as much first (R4).
        """
        if is_in_order:
            self.told(receipts, now)
            return
        receipts = tuple(receipts)
        if not receipts:  # what was done long ago is in the store now, and maybe in no receipt that waits
            self._waiting.clear()
        for receipt in receipts:
            known = self._waiting.get(receipt.space_id)
            if known is None or known.seq < receipt.seq:
                self._waiting.pop(receipt.space_id, None)
                self._early[receipt.space_id] = receipt

    def changed(self, updates: Iterable[Update], now: float) -> None:
        """Forget what these changes make untrue; what was early may hold with them."""
        for update in updates:
            space_id = update.row.space_id or ""
            early, receipt = self._early.get(space_id), self._waiting.get(space_id)
            if receipt is not None and (update.is_revoked or update.seq > receipt.seq):
                del self._waiting[space_id]
            if early is not None and (update.is_revoked or update.seq >= early.seq):
                del self._early[space_id]
                self.told([early] if update.seq == early.seq else [], now)

    def reset(self, space_id: str | None) -> None:
        """Forget what was told of a space, or of all of them: its rows come anew."""
        for kept in (self._waiting, self._early):
            if space_id is None:
                kept.clear()
            kept.pop(space_id or "", None)

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
        self._waiting, self._is_urgent = {}, False
        self._compared_at = now
        return taken
