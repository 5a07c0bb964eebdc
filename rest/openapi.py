"""The HTTP routes as an OpenAPI 3.1 document, derived from the route table and the models (https://spec.openapis.org)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from rest.endpoint import Endpoint
from rest.requests import PATH_PARAMETERS
from rest.table import ENDPOINTS
from schema.registry import Registry
from sync_server.errors import ErrorCode
from sync_server.protocol.client_messages import Operation
from sync_server.protocol.tables import ERROR_MEANINGS
from sync_server.protocol.versions import SERVER_VERSION
from sync_server.types import Json

TEMPLATE = "#/components/schemas/{model}"
ALWAYS = (
    ErrorCode.VALIDATION_ERROR,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.RATE_LIMIT_EXCEEDED,
    ErrorCode.SYNC_ERROR,
    ErrorCode.NETWORK_ERROR,
)
"""What every route may answer."""
TAGS: Mapping[str, str] = {
    "Sync": "Operations in, verdicts out.",
    "Feed": "What changed, for clients that cannot keep a WebSocket.",
    "Conflicts": "What waits for a person, and settling it.",
    "Entities": "Single entities: what they are, were, and how states differ.",
    "Spaces": "Units of sharing, and who belongs to them.",
    "Server": "Whether it works, and its documents. No token needed.",
}
_PLAIN_ROUTES: Sequence[tuple[str, str, str, tuple[int, ...]]] = (
    ("/healthz", "The process lives", "application/json", (200,)),
    ("/readyz", "It takes requests: the database answers, and it does not stop", "application/json", (200, 503)),
    ("/metrics", "Measurements, for Prometheus", "text/plain", (200,)),
    ("/openapi.json", "This document", "application/json", (200,)),
    ("/asyncapi.json", "The WebSocket's document", "application/json", (200,)),
    ("/docs", "Both documents, to be read", "text/html", (200,)),
)


def openapi_document(registry: Registry) -> Json:
    """The document that `/openapi.json` serves."""
    schemas, definitions = _schemas()
    paths: dict[str, Json] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.template, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    for path, summary, media_type, statuses in _PLAIN_ROUTES:
        paths[path] = {"get": _plain_operation(path, summary, media_type, statuses)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Realtime sync over HTTP",
            "version": SERVER_VERSION,
            "description": "The same engine and the same verdicts as over the WebSocket. See docs/rest.md.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**_with_typed_operations(definitions), **_entity_schemas(registry), "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


_ERROR: Json = {
    "type": "object",
    "description": "The reply to every request that failed.",
    "required": ["success", "error", "error_code", "details"],
    "properties": {
        "success": {"const": False},
        "error": {"type": "string", "description": "One sentence for who reads the client's log."},
        "error_code": {"type": "string", "enum": [code.value for code in ErrorCode]},
        "details": {"type": "object", "description": "Facts for programs, such as the field's name."},
    },
}


def _schemas() -> tuple[Mapping[tuple[str, str], Json], Json]:
    """Of each (template and method, part) its schema, and what those refer to."""
    mode: Literal["validation"] = "validation"
    inputs: list[tuple[Any, Literal["validation"], TypeAdapter[Any]]] = [
        (("operation", "body"), mode, TypeAdapter(Operation))
    ]
    for endpoint in ENDPOINTS:
        parts = {"query": endpoint.query, "body": endpoint.body, "reply": endpoint.reply}
        inputs += [((_key(endpoint), part), mode, TypeAdapter[Any](shape)) for part, shape in parts.items()]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=TEMPLATE)
    definitions: Json = shared["$defs"]
    schemas = {key: schema for (key, _), schema in found.items()}
    queries = {name: schema for name, schema in schemas.items() if name[1] == "query"}
    unshown = {"NoBody", *(schema["$ref"].rpartition("/")[2] for schema in queries.values() if "$ref" in schema)}
    schemas.update((key, _target(schema, definitions)) for key, schema in queries.items())
    return schemas, {name: schema for name, schema in definitions.items() if name not in unshown}


def _key(endpoint: Endpoint[Any, Any]) -> str:
    return f"{endpoint.method} {endpoint.path}"


def _target(schema: Json, definitions: Json) -> Json:
    target: Json = definitions[str(schema["$ref"]).rpartition("/")[2]] if "$ref" in schema else schema
    return target


def _operation(endpoint: Endpoint[Any, Any], schemas: Mapping[tuple[str, str], Json]) -> Json:
    key = _key(endpoint)
    operation: Json = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(schemas[key, "query"])],
        "responses": {str(endpoint.status): _reply(endpoint, schemas[key, "reply"]), **_error_replies(endpoint)},
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if endpoint.has_body:
        content: Json = {"schema": schemas[key, "body"]}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _operation_id(endpoint: Endpoint[Any, Any]) -> str:
    words = re.findall(r"[a-z]+", endpoint.path.replace(":path", ""))
    return "_".join([endpoint.method.lower(), *words])


def _path_parameters(endpoint: Endpoint[Any, Any]) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name][1],
            "schema": TypeAdapter(PATH_PARAMETERS[name][0]).json_schema(),
        }
        for name in re.findall(r"\{(\w+)", endpoint.path)
    ]


def _query_parameters(schema: Json) -> list[Json]:
    return [_query_parameter(name, member) for name, member in schema.get("properties", {}).items()]


def _query_parameter(name: str, member: Json) -> Json:
    choices = [one for one in member.get("anyOf", [member]) if one.get("type") != "null"]
    described = {word: value for word, value in choices[0].items() if word not in {"title", "description"}}
    if member.get("default") is not None:
        described["default"] = member["default"]
    parameter: Json = {"name": name, "in": "query", "required": False, "schema": described}
    if "description" in member:
        parameter["description"] = member["description"]
    if described.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
    return parameter


def _reply(endpoint: Endpoint[Any, Any], schema: Json) -> Json:
    if endpoint.media_type != "application/json":
        text = "Events; the data of each `server_update` is one of the schema below."
        return {"description": text, "content": {endpoint.media_type: {"schema": {"type": "string"}}}}
    success = {"type": "object", "required": ["success"], "properties": {"success": {"const": True}}}
    if endpoint.is_flat:
        whole: Json = {"allOf": [success, schema]}
    else:
        members = {**success["properties"], "data": schema}  # type: ignore[dict-item]
        whole = {"type": "object", "required": ["success", "data"], "properties": members}
    return {"description": "Done.", "content": {"application/json": {"schema": whole}}}


def _error_replies(endpoint: Endpoint[Any, Any]) -> Json:
    by_status: dict[int, list[ErrorCode]] = {}
    slow = (ErrorCode.TIMEOUT,) if endpoint.has_body else ()
    for code in dict.fromkeys((*ALWAYS, *endpoint.errors, *slow)):
        by_status.setdefault(code.status, []).append(code)
    replies: Json = {}
    for status, codes in sorted(by_status.items()):
        text = "; ".join(f"{code.value}: {ERROR_MEANINGS[code]}" for code in codes)
        replies[str(status)] = {"description": text, "content": {"application/json": {"schema": _ERROR_REF}}}
    if endpoint.has_body:
        text = "VALIDATION_ERROR: the body is too large"
        replies["413"] = {"description": text, "content": {"application/json": {"schema": _ERROR_REF}}}
    return replies


_ERROR_REF: Json = {"$ref": "#/components/schemas/Error"}


def _plain_operation(path: str, summary: str, media_type: str, statuses: Sequence[int]) -> Json:
    kind = "object" if media_type == "application/json" else "string"
    content = {media_type: {"schema": {"type": kind}}}
    responses = {str(status): {"description": "As said.", "content": content} for status in statuses}
    words = "_".join(re.findall(r"[a-z]+", path))
    return {
        "operationId": f"get_{words}",
        "summary": summary,
        "tags": ["Server"],
        "security": [],
        "responses": responses,
    }


def _with_typed_operations(definitions: Json) -> Json:
    """The server checks a request's operations one by one; the document says what each should be."""
    request = definitions["SyncRequest"]
    operations = {**request["properties"]["operations"], "items": {"$ref": TEMPLATE.format(model="Operation")}}
    return {
        **definitions,
        "SyncRequest": {**request, "properties": {**request["properties"], "operations": operations}},
    }


def _entity_schemas(registry: Registry) -> Json:
    """The declared types, as `Entity.<type>`: what stands in `data`."""
    schemas: Json = {}
    for entity_type, spec in registry.items():
        schema = spec.model.model_json_schema(ref_template=TEMPLATE)
        schemas.update(schema.pop("$defs", {}))
        schemas[f"Entity.{entity_type}"] = schema
    return schemas
