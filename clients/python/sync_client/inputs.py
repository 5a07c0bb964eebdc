"""What an application hands in, checked: a wrong argument is named before anything is written."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sync_client.errors import InvalidInputError
from sync_client.stores.port import Query, Scalar
from sync_client.values import Entity, Fields, Json, Key, WireId, parse_id

_IDENTIFIER = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_\-]{1,66}")
"""An identifier, or `u-` before one: the personal space of a user."""
MOST_CONDITIONS = 50
STRATEGIES = ("server_wins", "client_wins", "merge", "manual", "latest_wins")


def checked_type(entity_type: object) -> str:
    if not isinstance(entity_type, str) or not _IDENTIFIER.fullmatch(entity_type):
        raise InvalidInputError("entity_type", "must be 1 to 64 letters, digits, _ or -")
    return entity_type


def checked_new_id(entity_id: object) -> str:
    if not isinstance(entity_id, str) or not _IDENTIFIER.fullmatch(entity_id) or entity_id.isdecimal():
        raise InvalidInputError("entity_id", "must be 1 to 64 letters, digits, _ or -, and no decimal number")
    return entity_id


def checked_key(entity: Entity | Key | tuple[str, WireId]) -> Key:
    """The key of an entity, or of a type and an id."""
    if isinstance(entity, Entity):
        return entity.key
    if not isinstance(entity, tuple) or len(entity) != 2 or not isinstance(entity[1], (str, int)):  # noqa: PLR2004  a pair
        raise InvalidInputError("entity", "must be an Entity, or a pair of its type and its id")
    return Key(checked_type(entity[0]), parse_id(entity[1]))


def checked_fields(given: Fields, named: Fields) -> Json:
    """Fields as plain JSON, a copy: what `msgspec` can write, such as dates, becomes text."""
    fields = {**given, **named}
    if "id" in fields:
        raise InvalidInputError("id", "is no field; name the id of a new entity with entity_id")
    for name in fields:
        _check_name(name)
    try:
        for name, value in fields.items():
            _check_numbers(name, value)
        plain: Json = msgspec.json.decode(msgspec.json.encode(fields))
    except InvalidInputError:
        raise
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidInputError("fields", f"must be JSON: {error}") from None
    return plain


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.isprintable() or not name or '"' in name or "\\" in name:
        raise InvalidInputError(repr(name), "must be a name of a field: printable, without quotes and backslashes")


def _check_numbers(name: str, value: Any) -> None:
    match value:
        case float() if not math.isfinite(value):
            raise InvalidInputError(name, "must be a finite number")
        case int() if not -(2**63) <= value < 2**63:
            raise InvalidInputError(name, "must be a number of 64 bits")
        case Mapping():
            for one in value.values():
                _check_numbers(name, one)
        case list() | tuple() | set() | frozenset():
            for one in value:
                _check_numbers(name, one)


def _is_unicode(text: str) -> bool:
    """Whether a text can be written: half of a surrogate pair cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def checked_choice(field: str, value: object, choices: Sequence[str]) -> str:
    if value not in choices:
        raise InvalidInputError(field, f"must be one of {', '.join(choices)} and is {value!r}")
    return str(value)


def checked_some(field: str, values: Sequence[str]) -> Sequence[str]:
    """One or more of something; a text is none of them, but a mistake."""
    if isinstance(values, str) or not values:
        raise InvalidInputError(field, "must be a list with something in it")
    return values


def checked_names(field: str, names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    for name in checked_some(field, names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInputError(field, f"must be names of letters, digits, _ and -; {name!r} is none")
    return tuple(names)


def is_token(token: str) -> bool:
    """Whether a text can be sent as a token: visible ASCII."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def user_named_by(token: object) -> str | None:
    """Whom a JSON Web Token names, unverified; None where it is a function, or no such token."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:  # noqa: PLR2004  RFC 7519, section 3
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return subject if isinstance(subject, str) else None


def checked_space(space_id: object) -> str | None:
    if space_id is not None and (not isinstance(space_id, str) or not _NAME.fullmatch(space_id)):
        raise InvalidInputError("space_id", "must be the name of a space, such as u-1")
    return space_id


def checked_strategy(strategy: str | None) -> str | None:
    if strategy is not None and strategy not in STRATEGIES:
        raise InvalidInputError("on_conflict", f"must be one of {', '.join(STRATEGIES)}")
    return strategy


def checked_query(entity_type: str, where: Mapping[str, Scalar], *, order_by: str | None, limit: int | None) -> Query:
    for name, value in where.items():
        _check_name(name)
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise InvalidInputError(name, "must be compared with text, a number, a boolean or None")
        if isinstance(value, str) and not _is_unicode(value):
            raise InvalidInputError(name, "must be compared with valid Unicode")
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
            raise InvalidInputError(name, "must be compared with a number of 64 bits")
        _check_numbers(name, value)
    if len(where) > MOST_CONDITIONS:
        raise InvalidInputError("where", f"must have at most {MOST_CONDITIONS} fields")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise InvalidInputError("limit", "must be a number from 0 up")
    field = order_by.removeprefix("-") if order_by is not None else None
    if field is not None:
        _check_name(field)
    descending = order_by is not None and order_by.startswith("-")
    return Query(checked_type(entity_type), tuple(where.items()), field, descending, limit)
