"""An entity type as the server sees it, derived once from a declared pydantic model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol, Required, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from schema.policy import DeletePolicy, Merge, Reference, Rules, Unique
from sync_server.types import IDENTIFIER_PATTERN, MAX_WIRE_INTEGER, EntityType, Json, Strategy, format_id, parse_id

EntityIdField = Annotated[int, Field(ge=1, le=MAX_WIRE_INTEGER)] | Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
"""An entity's id on the wire: an integer that the server assigned, or a string that a client chose."""


class Ref(TypedDict):
    """Names an entity that an earlier operation of the same request creates, before its id is known."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    ref: Annotated[str, Field(min_length=1, max_length=128)]


class EntityModel(BaseModel):
    """Base of a declared entity type: fields with their policies, `rules` with everything else.

    A field without a default must be there when the entity is created. What a client does not send is not stored, so
    a default only tells readers what absence means.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    rules: ClassVar[Rules]


ECHOED_FIELDS = frozenset({"id", "version", "created_at", "updated_at"})
"""What the server adds to an entity's data; ignored when a client sends it back."""


class _Validator(Protocol):
    """The adapter's own validator: half the cost of asking the adapter, for each operation."""

    def validate_python(self, input: Any, /) -> Any: ...  # noqa: A002  pydantic's name


@dataclass(frozen=True, slots=True)
class EntitySpec:
    """What validation, merge, storage and documents need to know of an entity type."""

    entity_type: EntityType
    model: type[EntityModel]
    merge: Mapping[str, Merge]
    references: Mapping[str, Reference]
    unique: tuple[Unique, ...]
    strategy: Strategy
    deletes: DeletePolicy
    _complete: _Validator = field(repr=False)
    _partial: _Validator = field(repr=False)

    def validate_new(self, data: Json) -> Json:
        """The fields of a new entity, checked and in canonical form.

        Raises:
            pydantic.ValidationError: a field is unknown, missing or of another type.
        """
        return self._canonical(self._complete.validate_python(_without_echo(data)))

    def validate_changes(self, changes: Json) -> Json:
        """The changed fields of an entity, checked and in canonical form.

        Raises:
            pydantic.ValidationError: a field is unknown or of another type.
        """
        return self._canonical(self._partial.validate_python(_without_echo(changes)))

    def _canonical(self, data: Json) -> Json:
        for name in self.references:
            value = data.get(name)
            if isinstance(value, str):
                data[name] = format_id(parse_id(value))
        return data


def entity_spec(model: type[EntityModel]) -> EntitySpec:
    """Derive the spec of a declared type.

    Raises:
        TypeError: a reference field cannot be null, so that a gone parent could not be repaired; a unique key names a
            field that the model does not have, or ends in one that is no text; or a field has a name that the server
            adds itself.
    """
    rules = model.rules
    merge: dict[str, Merge] = {}
    references: dict[str, Reference] = {}
    for name, info in model.model_fields.items():
        merge[name] = next((m for m in info.metadata if isinstance(m, Merge)), Merge.ESCALATE)
        reference = next((m for m in info.metadata if isinstance(m, Reference)), None)
        if reference is not None:
            references[name] = reference
    _check(model, references)
    return EntitySpec(
        entity_type=rules.entity_type,
        model=model,
        merge=merge,
        references=references,
        unique=rules.unique,
        strategy=rules.strategy,
        deletes=rules.deletes,
        _complete=_adapter(model, references, partial=False).validator,
        _partial=_adapter(model, references, partial=True).validator,
    )


def _check(model: type[EntityModel], references: Mapping[str, Reference]) -> None:
    fields = model.model_fields
    for name in fields.keys() & ECHOED_FIELDS:
        message = f"{model.__name__}.{name}: the server adds a field of this name itself; choose another"
        raise TypeError(message)
    for name in references:
        if type(None) not in get_args(fields[name].annotation):
            message = f"{model.__name__}.{name}: a reference must allow None, the root, for when its parent is gone"
            raise TypeError(message)
    for unique in model.rules.unique:
        missing = [name for name in unique.fields if name not in fields]
        if missing or not unique.fields:
            message = f"{model.__name__}: a unique key names {missing}, which the model does not have"
            raise TypeError(message)
        if _plain(fields[unique.fields[-1]].annotation) is not str:
            message = f"{model.__name__}: the last field of a unique key takes the suffix, so it must be a text"
            raise TypeError(message)


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _adapter(model: type[EntityModel], references: Mapping[str, Reference], *, partial: bool) -> TypeAdapter[Any]:
    # A TypedDict keeps what was sent and nothing else: absent fields stay absent.
    hints: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        constraints = [m for m in info.metadata if not isinstance(m, Merge | Reference)]
        annotation: Any = info.annotation
        for constraint in constraints:
            annotation = Annotated[annotation, constraint]
        if name in references:
            annotation = annotation | Ref
        hints[name] = annotation if partial or not info.is_required() else Required[annotation]
    shape = TypedDict(model.__name__, hints, total=False)  # type: ignore[misc]
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    shape.__pydantic_config__ = config  # type: ignore[attr-defined]
    return TypeAdapter(shape)


def _without_echo(data: Json) -> Json:
    if ECHOED_FIELDS.isdisjoint(data):
        return data
    return {name: value for name, value in data.items() if name not in ECHOED_FIELDS}
