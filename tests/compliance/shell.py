"""The smallest shell around the machine: no socket, no store, and time that passes when it is told to."""

from collections import deque
from contextlib import suppress

from sync_server.errors import CloseCode, ErrorCode, ProtocolError
from sync_server.protocol.client_messages import (
    Auth,
    ClientMessage,
    Handshake,
    Operation,
    ResolveConflict,
    Subscribe,
    Sync,
)
from sync_server.protocol.codec import JSON, Codec
from sync_server.protocol.machine import Close, Command, Deliver, Machine, MachineLimits, Send
from sync_server.protocol.operations import RefusedOperation, parse_operations
from sync_server.protocol.states import State
from sync_server.protocol.versions import PROTOCOL_VERSION, SERVER_VERSION
from sync_server.types import Json, Millis, Verdict, format_time

from .transcript import Said

BORN = Millis(1_704_880_800_000)
TOKEN_LIFE_S = 3_600.0


class MachinePeer:
    """A server in process, as a transcript talks to it.

    Attributes:
        visited: each (state, message type) that a frame of the client met.
    """

    def __init__(self, codec: Codec = JSON, limits: MachineLimits | None = None) -> None:
        self.visited: set[tuple[State, str]] = set()
        self._codec = codec
        self._now = 0.0
        self._machine = Machine(codec, limits if limits is not None else MachineLimits(), now=0.0)
        self._said: deque[Said] = deque()
        self._refused = False

    def send(self, frame: str | bytes) -> None:
        self._visit(frame)
        self._carry_out(self._machine.receive(frame, now=self._now))

    def wait(self, seconds: float) -> None:
        end = self._now + seconds
        while self._machine.deadline <= end:
            self._now = max(self._now, self._machine.deadline)
            self._carry_out(self._machine.tick(self._now))
            assert self._machine.deadline > self._now, "a tick at the deadline leaves the deadline where it was"
        self._now = end

    def drain(self) -> None:
        self._carry_out(self._machine.drain())

    def hang_up(self) -> None:
        self._machine.closed()

    def take(self) -> Said | None:
        return self._said.popleft() if self._said else None

    def _visit(self, frame: str | bytes) -> None:
        with suppress(ProtocolError):
            self.visited.add((self._machine.state, str(self._codec.decode(frame).get("type"))))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(message):
                    self._write(message)
                case Deliver(message):
                    self._answer(message)
                case Close(code):
                    self._said.append(int(code))

    def _write(self, message: Json) -> None:
        payload = self._codec.encode({"timestamp": self._text(self._now)} | message)
        self._said.append(self._codec.decode(payload.decode() if self._codec.opcode_is_text else payload))

    def _text(self, at: float) -> str:
        return format_time(Millis(BORN + round(at * 1000)))

    def _answer(self, message: ClientMessage) -> None:
        match message:
            case Handshake():
                self._greet(message)
            case Auth():
                self._write({"type": "auth", "message_id": message.message_id} | self._authenticate(message.token))
                self._close_if_refused()
            case Sync():
                self._write(self._sync_response(message))
            case Subscribe():
                self._write({"type": "subscribed", "message_id": message.message_id, "spaces": ["u-1"]})
                self._write({"type": "caught_up", "cursor": "c-1"})
            case ResolveConflict():
                settled = {"conflict_id": message.resolution.conflict_id, "success": True, "new_version": 4}
                self._write({"type": "conflict_resolved", "message_id": message.message_id} | settled)

    def _greet(self, handshake: Handshake) -> None:
        reply: Json = {
            "type": "handshake",
            "message_id": handshake.message_id,
            "success": True,
            "server_id": "server-1",
            "protocol_version": PROTOCOL_VERSION,
            "connection_id": "conn_1",
        }
        self._machine.greeted()
        if handshake.token is not None:
            reply["auth"] = self._authenticate(handshake.token)
        self._write(reply)
        if handshake.token is not None:
            self._close_if_refused()

    def _authenticate(self, token: str) -> Json:
        life_s = float(token[9:-1]) if token.startswith("good for ") else TOKEN_LIFE_S
        self._refused = not token.startswith("good")
        if self._refused:
            return {"success": False, "error": "The token is not valid.", "error_code": ErrorCode.UNAUTHORIZED}
        expires_at = self._now + life_s
        expires_at_text = self._text(expires_at)
        self._machine.authenticated(expires_at=expires_at, expires_at_text=expires_at_text, now=self._now)
        return {"success": True, "user_id": 1, "cursor": "c-0", "expires_at": expires_at_text}

    def _close_if_refused(self) -> None:
        if self._refused:
            self._carry_out(self._machine.close(CloseCode.UNAUTHORIZED, "the token is not valid"))

    def _sync_response(self, sync: Sync) -> Json:
        results = [_result(one) for one in parse_operations(sync.data.operations)]
        return {
            "type": "sync_response",
            "message_id": sync.message_id,
            "request_id": sync.data.request_id,
            "data": {
                "request_id": sync.data.request_id,
                "server_time": self._text(self._now),
                "protocol_version": PROTOCOL_VERSION,
                "status": "success" if all(result["success"] for result in results) else "failed",
                "operation_results": results,
                "server_updates": [],
                "conflicts": [],
                "new_client_state": {"client_id": sync.data.client_id, "server_version": SERVER_VERSION},
            },
        }


def _result(operation: Operation | RefusedOperation) -> Json:
    if isinstance(operation, Operation):
        return {"operation_id": operation.operation_id, "success": True, "verdict": Verdict.APPLIED}
    return {
        "operation_id": operation.operation_id,
        "success": False,
        "verdict": Verdict.REJECTED,
        "error": operation.error.message,
        "error_code": operation.error.code,
        "details": operation.error.details,
    }
