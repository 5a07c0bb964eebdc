"""Settings: one frozen model, and the only module that reads the environment (prefix `SYNC_`)."""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, IPvAnyNetwork, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sync_server.errors import ConfigurationError

ENVIRONMENT_PREFIX = "SYNC_"
CLIENT_PREFIX = "SYNC_CLIENT_"
"""Variables of the command line client, which may be set in the same shell."""

Count = Annotated[int, Field(ge=1, le=100_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Days = Annotated[int, Field(ge=1, le=36_500)]

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s,]+", re.IGNORECASE)
_DATABASE_URL = re.compile(r"(sqlite|postgresql)(\+[a-z0-9_]+)?://\S*")
_PASSWORD_IN_URL = re.compile(r"(://[^:/?#@\s]*:)[^/?#\s]*(?=@)")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SHOWN_VALUE_LENGTH = 60


class Settings(BaseSettings):
    """Everything that can be set, by `SYNC_<NAME>` or by the flag of the same name.

    Parts of the server are handed the values they need, not this model. Constructing it reads the environment for every
    field that is not given; `load_settings` is the same with errors made for people.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    host: str = Field("127.0.0.1", min_length=1)
    """Address to listen on. Any but a loopback address needs a secret (auth_secret) or keys (auth_jwks)."""
    port: int = Field(3000, ge=0, le=65_535)
    """TCP port to listen on; 0 lets the system choose one."""
    data_dir: Path = Path("data")
    """Directory of all state: the SQLite database, the generated secret, blobs. Made if it is missing."""
    database_url: str | None = Field(None, repr=False)
    """SQLAlchemy URL of the database; without it, the SQLite file sync.db in the data directory."""

    auth_secret: SecretStr | None = Field(None, repr=False)
    """Key that signs and checks HS256 tokens, at least 32 bytes; without it, generated once on a loopback host."""
    auth_jwks: str | None = None
    """JSON Web Key Set that checks RS256 and ES256 tokens: path of a file, or an https URL."""
    auth_audience: str = Field("authenticated", min_length=1)
    """The `aud` that a token must carry."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins of web pages that may connect; empty: only the server's own and non-browsers."""
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    """Comma-separated addresses or networks of proxies whose X-Forwarded-For is believed; empty: none."""
    entity_types: str | None = Field(None, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    """Python module whose ENTITY_TYPES lists further entity types, such as myapp.entities."""

    log_format: Literal["console", "json"] = "console"
    """How log lines look: for people, or one JSON object a line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""

    max_message_bytes: int = Field(262_144, ge=16_384, le=1_048_576)
    """Largest WebSocket frame and REST body that is taken."""
    max_connections: Count = 10_000
    """WebSockets, event streams and waiting polls of this process; more are refused with 503."""
    max_connections_per_user: Count = 100
    """The same of one user on this process; more are closed with 4504, or refused with 429 over HTTP."""
    connects_per_minute: Count = 600
    """WebSocket handshakes from one address; more are refused with 429."""
    requests_per_minute: Count = 6_000
    """REST requests of one user, and from one address; more are refused with 429."""
    operations_per_minute: Count = 60_000
    """Operations of one user over all doors; more are answered with RATE_LIMIT_EXCEEDED."""
    frames_per_second: Count = 200
    """Steady rate of frames that one connection may send; a faster one is closed with 4101."""
    frames_burst: Count = 400
    """Frames that one connection may send at once, above its steady rate."""
    send_buffer_bytes: int = Field(262_144, ge=16_384, le=67_108_864)
    """Bytes queued for one connection before its subscriptions lag and are fed the newest state later."""
    slow_consumer_s: Seconds = 20
    """A connection that has taken nothing of what waits for it for so long is closed with 4100."""
    heartbeat_interval_s: Seconds = 20
    """Silence after which a ping is sent; two missed ones close the connection with 4002."""
    auth_deadline_s: Seconds = 8
    """Time from accept to a valid token; later the connection is closed with 4201."""
    drain_s: Seconds = 10
    """Budget of a graceful stop: clients are told to leave, operations in flight are finished or not acknowledged."""

    retention_days: Days = 90
    """How long the change log and tombstones of deleted entities are kept; older cursors are answered with a reset."""
    verdict_retention_days: Days | None = None
    """How long the verdicts that make resends harmless are kept; at least, and by default, retention_days."""
    trim_interval_s: Seconds = 3_600
    """Pause between two runs of the job that trims what is older than its retention."""
    batch_operations: int = Field(1_000, ge=1, le=100_000)
    """Most operations in one group commit."""
    feed_cache_changes: int = Field(10_000, ge=0, le=10_000_000)
    """Newest changes of the log kept in memory to feed clients that are close behind."""

    @field_validator("allowed_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("allowed_origins")
    @classmethod
    def _normalise_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_normalised_origin(origin) for origin in origins)

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str | None) -> str | None:
        if url is not None and _DATABASE_URL.fullmatch(url) is None:
            message = "must be a database's URL, such as sqlite:////absolute/path/sync.db"
            raise ValueError(message)
        return url

    @field_validator("auth_jwks")
    @classmethod
    def _check_jwks(cls, location: str | None) -> str | None:
        if location is None or "://" not in location or _is_safe_url(location):
            return location
        message = "must be the path of a file or an https:// URL"
        raise ValueError(message)

    @field_validator("verdict_retention_days")
    @classmethod
    def _check_verdict_retention(cls, days: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("retention_days")
        if days is not None and least is not None and days < least:
            message = f"must be at least retention_days, which is {least}"
            raise ValueError(message)
        return days

    @property
    def effective_database_url(self) -> str:
        """The database in use, as SQLAlchemy takes it; may carry a password."""
        if self.database_url is not None:
            return self.database_url
        return f"sqlite:///{self.data_dir / 'sync.db'}"

    @property
    def effective_verdict_retention_days(self) -> int:
        return self.verdict_retention_days if self.verdict_retention_days is not None else self.retention_days

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def printable(self) -> dict[str, str]:
        """Every setting as it takes effect, as text by field name; secrets are masked."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values["database_url"] = self.effective_database_url
        values["verdict_retention_days"] = self.effective_verdict_retention_days
        return {name: _printed(name, value) for name, value in values.items()}


def load_settings(flags: Mapping[str, str] | None = None) -> Settings:
    """The settings in effect: flags before environment before defaults.

    Args:
        flags: texts by field name, of the flags that were given.

    Raises:
        ConfigurationError: an unknown `SYNC_…` variable, or a value that is malformed or out of bounds. One line that
            names the variable or flag; a secret's value is never in it.
    """
    flags = flags if flags is not None else {}
    named = {name.upper(): text for name, text in os.environ.items()}
    variables = {
        name: text
        for name, text in named.items()
        if name.startswith(ENVIRONMENT_PREFIX) and not name.startswith(CLIENT_PREFIX)
    }
    _refuse_unknown(variables)
    try:
        return Settings(**dict[str, Any](flags))
    except ValidationError as error:
        raise ConfigurationError(_explain(error.errors()[0], flags, variables)) from None


def is_loopback(host: str) -> bool:
    """Whether this listening address is reachable from this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def variable_name(field_name: str) -> str:
    return ENVIRONMENT_PREFIX + field_name.upper()


def flag_name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def default_text(field: FieldInfo) -> str | None:
    """The default as a person would write it; None where there is none."""
    return None if field.default in {None, ()} else _plain(field.default)


def _refuse_unknown(variables: Mapping[str, str]) -> None:
    known = [variable_name(name) for name in Settings.model_fields]
    for variable in sorted(variables):
        if variable not in known:
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0.0)[0]
            message = f"{variable} is not a setting; did you mean {nearest}? `sync-server serve --help` lists them all"
            raise ConfigurationError(message)


def _explain(error: ErrorDetails, flags: Mapping[str, str], variables: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    is_flag = name in flags
    source = flag_name(name) if is_flag else variable_name(name)
    reason = error["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    field = Settings.model_fields.get(name)
    if field is None or not field.repr:
        return f"{source}: {reason}"
    text = flags[name] if is_flag else variables.get(source, "")
    shown = text if len(text) <= _SHOWN_VALUE_LENGTH else text[:_SHOWN_VALUE_LENGTH] + "…"
    return f"{source}: {reason}, not {shown!r}"


def _normalised_origin(origin: str) -> str:
    if _ORIGIN.fullmatch(origin) is None:
        message = "an origin is scheme://host or scheme://host:port, nothing more"
        raise ValueError(message)
    scheme, authority = origin.lower().split("://")
    return f"{scheme}://{authority.removesuffix(_DEFAULT_PORTS.get(scheme, ' '))}"


def _is_safe_url(location: str) -> bool:
    parts = urlsplit(location)
    return parts.hostname is not None and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    )


def _printed(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return "********"
    text = _plain(value)
    return _PASSWORD_IN_URL.sub(r"\1********", text) if not Settings.model_fields[name].repr else text


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
