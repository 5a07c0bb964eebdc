"""Which of the processes on one store holds the connection: whoever holds a lock beside the file, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout


class Lease:
    """A lock on `<store>.lock`; a store without a file needs none."""

    def __init__(self, store: Path | None) -> None:
        self._lock = FileLock(f"{store}.lock", thread_local=False) if store is not None else None
        self._is_held = False

    def acquire(self) -> bool:
        """Whether this process is the one, from now on until it lets go or ends."""
        if not self._is_held:
            try:
                if self._lock is not None:
                    self._lock.acquire(blocking=False)
                self._is_held = True
            except Timeout:
                return False
        return True

    def is_free(self) -> bool:
        """Whether no other process holds it at this moment."""
        was_held = self._is_held
        free = self.acquire()
        if free and not was_held:
            self.release()
        return free

    def release(self) -> None:
        if self._is_held and self._lock is not None:
            self._lock.release()
        self._is_held = False
