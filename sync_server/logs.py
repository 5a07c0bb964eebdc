"""Logging: every record, ours or a library's, goes through one renderer, and none carries a secret."""

import logging
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "[redacted]"

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_SECRET_NAME = re.compile(r"token|secret|passw|authorization|cookie|credential|api_?key|private_?key", re.IGNORECASE)
_SECRET_TEXTS = (
    (re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*"), MASK),  # a JWT: its header begins with {"
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[^\s\"',]+", re.IGNORECASE), rf"\g<1>{MASK}"),
    (re.compile(r"(\b\w*(?:token|secret|password)=[\"']?)[^\s&\"',]+", re.IGNORECASE), rf"\g<1>{MASK}"),
    (re.compile(r"((?:token|secret|password)[\"']\s*:\s*[\"'])[^\"']+", re.IGNORECASE), rf"\g<1>{MASK}"),
    (re.compile(r"(://[^:/?#@\s]*:)[^/?#\s]*(?=@)"), rf"\g<1>{MASK}"),  # the password in a database's URL
)
_PLAIN_TYPES = (bool, int, float, type(None))
_SEQUENCES = (list, tuple, set, frozenset)
_MAX_DEPTH = 8

_LIBRARY_LEVELS: Final = {
    "websockets": logging.INFO,  # its debug lines print frames, and with them tokens
    "sqlalchemy.engine": logging.WARNING,  # its info lines print the users' data
    "alembic.runtime.plugins": logging.WARNING,  # seven lines at each start
    "asyncio": logging.INFO,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
}


def configure_logging(*, log_format: LogFormat, log_level: LogLevel, stream: TextIO | None = None) -> None:
    """Send everything that structlog and the standard library log to one stream, by default standard error.

    Call it once, before anything is logged; run uvicorn with `log_config=None` and `access_log=False`. A later call
    replaces the earlier one. Lines carry what `log_context` has bound, such as `connection_id` and `request_id`.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_formatter(log_format, is_terminal=handler.stream.isatty()))
    level = logging.getLevelNamesMapping()[log_level.upper()]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    _tame_libraries(level)


def log_context(**values: str) -> AbstractContextManager[None]:
    """Put these values, such as `connection_id`, in every line logged inside the block and in tasks begun there."""
    return structlog.contextvars.bound_contextvars(**values)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask values that are named like secrets and texts that look like tokens, at any depth; just before rendering.

    >>> redact(None, "info", {"event": "hello", "auth_token": "abc", "url": "/ws?token=abc&v=1"})
    {'event': 'hello', 'auth_token': '[redacted]', 'url': '/ws?token=[redacted]&v=1'}
    """
    return {name: _redacted(name, value, 0) for name, value in event.items()}


def _redacted(name: str, value: object, depth: int) -> object:
    if isinstance(value, _PLAIN_TYPES):
        return value
    if _SECRET_NAME.search(name) is not None:
        return MASK
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {redacted_text(str(key)): _redacted(str(key), member, depth + 1) for key, member in value.items()}
    if isinstance(value, _SEQUENCES) and depth < _MAX_DEPTH:
        return [_redacted("", member, depth + 1) for member in value]
    if isinstance(value, (Mapping, *_SEQUENCES)):
        return MASK
    return redacted_text(value if isinstance(value, str) else repr(value))


def redacted_text(text: str) -> str:
    """The text without tokens and passwords.

    >>> redacted_text("postgresql://sync:hunter2@db/sync")
    'postgresql://sync:[redacted]@db/sync'
    """
    for pattern, replacement in _SECRET_TEXTS:
        text = pattern.sub(replacement, text)
    return text


_CHATTER = frozenset({"connection open", "connection closed", "Context impl %s.", "Will assume %s DDL."})
"""What libraries say at each connection or start, and the server says itself or nobody needs."""


class _NoChatter(logging.Filter):
    """Drops chatter, and uvicorn's line for each WebSocket handshake, which prints the query."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        return record.levelno > logging.INFO or not (text in _CHATTER or '"WebSocket %s"' in text)


_NO_CHATTER = _NoChatter()


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]


def _formatter(log_format: LogFormat, *, is_terminal: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_duplicates,
            redact,
            _renderer(log_format, is_terminal=is_terminal),
        ],
    )


def _renderer(log_format: LogFormat, *, is_terminal: bool) -> Processor:
    match log_format:
        case "json":
            return structlog.processors.JSONRenderer(ensure_ascii=False)
        case "console":
            return structlog.dev.ConsoleRenderer(colors=is_terminal)


def _drop_duplicates(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)  # uvicorn's copy of the event with colours
    return event


def _tame_libraries(level: int) -> None:
    for name, least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, least))
    server = logging.getLogger("uvicorn.error")
    server.setLevel(level)  # uvicorn asks for this logger's own level on every connection
    server.addFilter(_NO_CHATTER)
    logging.getLogger("alembic.runtime.migration").addFilter(_NO_CHATTER)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
