"""The documents, for programs and to be read: made from the same tables as the routes, and once."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from rest.asyncapi import asyncapi_document
from rest.endpoint import JsonResponse
from rest.openapi import TAGS, openapi_document
from rest.samples import Member, described, example_of, members_of
from schema.registry import Registry
from sync_server.errors import CloseCode, ErrorCode
from sync_server.protocol.tables import CLOSE_MEANINGS, ERROR_MEANINGS
from sync_server.types import Json

TEMPLATES = Path(__file__).with_name("templates")


class Parameter(NamedTuple):
    name: str
    place: str
    kind: str
    default: str
    description: str


class RouteView(NamedTuple):
    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Parameter]
    body_name: str
    body: list[Member]
    body_example: str
    reply_example: str
    errors: list[tuple[str, str]]


class MessageView(NamedTuple):
    anchor: str
    name: str
    members: list[Member]
    example: str


class ShapeView(NamedTuple):
    name: str
    description: str
    members: list[Member]


class Pages:
    """The documents of this server's routes and entity types."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @cached_property
    def document(self) -> Json:
        return openapi_document(self._registry)

    async def entrance(self, _: Request) -> Response:
        return RedirectResponse("/docs")

    async def openapi(self, _: Request) -> Response:
        return JsonResponse(self.document)

    async def asyncapi(self, request: Request) -> Response:
        """The WebSocket's document, naming the host that the request names."""
        document = _asyncapi()
        server = {**document["servers"]["this"], "host": request.url.netloc}
        server["protocol"] = "wss" if request.url.scheme == "https" else "ws"
        return JsonResponse({**document, "servers": {"this": server}})

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers=self._headers)

    @cached_property
    def _page(self) -> str:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )  # fmt: skip
        environment.filters["prose"] = prose
        asyncapi = _asyncapi()
        groups = {tag: list(_routes(self.document, tag)) for tag in TAGS}
        return environment.get_template("docs.html").render(
            title=self.document["info"]["title"],
            version=self.document["info"]["version"],
            style=self._style,
            tags=TAGS,
            groups=groups,
            shapes=list(_shapes(self.document)),
            entities=list(_entities(self.document)),
            client_messages=_messages(asyncapi, "client"),
            server_messages=_messages(asyncapi, "server"),
            message_shapes=list(_message_shapes(asyncapi, self.document)),
            errors=[(code.value, code.status, code.is_retryable, ERROR_MEANINGS[code]) for code in ErrorCode],
            closes=[(int(code), CLOSE_MEANINGS[code], code.action.value) for code in CloseCode],
        )

    @cached_property
    def _style(self) -> str:
        return (TEMPLATES / "docs.css").read_text(encoding="utf-8")

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        closed = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return {
            "content-security-policy": f"{closed}; style-src 'sha256-{digest}'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }


def prose(text: str) -> Markup:
    """Text with its `code` marked as such, safe to stand in HTML.

    >>> prose("`a` < b")
    Markup('<code>a</code> &lt; b')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped right here


@lru_cache(maxsize=1)
def _asyncapi() -> Json:
    return asyncapi_document()


def _routes(document: Json, tag: str) -> Iterable[RouteView]:
    definitions = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["tags"] == [tag]:
                yield _route(path, method, operation, definitions)


def _route(path: str, method: str, operation: Json, definitions: Json) -> RouteView:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    success = next(reply for status, reply in operation["responses"].items() if status.startswith("2"))
    reply = success["content"].get("application/json", {}).get("schema", {})
    is_shown = "properties" in reply or "allOf" in reply
    return RouteView(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        parameters=[_parameter(one) for one in operation.get("parameters", ())],
        body_name=described(schema) if schema else "",
        body=members_of(schema, definitions) if schema else [],
        body_example=_pretty(content["example"]) if "example" in content else "",
        reply_example=_pretty(example_of(reply, definitions)) if is_shown else "",
        errors=[
            (status, one["description"])
            for status, one in operation["responses"].items()
            if not status.startswith("2") and status not in {"401", "429", "500", "502", "504"}
        ],
    )


def _parameter(parameter: Json) -> Parameter:
    schema = parameter["schema"]
    default = schema.get("default")
    return Parameter(
        parameter["name"],
        parameter["in"],
        described(schema),
        "" if default is None else str(default),
        parameter.get("description", ""),
    )


def _shapes(document: Json) -> Iterable[ShapeView]:
    """What requests and replies are made of."""
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema and not name.startswith("Entity."):
            yield ShapeView(name, schema.get("description", ""), members_of(schema, document["components"]["schemas"]))


def _entities(document: Json) -> Iterable[ShapeView]:
    for name, schema in document["components"]["schemas"].items():
        if name.startswith("Entity."):
            text = schema.get("description", "")
            members = members_of(schema, document["components"]["schemas"])
            yield ShapeView(name.removeprefix("Entity."), text, members)


def _messages(document: Json, side: str) -> list[MessageView]:
    definitions = document["components"]["schemas"]
    return [
        MessageView(
            f"{side}-{message['name']}",
            message["name"],
            members_of(message["payload"], definitions),
            _pretty(example_of(message["payload"], definitions)),
        )
        for name, message in document["components"]["messages"].items()
        if name.startswith(f"{side}.")
    ]


def _message_shapes(document: Json, known: Json) -> Iterable[ShapeView]:
    """Shapes of messages that the HTTP routes do not use too."""
    definitions = document["components"]["schemas"]
    payloads = {message["payload"].get("$ref", "") for message in document["components"]["messages"].values()}
    messages = {ref.rpartition("/")[2] for ref in payloads}
    for name, schema in sorted(definitions.items()):
        if "properties" in schema and name not in messages and name not in known["components"]["schemas"]:
            yield ShapeView(name, schema.get("description", ""), members_of(schema, definitions))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
