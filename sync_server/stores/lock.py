"""One process on one data directory and one database: advisory locks that die with the process, however it dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync_server.errors import ConfigurationError


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the directory while the block runs; it is made if it is missing.

    Raises:
        ConfigurationError: another process holds it, or it cannot be used.
    """
    message = f"another server uses the data directory {data_dir}; stop it or set SYNC_DATA_DIR"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data_dir, error) from None
    with _locked(data_dir / "server.lock", message):
        yield


@contextmanager
def database_lock(database: Path) -> Iterator[None]:
    """Hold a database's file while the block runs, whatever data directory the process uses.

    Raises:
        ConfigurationError: another process holds it, or no lock can be put beside it.
    """
    path = database.resolve()
    message = f"another server uses the database {path}; stop it or set SYNC_DATABASE_URL"
    with _locked(path.with_name(f"{path.name}.lock"), message):
        yield


@contextmanager
def _locked(path: Path, message: str) -> Iterator[None]:
    try:
        file = path.open("a")
    except OSError as error:
        raise _unusable(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(message) from None
        yield


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be used: {error.strerror}; set SYNC_DATA_DIR or SYNC_DATABASE_URL")
