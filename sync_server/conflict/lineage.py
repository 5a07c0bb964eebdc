"""What happened to an entity since the version that an attempt was made on, told apart by who did it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from sync_server.conflict.model import Attempt, Revision, Rule
from sync_server.conflict.stamps import Stamp, revision_stamp
from sync_server.conflict.values import ABSENT, unwrapped
from sync_server.records import Entity
from sync_server.types import ClientId, OperationType

R = TypeVar("R", bound="Ruled")

_IN_SIGHT = {Rule.SAME_VERSION, Rule.OWN_QUEUE}
"""Rules of revisions that were made on whatever stood before them."""
SERVER = ClientId("")
"""The client of the changes that the server makes itself, to repair what a delete left behind."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The revisions after an attempt's base.

    An offline client queues several operations on one version. Its own earlier ones are the attempt's past, not its
    rivals: the base of a field is what the client itself last sent of it. But one that it made in sight of a rival is
    no past of an attempt that was made before that: it is a rival as well, else what it kept of the other would go.

    Attributes:
        own: those of the same user and client that are the attempt's past, oldest first.
        rivals: all others, oldest first.
        has_base: whether the value that the client started from is known, or known to be nothing (a create).
        is_complete: whether every revision since the base is there.
    """

    entity: Entity
    own: tuple[Revision, ...]
    rivals: tuple[Revision, ...]
    has_base: bool
    is_complete: bool

    def base(self, name: str) -> object:
        """The value of the field that the client started from; ABSENT also where that is not known."""
        own = self._own_last(name)
        if own is not None:
            return own.submitted[name] if name in own.submitted else own.data.get(name, ABSENT)
        if not self.is_complete:
            return ABSENT
        first = min((r for r in self.rivals if name in r.previous), key=_version, default=None)
        return self.entity.data.get(name, ABSENT) if first is None else unwrapped(first.previous[name])

    def is_contended(self, name: str) -> bool:
        """Whether others wrote the field since the client did, or the client's last write was merged with theirs."""
        if not self.is_complete:
            return True
        rival = next((r.version for r in reversed(self.rivals) if name in r.previous), None)
        own = self._own_last(name)
        return rival is not None and (own is None or name in own.submitted or rival > own.version)

    def rival_stamp(self, name: str) -> Stamp:
        """The latest stamp, not the last one, that others put on the field since the base."""
        stamps = [revision_stamp(r) for r in self.rivals if name in r.previous]
        if not self.is_complete:
            stamps.append(Stamp(self.entity.updated_at, SERVER))
        return max(stamps)

    def has_rival_edit(self) -> bool:
        """Whether something that others wrote or brought back has not been overwritten by the client since.

        The server's own repairs are nobody's edits: a client that deletes a folder and then its notes finds the
        notes moved to the root.
        """
        return not self.is_complete or any(self._is_edit(r) for r in self.rivals)

    def ends_in_own_delete(self) -> bool:
        last = max((*self.own, *self.rivals), key=_version, default=None)
        return last is not None and last in self.own and last.operation_type is OperationType.DELETE

    def _own_last(self, name: str) -> Revision | None:
        return next((r for r in reversed(self.own) if name in r.previous or name in r.submitted), None)

    def _is_edit(self, revision: Revision) -> bool:
        if revision.operation_type is OperationType.DELETE or revision.client_id == SERVER:
            return False
        return not revision.previous or any(self.is_contended(name) for name in revision.previous)


def lineage(attempt: Attempt, entity: Entity, history: Sequence[Revision]) -> Lineage:
    """Sort the history of a stale attempt. Revisions up to its base are left out; a create starts from nothing."""
    is_create = attempt.operation_type is OperationType.CREATE
    base_version = 0 if is_create or attempt.before_version is None else attempt.before_version
    later = [revision for revision in history if revision.version > base_version]
    is_complete = _is_chain(later, base_version, entity.version)
    own, rivals = told_apart(later, partial(_is_own, attempt))
    return Lineage(
        entity,
        own=tuple(own),
        rivals=tuple(rivals),
        has_base=is_complete or is_create,
        is_complete=is_complete,
    )


def _is_chain(later: Sequence[Revision], base_version: int, version: int) -> bool:
    """Whether every revision after the base is there, each on the one before. A base that a backup lost has none."""
    at = base_version
    for revision in later:
        if revision.after != at:
            return False
        at = revision.version
    return at == version


class Ruled(Protocol):
    @property
    def rule(self) -> str: ...


def told_apart(later: Iterable[R], is_own: Callable[[R], bool]) -> tuple[list[R], list[R]]:
    """What is an attempt's past and what its rivals, of everything since its base, oldest first. See `Lineage`."""
    past: list[R] = []
    rivals: list[R] = []
    for revision in later:
        is_past = is_own(revision) and not (rivals and revision.rule in _IN_SIGHT)
        (past if is_past else rivals).append(revision)
    return past, rivals


def _is_own(attempt: Attempt, revision: Revision) -> bool:
    return revision.user_id == attempt.user_id and revision.client_id == attempt.client_id


def _version(revision: Revision) -> int:
    return revision.version
