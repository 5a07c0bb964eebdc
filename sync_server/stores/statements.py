"""Statements on one DBAPI cursor: rows out, and as many keys or rows in as there are, a bounded number at a time.

They are written for the driver itself: on the commit path SQLAlchemy's execution layer costs more than the query
(docs/decisions/0004-storage.md). The tables are declared in `schema.tables`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

Row = tuple[Any, ...]

MAX_VARIABLES = 30_000
"""Placeholders in one statement; SQLite takes 32,766."""
NO_END = 2**62
"""Above every position and every version."""


class Statements:
    """What is asked of one cursor, within its transaction."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(sql, parameters).fetchall()  # type: ignore[no-any-return]

    def _row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._cursor.execute(sql, parameters).fetchone()

    def _joined(self, select: str, keys: Iterable[Sequence[Any]]) -> list[Row]:
        """The rows of a select over `k(a, b, …)`, the keys as a table; nothing is asked where there are none."""
        wanted = list(keys)
        found: list[Row] = []
        for chunk in chunks(wanted):
            sql = _joined_sql(select, len(chunk[0]), len(chunk))
            found += self._rows(sql, tuple(chain.from_iterable(chunk)))
        return found


def chunks(rows: list[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """The rows for one statement at a time: a power of two of them, so that there are few statements to prepare."""
    start = 0
    while start < len(rows):
        most = MAX_VARIABLES // len(rows[0])
        size = 1 << min(len(rows) - start, most).bit_length() - 1
        yield rows[start : start + size]
        start += size


@lru_cache(maxsize=512)
def marks(width: int, count: int) -> str:
    """The parameter marks of `count` rows."""
    mark = f"({', '.join('?' * width)})"
    return ", ".join([mark] * count)


@lru_cache(maxsize=512)
def _joined_sql(select: str, width: int, count: int) -> str:
    comma = "" if select.startswith(",") else " "
    return f"WITH RECURSIVE k({', '.join('abcd'[:width])}) AS (VALUES {marks(width, count)}){comma}{select}"
