"""The key that signs and checks HS256 tokens: as it is set, or generated once and kept in the data directory."""

import os
from pathlib import Path
from typing import Final

from sync_server.clock import new_id, new_secret
from sync_server.config import Settings
from sync_server.errors import ConfigurationError

SECRET_FILE_NAME: Final = "auth.secret"  # noqa: S105  a file's name
MIN_SECRET_BYTES: Final = 32
"""HS256 needs a key at least as long as its hash (RFC 7518, 3.2)."""

_OTHERS_MAY_ACCESS = 0o077


def signing_secret(settings: Settings) -> str | None:
    """The secret in effect, or None where only keys of `auth_jwks` check tokens.

    Without `auth_secret`, on a loopback host, it is generated at the first call and kept in the data directory for its
    owner alone; however many processes start at once, all get the same.

    Raises:
        ConfigurationError: the secret is too short, must be set for this host, or its file cannot be used.
    """
    if settings.auth_secret is not None:
        return _checked(settings.auth_secret.get_secret_value(), "SYNC_AUTH_SECRET")
    if settings.auth_jwks is not None:
        return None
    if not settings.is_loopback:
        message = (
            f"SYNC_AUTH_SECRET must be set (at least {MIN_SECRET_BYTES} random bytes), or SYNC_AUTH_JWKS, "
            f"to serve on {settings.host}, which other machines can reach"
        )
        raise ConfigurationError(message)
    return _kept_secret(settings.data_dir)


def _kept_secret(data_dir: Path) -> str:
    path = data_dir / SECRET_FILE_NAME
    try:
        if not path.exists():
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, new_secret())
        return _load(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        message = f"SYNC_DATA_DIR: cannot keep the generated secret in {path}: {reason}"
        raise ConfigurationError(message) from error


def _create(path: Path, secret: str) -> None:
    """Make the file appear whole or not at all; whoever comes second keeps the first one's."""
    draft = path.with_name(new_id(f".{path.name}"))
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        _link(draft, path)
    finally:
        draft.unlink()


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return  # another process was first


def _load(path: Path) -> str:
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & _OTHERS_MAY_ACCESS:
        message = f"{path} may be read by others (mode {mode:04o}): `chmod 600` it, or delete it to have a new one made"
        raise ConfigurationError(message)
    return _checked(path.read_text(encoding="ascii").strip(), str(path))


def _checked(secret: str, source: str) -> str:
    length = len(secret.encode())
    if length < MIN_SECRET_BYTES:
        message = f"{source} has {length} bytes; HS256 needs at least {MIN_SECRET_BYTES} (RFC 7518, 3.2)"
        raise ConfigurationError(message)
    return secret
