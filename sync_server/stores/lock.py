"""One process on one data directory: an advisory lock that dies with the process, however it dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync_server.errors import ConfigurationError


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the directory while the block runs.

    Raises:
        ConfigurationError: another process holds it.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "server.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another server uses the data directory {data_dir}; stop it or set SYNC_DATA_DIR"
            raise ConfigurationError(message) from None
        yield
