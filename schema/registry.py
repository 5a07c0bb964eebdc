"""Which entity types this server knows: its own and those of the module in `SYNC_ENTITY_TYPES`."""

import importlib
from collections.abc import Iterable, Mapping

from schema.entities import ENTITY_TYPES
from schema.entity import EntityModel, EntitySpec, entity_spec
from sync_server.types import EntityType

Registry = Mapping[EntityType, EntitySpec]


def registry(models: Iterable[type[EntityModel]]) -> Registry:
    """The specs of these types by wire name.

    Raises:
        TypeError: two types have one name, a reference names a type that is not among them, or a type is
            declared wrong.
    """
    specs: dict[EntityType, EntitySpec] = {}
    for model in models:
        spec = entity_spec(model)
        if spec.entity_type in specs:
            message = f"two entity types are named {spec.entity_type!r}"
            raise TypeError(message)
        specs[spec.entity_type] = spec
    for spec in specs.values():
        for name, reference in spec.references.items():
            if reference.entity_type not in specs:
                message = (
                    f"{spec.entity_type}.{name} refers to {reference.entity_type!r}, which no entity type is named"
                )
                raise TypeError(message)
    return specs


def load_registry(module_name: str | None) -> Registry:
    """The contract's types and, where a module is named, every `EntityModel` that its `ENTITY_TYPES` lists.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no `ENTITY_TYPES`.
        TypeError: see `registry`.
    """
    if module_name is None:
        return registry(ENTITY_TYPES)
    return registry((*ENTITY_TYPES, *importlib.import_module(module_name).ENTITY_TYPES))
