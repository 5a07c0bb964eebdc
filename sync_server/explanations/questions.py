"""What the command line asks of a database: which operation, which client, and the explanation of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sync_server.errors import ConfigurationError, UnclearQuestionError
from sync_server.explanations.entities import RowExplanation, explain_row
from sync_server.explanations.evidence import operation_evidence, row_facts
from sync_server.explanations.operations import Explanation, explain_operation
from sync_server.records import Decision, EntityKey
from sync_server.stores.opening import reading_store
from sync_server.stores.reader import Reader
from sync_server.stores.sql import StoreError
from sync_server.types import ClientId, OperationId, UserId

MAX_NAMED = 10
"""Clients that an error lists."""


@contextmanager
def reading(database_url: str) -> Iterator[Reader]:
    """One snapshot of the database; nothing is written, a server may run beside.

    Raises:
        ConfigurationError: the database cannot be read.
    """
    try:
        with reading_store(database_url) as store, store.read() as reader:
            yield reader
    except StoreError as error:
        message = f"the database cannot be read: {error}"
        raise ConfigurationError(message) from None


def operation_explained(
    reader: Reader, operation_id: OperationId, *, user_id: str | None, client_id: str | None
) -> Explanation:
    """Why the one operation of this id ended as it did.

    Raises:
        UnclearQuestionError: there is none, or several clients used the id.
    """
    found = reader.operations_named(operation_id, user_id=user_id, client_id=client_id, limit=MAX_NAMED + 1)
    if not found:
        message = (
            f"no verdict on an operation {operation_id!r}{_of(user_id, client_id)} is stored: check the id; one that "
            "is trimmed, was never received or still waits has none"
        )
        raise UnclearQuestionError(message)
    if len(found) > 1:
        message = f"several clients used the id {operation_id!r}: {_senders(found)}; name one with --user and --client"
        raise UnclearQuestionError(message)
    return explain_operation(operation_evidence(reader, found[0]))


def row_explained(reader: Reader, key: EntityKey, client_id: ClientId, *, user_id: UserId | None) -> RowExplanation:
    """Why the client has or lacks the row.

    Raises:
        UnclearQuestionError: no user is named, and no or several users have a client of this id.
    """
    if user_id is None:
        known = reader.clients_named(client_id, limit=MAX_NAMED + 1)
        if not known:
            message = f"no client {client_id!r} is known: check the id, or name its user with --user to see their role"
            raise UnclearQuestionError(message)
        if len(known) > 1:
            users = _short([record.user_id for record in known])
            message = f"several users have a client {client_id!r}: {users}; name one with --user"
            raise UnclearQuestionError(message)
        user_id = known[0].user_id
    return explain_row(row_facts(reader, key, user_id, client_id))


def _of(user_id: str | None, client_id: str | None) -> str:
    user = f" of user {user_id}" if user_id is not None else ""
    client = f" of client {client_id}" if client_id is not None else ""
    return f"{user}{client}"


def _senders(found: list[Decision]) -> str:
    return _short([f"user {one.user_id} client {one.client_id or '(none)'}" for one in found])


def _short(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
