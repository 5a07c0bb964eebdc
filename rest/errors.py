"""The one place where an error becomes a reply in the contract's shape (T3 contract, "错误处理")."""

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rest.endpoint import BodyTooLarge, JsonResponse
from sync_server.errors import CommandError, ErrorCode, Unavailable
from sync_server.types import Json

_log = structlog.get_logger(__name__)
_METHOD_NOT_ALLOWED = 405
_NOT_FOUND = 404


def error_response(error: Exception) -> Response:
    """The reply to a request that failed. What is not an answer of ours is logged, and its text stays here."""
    if isinstance(error, HTTPException):
        return _of_routing(error)
    if isinstance(error, CommandError):
        status = error.status if isinstance(error, BodyTooLarge | Unavailable) else error.code.status
        return _response(error, status)
    _log.exception("request_failed", exc_info=error)
    return _response(CommandError(ErrorCode.SYNC_ERROR, "The server failed; try again."), ErrorCode.SYNC_ERROR.status)


async def refuse(_: Request, error: Exception) -> Response:
    """`error_response`, as Starlette asks for it."""
    return error_response(error)


def body_of(error: CommandError) -> Json:
    """The contract's error body."""
    return {"success": False, "error": error.message, "error_code": error.code, "details": error.details}


def _of_routing(error: HTTPException) -> Response:
    if error.status_code == _NOT_FOUND:
        found = CommandError(ErrorCode.NOT_FOUND, "There is no such path; GET /docs lists them all.")
    elif error.status_code == _METHOD_NOT_ALLOWED:
        found = CommandError(ErrorCode.VALIDATION_ERROR, "This path does not take this method; see GET /docs.")
    else:
        found = CommandError(ErrorCode.VALIDATION_ERROR, "The request cannot be read.")
    response = _response(found, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _response(error: CommandError, status: int) -> Response:
    response = JsonResponse(body_of(error), status)
    if error.retry_after_ms is not None:
        response.headers["retry-after"] = str(-(-error.retry_after_ms // 1_000))
    if error.code is ErrorCode.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"
    return response
