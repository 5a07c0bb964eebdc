"""A person settles a conflict: one that waits open, or one that a rule settled otherwise than they want."""

from collections.abc import Iterable
from typing import NamedTuple, assert_never

from schema.entity import EntitySpec
from schema.policy import Merge
from sync_server.conflict.constraints import Target, constrain
from sync_server.conflict.decide import parked_delete, refused
from sync_server.conflict.fields import chosen_value, fits
from sync_server.conflict.merge import IN_CONFLICT, merge_field
from sync_server.conflict.model import Outcome, Rule, Surroundings
from sync_server.conflict.stamps import Stamp
from sync_server.conflict.values import ABSENT, equal
from sync_server.errors import ErrorCode
from sync_server.records import Conflict, Entity, EntityKey
from sync_server.types import ClientId, ConflictType, Json, OperationId, OperationType, Strategy, Verdict


def resolve(
    conflict: Conflict,
    entity: Entity | None,
    spec: EntitySpec,
    strategy: Strategy,
    resolved_data: Json | None,
    surroundings: Surroundings,
    *,
    operation_id: OperationId,
) -> Outcome:
    """What a resolution makes of the entity as it is now. Deterministic; it never raises.

    The verdict is `applied` with data None where the entity already is as it should be. It is `rejected`, and the
    conflict stays as it was, if a person settled it before, if the data is missing or wrong, or if a constraint that
    parks is still violated.

    An entity whose tombstone was trimmed while its conflict waited stays gone for the server, and is made anew from
    what it last was for the client.

    Args:
        entity: the newest state; None only for a create that waits and for an entity that is purged.
        resolved_data: the fields a person chose; taken by `merge` and `manual`.
        operation_id: of the resolution, for the last-resort suffix of a unique value.
    """
    case = _Case(conflict, entity, spec, surroundings, operation_id)
    if conflict.resolved_by is not None:
        return refused(ErrorCode.CONFLICT, "This conflict is already resolved.")
    if entity is None and not conflict.is_open:
        return refused(ErrorCode.NOT_FOUND, "The entity of this conflict is gone.", {"entity_id": conflict.entity_id})
    match strategy:
        case Strategy.SERVER_WINS:
            return _keep_server(case)
        case Strategy.CLIENT_WINS:
            return _take_client(case)
        case Strategy.LATEST_WINS:
            return _take_client(case) if _is_clients_later(conflict) else _keep_server(case)
        case Strategy.MERGE | Strategy.MANUAL:
            return _take_resolved(case, strategy, resolved_data)
        case _:
            assert_never(strategy)


class _Case(NamedTuple):
    conflict: Conflict
    entity: Entity | None
    spec: EntitySpec
    surroundings: Surroundings
    operation_id: OperationId

    @property
    def data(self) -> Json:
        """The entity's fields; of one that is purged, as the conflict found them."""
        return self.conflict.server_data if self.entity is None else self.entity.data

    @property
    def is_new(self) -> bool:
        return self.conflict.operation_type is OperationType.CREATE and self.conflict.server_version == 0

    @property
    def is_deleted(self) -> bool:
        return self.entity is not None and self.entity.deleted

    @property
    def is_delete(self) -> bool:
        return self.conflict.operation_type is OperationType.DELETE

    @property
    def client_data(self) -> Json:
        """What the client's side still asks for: all of it where it waits, else the disputed fields."""
        sent = self.conflict.client_data
        return sent if self.conflict.is_open else _part(sent, self.conflict.fields)


def _keep_server(case: _Case) -> Outcome:
    conflict = case.conflict
    if conflict.is_open:
        return _kept(case)
    if conflict.conflict_type is ConflictType.DELETE:
        return _revived(case, {}) if case.is_delete else _deleted(case)
    return _changed(case, _overruled(case))


def _overruled(case: _Case) -> Json:
    """The server's values that a rule had dropped, where nobody has changed the field since."""
    conflict = case.conflict
    settled = conflict.resolved_data if conflict.resolved_data is not None else conflict.client_data
    before = _part(conflict.server_data, conflict.fields)
    return {n: v for n, v in before.items() if equal(case.data.get(n, ABSENT), settled.get(n, ABSENT))}


