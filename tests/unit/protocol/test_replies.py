"""Frames that say the same through whatever part of the server sends them."""

from sync_server.errors import CloseCode, CommandError, ErrorCode
from sync_server.protocol.replies import error_frame, goodbye


class TestAnErrorFrame:
    def test_tells_what_the_error_knows(self) -> None:
        error = CommandError(ErrorCode.RATE_LIMIT_EXCEEDED, "Too many.", details={"limit": 3}, retry_after_ms=250)
        assert error_frame(error, message_id="m1") == {
            "type": "error",
            "message_id": "m1",
            "error": "Too many.",
            "error_code": "RATE_LIMIT_EXCEEDED",
            "details": {"limit": 3},
            "retryable": True,
            "retry_after_ms": 250,
        }

    def test_tells_that_one_may_try_again_at_once(self) -> None:
        error = CommandError(ErrorCode.TIMEOUT, "It took too long.", retry_after_ms=0)
        assert error_frame(error)["retry_after_ms"] == 0

    def test_leaves_out_what_is_not_known(self) -> None:
        frame = error_frame(CommandError(ErrorCode.NOT_FOUND, "No such entity."))
        assert set(frame) == {"type", "error", "error_code", "details", "retryable"}


class TestAGoodbye:
    def test_says_whether_to_come_back(self) -> None:
        assert goodbye(CloseCode.DRAINING, "the server restarts", 100) == {
            "type": "goodbye",
            "code": 4000,
            "reason": "the server restarts",
            "reconnect": True,
            "retry_after_ms": 100,
        }
        assert goodbye(CloseCode.BAD_FRAME, "bad")["reconnect"] is False
