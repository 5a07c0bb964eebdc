"""Three-way merge of texts: by lines, and where two edits share lines once more by words."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sync_server.conflict.alignment import NO_PARTNER, align
from sync_server.conflict.diff3 import hunks

MAX_WORDS_TEXT = 32_000
"""Characters, of the three sides of all overlapping lines without their common ends, that are compared by words."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts without spaces between words, as ranges: each character is a token."""
_JOINING = "\u0300-\u036f\ufe00-\ufe0f\U0001f3fb-\U0001f3ff"
_BOUNDARY = re.compile(rf"(?<=[\s{_UNSPACED}])\w")
_REACH = 200
"""How far back from the first difference a boundary of words is looked for."""
_TOKEN = re.compile(
    rf"\r?\n|[^\S\n]+|[^\W{_UNSPACED}]+(?:[{_JOINING}]+[^\W{_UNSPACED}]*)*|.(?:[{_JOINING}]|\u200d.)*", re.DOTALL
)


class TextMerge(NamedTuple):
    """A merged text. Where it is not clean, it holds both sides of every overlap, the server's first."""

    text: str
    is_clean: bool


def merge_text(base: str, server: str, client: str) -> TextMerge:
    """What both edits of `base` make of it together.

    Deterministic, and as clean with the sides exchanged. Inserts at the same place overlap unless they are equal. An
    overlap keeps the whole lines of both sides, so nothing is lost and each side still reads as it was written. The
    work is bounded for any input: what is too long to compare counts as overlapping.

    >>> merge_text("a b c", "A b c", "a b C")
    TextMerge(text='A b C', is_clean=True)
    >>> merge_text("at ten\\n", "at two\\n", "at six\\n")
    TextMerge(text='at two\\nat six\\n', is_clean=False)
    """
    if client in (base, server):
        return TextMerge(server, is_clean=True)
    if server == base:
        return TextMerge(client, is_clean=True)
    pieces = _pieces(_lines(base), _lines(server), _lines(client))
    by_words = sum(_trimmed(piece).core.size for piece in pieces if isinstance(piece, _Overlap)) <= MAX_WORDS_TEXT
    merged = [_refined(piece, by_words=by_words) for piece in pieces]
    return TextMerge("".join(part.text for part in merged), all(part.is_clean for part in merged))


def merge_text_without_base(server: str, client: str) -> str:
    """Both texts in one: the lines they share once, and where they differ the server's, then the client's."""
    lines = _lines(server)
    shared = [line for line, place in zip(lines, align(lines, _lines(client)), strict=True) if place != NO_PARTNER]
    return merge_text("".join(shared), server, client).text


class _Overlap(NamedTuple):
    base: str
    server: str
    client: str

    @property
    def size(self) -> int:
        return sum(map(len, self))


class _Trimmed(NamedTuple):
    """An overlap without what all three sides begin and end with, cut between words."""

    head: str
    core: _Overlap
    tail: str


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _pieces(base: Sequence[str], server: Sequence[str], client: Sequence[str]) -> list[str | _Overlap]:
    return [
        _settled("".join(base[hunk.base]), "".join(server[hunk.server]), "".join(client[hunk.client]))
        for hunk in hunks(base, server, client)
    ]


def _settled(base: str, server: str, client: str) -> str | _Overlap:
    if client in (base, server):
        return server
    return client if server == base else _Overlap(base, server, client)


def _refined(piece: str | _Overlap, *, by_words: bool) -> TextMerge:
    if isinstance(piece, str):
        return TextMerge(piece, is_clean=True)
    if by_words:
        head, core, tail = _trimmed(piece)
        parts = _pieces(*map(_words, core))
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return TextMerge("".join((head, *texts, tail)), is_clean=True)
    apart = _edited_apart(piece)
    if apart is None:
        return TextMerge(_both(piece.server, piece.client), is_clean=False)
    return TextMerge(apart, is_clean=True)


def _edited_apart(piece: _Overlap) -> str | None:
    """The merge of two single edits with the end of a word between them, however long the text; None for others."""
    first, second = sorted((_edit(piece.base, piece.server), _edit(piece.base, piece.client)))
    if _BOUNDARY.search(piece.base, first.end + 1, second.start) is None:
        return None
    return (
        piece.base[: first.start]
        + first.text
        + piece.base[first.end : second.start]
        + second.text
        + piece.base[second.end :]
    )


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def _edit(base: str, side: str) -> _Edit:
    """The one replaced stretch that makes `side` of `base`."""
    start = _common(_Overlap(base, side, side), lambda text, length: text[:length] == base[:length])
    rest, new = base[start:], side[start:]
    kept = _common(
        _Overlap(rest, new, new), lambda text, length: text[len(text) - length :] == rest[len(rest) - length :]
    )
    return _Edit(start, len(base) - kept, new[: len(new) - kept])


def _both(server: str, client: str) -> str:
    is_open = server and client and not server.endswith("\n")
    return f"{server}\n{client}" if is_open else server + client


def _trimmed(piece: _Overlap) -> _Trimmed:
    base = piece.base
    head = _last_boundary(base, _common(piece, lambda side, length: side[:length] == base[:length]))
    rest = _Overlap(*(side[head:] for side in piece))
    whole = rest.base
    tail = _common(rest, lambda side, length: side[len(side) - length :] == whole[len(whole) - length :])
    tail = len(whole) - _first_boundary(whole, len(whole) - tail)
    core = _Overlap(*(side[: len(side) - tail] for side in rest))
    return _Trimmed(base[:head], core, whole[len(whole) - tail :])


def _common(piece: _Overlap, agrees: Callable[[str, int], bool]) -> int:
    """The greatest length at which the sides agree, by halving."""
    low, high = 0, min(map(len, piece))
    while low < high:
        middle = (low + high + 1) // 2
        if agrees(piece.server, middle) and agrees(piece.client, middle):
            low = middle
        else:
            high = middle - 1
    return low


def _last_boundary(text: str, end: int) -> int:
    found = [match.start() for match in _BOUNDARY.finditer(text, max(0, end - _REACH), end)]
    return found[-1] if found else 0


def _first_boundary(text: str, start: int) -> int:
    found = _BOUNDARY.search(text, start + 1)
    return found.start() if found is not None and found.start() <= start + _REACH else len(text)