def _take_client(case: _Case) -> Outcome:
    return _deleted(case) if case.is_delete else _revived(case, case.client_data)


def _take_resolved(case: _Case, strategy: Strategy, resolved_data: Json | None) -> Outcome:
    if resolved_data is not None:
        return _take_chosen(case, resolved_data)
    if strategy is Strategy.MANUAL:
        return refused(
            ErrorCode.VALIDATION_ERROR, "A manual resolution needs resolved_data.", {"field": "resolved_data"}
        )
    return _revived(case, {}) if case.is_delete else _revived(case, _merged(case))


def _take_chosen(case: _Case, resolved_data: Json) -> Outcome:
    sent = case.client_data if case.entity is None and case.is_new else {}
    try:
        chosen = case.spec.validate_changes(resolved_data)
    except ValueError:
        return refused(
            ErrorCode.VALIDATION_ERROR, "resolved_data does not fit the entity type.", {"field": "resolved_data"}
        )
    return _revived(case, {**sent, **chosen})


def _merged(case: _Case) -> Json:
    is_later = _is_clients_later(case.conflict)
    return {name: _merged_value(case, name, is_later=is_later) for name in case.client_data}


def _merged_value(case: _Case, name: str, *, is_later: bool) -> object:
    base = case.conflict.base.get(name, ABSENT)
    server, client = case.data.get(name, ABSENT), case.client_data[name]
    if server is ABSENT:
        return client
    merged = merge_field(case.spec.merge.get(name, Merge.ESCALATE), base, server, client)
    if merged is not IN_CONFLICT and base is not ABSENT and fits(case.spec, name, merged):
        return merged
    return chosen_value(Strategy.MERGE, case.spec, name, base, server, client, is_later=is_later)


def _is_clients_later(conflict: Conflict) -> bool:
    client = Stamp(conflict.client_modified_at, conflict.client_id)
    return client > Stamp(conflict.server_modified_at, ClientId(""))


def _kept(case: _Case) -> Outcome:
    return Outcome(Verdict.APPLIED, Rule.RESOLVED, deleted=case.is_deleted)


def _deleted(case: _Case) -> Outcome:
    entity = case.entity
    if entity is None or entity.deleted:
        return _kept(case)
    if parked_delete(entity, case.spec, case.surroundings) is not None:
        return refused(ErrorCode.CONFLICT, "Other entities still have this one as their parent.")
    return Outcome(Verdict.APPLIED, Rule.RESOLVED, data=entity.data, deleted=True)


def _changed(case: _Case, changes: Json) -> Outcome:
    """New values for an entity that stays alive or deleted as it is."""
    return _kept(case) if case.is_deleted else _revived(case, changes)


def _revived(case: _Case, changes: Json) -> Outcome:
    conflict, entity = case.conflict, case.entity
    is_live = entity is not None and not entity.deleted
    if is_live and all(equal(value, case.data.get(name, ABSENT)) for name, value in changes.items()):
        return _kept(case)
    space_id = conflict.space_id if entity is None else entity.space_id
    key = EntityKey(conflict.entity_type, conflict.entity_id)
    target = Target(key, space_id, case.operation_id, case.data if is_live else None)
    try:
        data = {**case.data, **changes}
        data = case.spec.validate_new(data) if entity is None else data
    except ValueError:
        return refused(ErrorCode.VALIDATION_ERROR, "The entity is gone, and this does not make a whole new one.")
    data, disputes = constrain(target, data, case.spec, case.surroundings)
    waiting = [name for dispute in disputes if dispute.is_open for name in dispute.fields]
    if waiting:
        return refused(ErrorCode.CONFLICT, f"{waiting[0]} still violates a constraint.", {"field": waiting[0]})
    return Outcome(Verdict.APPLIED, Rule.RESOLVED, data=data, disputes=disputes)


def _part(data: Json, names: Iterable[str]) -> Json:
    return {name: data[name] for name in names if name in data}
