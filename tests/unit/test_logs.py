import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_server.auth import issue_token
from sync_server.logs import MASK, configure_logging, log_context, redact, redacted_text
from sync_server.types import Millis, UserId

TOKEN = issue_token("s" * 32, UserId("1"), ttl_s=60, now=Millis(1_704_880_800_000))
LOGGERS = (
    "",
    "uvicorn.error",
    "uvicorn.access",
    "websockets",
    "sqlalchemy.engine",
    "alembic.runtime.plugins",
    "asyncio",
    "httpx",
    "httpcore",
)

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in LOGGERS}
    filtered = {name: logging.getLogger(name).filters[:] for name in ("uvicorn.error", "alembic.runtime.migration")}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn.access").propagate = True
    for name, filters in filtered.items():
        logging.getLogger(name).filters[:] = filters
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    configure_logging(log_format="json", log_level="debug", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


class TestLines:
    def test_of_ours_and_of_libraries_look_the_same(self, lines: Lines) -> None:
        structlog.get_logger("sync_server.hub").info("joined", spaces=2)
        logging.getLogger("alembic").info("upgraded to %s", "0001")

        ours, theirs = lines()

        assert (ours["event"], ours["spaces"], ours["level"]) == ("joined", 2, "info")
        assert theirs["event"] == "upgraded to 0001"
        assert {"event", "level", "logger", "timestamp"} <= ours.keys() & theirs.keys()

    def test_carry_the_context(self, lines: Lines) -> None:
        with log_context(connection_id="conn_1"), log_context(request_id="req_1"):
            structlog.get_logger().info("inside")
            logging.getLogger("uvicorn.error").info("inside")
        structlog.get_logger().info("outside")

        *inside, outside = lines()

        assert [(line["connection_id"], line["request_id"]) for line in inside] == [("conn_1", "req_1")] * 2
        assert "connection_id" not in outside

    def test_carry_exceptions_as_text(self, lines: Lines) -> None:
        try:
            raise ValueError(TOKEN)
        except ValueError:
            structlog.get_logger().exception("ours")
            logging.getLogger("uvicorn.error").exception("theirs")

        for line in lines():
            assert f"ValueError: {MASK}" in line["exception"]

    def test_below_the_level_are_dropped(self, stream: io.StringIO) -> None:
        configure_logging(log_format="json", log_level="warning", stream=stream)

        structlog.get_logger().info("ours")
        logging.getLogger("uvicorn.error").info("theirs")

        assert stream.getvalue() == ""

    def test_for_people_are_one_each(self, stream: io.StringIO) -> None:
        configure_logging(log_format="console", log_level="info", stream=stream)

        structlog.get_logger("sync_server.hub").info("joined", token=TOKEN, spaces=2)

        assert "joined" in stream.getvalue()
        assert "spaces=2" in stream.getvalue()
        assert TOKEN not in stream.getvalue()
        assert stream.getvalue().count("\n") == 1

    def test_are_not_doubled_by_a_second_configuration(self, lines: Lines, stream: io.StringIO) -> None:
        configure_logging(log_format="json", log_level="info", stream=stream)

        structlog.get_logger().info("once")

        assert len(lines()) == 1


class TestLibraries:
    def test_do_not_tell_of_each_handshake(self, lines: Lines) -> None:
        server = logging.getLogger("uvicorn.error")
        server.info('%s - "WebSocket %s" [accepted]', "127.0.0.1:1", f"/api/sync/ws?token={TOKEN}")
        server.info('%s - "WebSocket %s" %d', "127.0.0.1:1", "/api/sync/ws", 403)
        server.info("connection open")
        logging.getLogger("uvicorn.access").info('"GET /?token=%s"', TOKEN)

        assert lines() == []

    def test_still_tell_of_errors(self, lines: Lines) -> None:
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n")

        assert [line["level"] for line in lines()] == ["error"]

    def test_do_not_list_their_plugins(self, lines: Lines) -> None:
        logging.getLogger("alembic.runtime.plugins").info("setup plugin %s", "x")
        logging.getLogger("alembic.runtime.migration").info("Running upgrade")

        assert [line["event"] for line in lines()] == ["Running upgrade"]

    def test_do_not_print_frames_or_rows(self, lines: Lines) -> None:
        logging.getLogger("websockets.server").debug("< TEXT %r", {"token": TOKEN})
        logging.getLogger("sqlalchemy.engine.Engine").info("INSERT %r", ("diary",))

        assert lines() == []


class TestSecrets:
    @pytest.mark.parametrize(
        "name", ["token", "auth_token", "SYNC_AUTH_SECRET", "Authorization", "password", "api_key", "apikey", "Cookie"]
    )
    def test_are_known_by_their_name(self, lines: Lines, name: str) -> None:
        structlog.get_logger().info("x", **{name: "hunter2"}, headers={name: b"hunter2"}, deep=[({name: ["hunter2"]},)])

        assert "hunter2" not in json.dumps(lines())

    @pytest.mark.parametrize(
        "text",
        [
            "{}",
            "bad token {}!",
            "/api/sync/ws?token={}",
            "Authorization: Bearer {}",
            '{{"type": "auth", "token": "{}"}}',
            "b'{}'",
        ],
    )
    def test_are_known_by_their_look(self, lines: Lines, text: str) -> None:
        logger, theirs = structlog.get_logger(), logging.getLogger("library")
        logger.info(text.format(TOKEN))
        logger.info("%s", text.format(TOKEN))
        logger.info(
            "x", frame=text.format(TOKEN), raw=text.format(TOKEN).encode(), error=ValueError(text.format(TOKEN))
        )
        theirs.warning("%s", text.format(TOKEN))

        shown = json.dumps(lines())

        assert len(lines()) == 4
        assert not any(part in shown for part in TOKEN.split("."))

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("postgresql://sync:hunter2@db/sync", f"postgresql://sync:{MASK}@db/sync"),
            ("/x?access_token=abc&v=1", f"/x?access_token={MASK}&v=1"),
            ("Login(token='abc', user='1')", f"Login(token='{MASK}', user='1')"),
            ("{'password': 'abc def'}", f"{{'password': '{MASK}'}}"),
            ("authorization: bearer abc", f"authorization: bearer {MASK}"),
            (
                "SYNC_AUTH_SECRET must be set; the token has expired",
                "SYNC_AUTH_SECRET must be set; the token has expired",
            ),
        ],
    )
    def test_are_cut_out_of_texts(self, text: str, shown: str) -> None:
        assert redacted_text(text) == shown

    def test_are_cut_out_at_any_depth(self) -> None:
        value: Any = {"cookie": "hunter2", "note": TOKEN}
        for _ in range(20):
            value = [value]

        shown = repr(redact(None, "info", {"event": "x", "value": value}))

        assert "hunter2" not in shown
        assert TOKEN not in shown

    def test_leave_numbers_and_plain_words_alone(self) -> None:
        event = {"event": "batch", "tokens": 3, "ok": True, "none": None, "ratio": 0.5, "word": "eye.of.newt"}

        assert redact(None, "info", dict(event)) == event

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
    def test_stay_out_of_any_value(self, value: object) -> None:
        shown = redact(None, "info", {"event": "x", "value": [value, {TOKEN: TOKEN}], "text": f"{value}{TOKEN}{value}"})

        assert TOKEN not in repr(shown)
