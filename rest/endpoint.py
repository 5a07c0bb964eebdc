"""What a route is, and how a request becomes a call of it: limits, token, query and body, in this order."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from rest.requests import PATH_PARAMETERS, Query
from sync_server.addresses import client_address, limit_key
from sync_server.auth import Principal
from sync_server.errors import CommandError, ErrorCode, ProtocolError
from sync_server.handlers.auth import check_token
from sync_server.handlers.feeds import Walks
from sync_server.protocol.client_messages import Inbound
from sync_server.protocol.codec import JSON
from sync_server.protocol.validation import first_problem, validation_error
from sync_server.services import Services
from sync_server.types import Json, UserId

PREFIX = "/api/sync"
BODY_DEADLINE_S = 30.0
"""How long a client may take to send a body, however it trickles."""
Q = TypeVar("Q", bound=Query)
B = TypeVar("B", bound=Inbound)


class BodyTooLarge(CommandError):  # noqa: N818  a verdict on the request
    """The body is larger than the server takes."""

    status = 413

    def __init__(self, most: int) -> None:
        message = f"The body has more than {most} bytes; send the operations in several requests."
        super().__init__(ErrorCode.VALIDATION_ERROR, message, details={"max_bytes": most})


class NoBody(Inbound):
    """A request without a body."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A request that was let in: who asks, and what was sent, checked."""

    services: Services
    walks: Walks
    principal: Principal
    request: Request
    query: Q
    body: B

    @property
    def user_id(self) -> UserId:
        return self.principal.user_id

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[Q, B]):
    """One route under the prefix: the source of what is served and of what is documented.

    Attributes:
        reply: what stands in the reply's `data`; where `is_flat`, beside its `success`.
        errors: the codes it answers with besides those that every route may.
        example: a body that shows its use.
    """

    method: str
    path: str
    summary: str
    tag: str
    handle: Callable[[Call[Q, B]], Awaitable[Any]]
    reply: Any
    query: type[Q]
    body: type[B]
    description: str = ""
    errors: tuple[ErrorCode, ...] = ()
    status: int = 200
    is_flat: bool = False
    media_type: str = "application/json"
    example: Json | None = None

    @property
    def template(self) -> str:
        return PREFIX + self.path.replace(":path}", "}")

    @property
    def has_body(self) -> bool:
        return self.body is not NoBody


class JsonResponse(Response):
    """JSON that may hold stored texts, spliced and not parsed."""

    media_type = "application/json"

    def render(self, content: Mapping[str, object]) -> bytes:
        return JSON.encode(content)


def application(endpoint: Endpoint[Any, Any], walks: Walks) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint as Starlette calls it."""

    async def answer(request: Request) -> Response:
        services: Services = request.app.state.services
        principal = await _admitted(services, request)
        _check_path(request)
        query = _checked(endpoint.query, _parameters(request), "query")
        body: Inbound = NoBody()
        if endpoint.has_body:
            body = _checked(endpoint.body, await _json(request, services.settings.max_message_bytes), "body")
        result = await endpoint.handle(Call(services, walks, principal, request, query, body))
        if isinstance(result, Response):
            return result
        content = {"success": True, **result} if endpoint.is_flat else {"success": True, "data": result}
        return JsonResponse(content, endpoint.status)

    return answer


async def _admitted(services: Services, request: Request) -> Principal:
    """Whom the request's token names, if neither they nor their address ask too often.

    Raises:
        CommandError: RATE_LIMIT_EXCEEDED, UNAUTHORIZED.
    """
    address = client_address(request.scope, services.settings.trusted_proxies)
    services.request_limit.spend(f"address:{limit_key(address)}")
    principal = await check_token(services, _token(request))
    services.request_limit.spend(f"user:{principal.user_id}")
    await services.users.ensure(principal.user_id)
    return principal


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        message = "This needs a token: send it in the header Authorization: Bearer <token>."
        raise CommandError(ErrorCode.UNAUTHORIZED, message)
    return token.strip()


_PATH: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, (kind, _) in PATH_PARAMETERS.items()}


def _check_path(request: Request) -> None:
    for name, value in request.path_params.items():
        try:
            _PATH[name].validate_python(value)
        except ValidationError as error:
            problem = validation_error(name, first_problem(error)[1])
            problem.details["in"] = "path"
            raise problem from None


def _parameters(request: Request) -> Json:
    """The query by name; a list where a name is repeated."""
    values = {name: request.query_params.getlist(name) for name in request.query_params}
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


async def _json(request: Request, most: int) -> Json:
    """The body, one JSON object; reading stops where it is too large.

    Raises:
        CommandError: VALIDATION_ERROR, TIMEOUT.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise BodyTooLarge(most)
    received = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for chunk in request.stream():
                received += chunk
                if len(received) > most:
                    raise BodyTooLarge(most)
    except TimeoutError:
        raise CommandError(ErrorCode.TIMEOUT, "The body did not come in time; nothing of it was done.") from None
    try:
        return JSON.decode(received.decode())
    except (ProtocolError, UnicodeDecodeError):
        problem = "must be one JSON object, nested at most 64 levels"
        raise CommandError(
            ErrorCode.VALIDATION_ERROR, f"The body {problem}.", details={"field": "", "problem": problem}
        ) from None


Model = TypeVar("Model", bound=BaseModel)


def _checked(model: type[Model], values: Json, place: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = validation_error(*first_problem(error))
        problem.details["in"] = place
        raise problem from None
