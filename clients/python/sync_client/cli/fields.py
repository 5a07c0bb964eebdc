"""`field=value` as it stands on a command line."""

from typing import Any

import click
import msgspec


class _FieldType(click.ParamType[tuple[str, Any]]):
    name = "field=value"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} must be written as field=value", parameter, context)
        if not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
            self.fail(f"{value!r} must be UTF-8", parameter, context)
        return name, parsed(text)


def parsed(text: str) -> Any:
    """JSON if it is JSON, else the text.

    >>> parsed("3"), parsed("milk, eggs"), parsed('"3"'), parsed("[1]"), parsed("null"), parsed("")
    (3, 'milk, eggs', '3', [1], None, '')
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text


FIELD = _FieldType()
