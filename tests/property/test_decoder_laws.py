"""Laws of the small decoders: of texts, headers, tokens, queries and settings. Each raises its own error or none.

The frames and the operations have laws of their own in the modules beside this one.
"""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rest import requests
from rest.endpoint import Endpoint
from rest.table import ENDPOINTS
from sync_server.addresses import client_address, is_allowed_origin, limit_key
from sync_server.auth import MAX_TOKEN_LENGTH, Authenticator, issue_token
from sync_server.config import Settings, load_settings
from sync_server.cursor import Cursor, Scan, ScanKind, format_cursor, parse_cursor
from sync_server.errors import CommandError, ConfigurationError
from sync_server.protocol.codec import JSON
from sync_server.protocol.validation import MAX_PATH_LENGTH, first_problem
from sync_server.types import Millis, Seq, SpaceId, UserId, format_id, format_time, parse_id, parse_time

KEY = "a secret for tests, at least 32 bytes long"
TOKENS = Authenticator(secret=KEY)
PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=80)
SEQS = st.integers(0, 10**18 - 1).map(Seq)
SPACES = st.from_regex(r"[A-Za-z0-9_\-]{1,66}", fullmatch=True).map(SpaceId)
CURSORS = st.builds(
    Cursor,
    st.from_regex(r"[0-9a-f]{1,32}", fullmatch=True),
    SEQS,
    st.none() | st.builds(Scan, st.sampled_from(ScanKind), st.none() | SPACES, SEQS, SEQS),
    SEQS,
)
CLAIMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(["10.0.0.1", "2001:db8::1", "fe80::1%eth0", "::ffff:10.0.0.1"])


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


class TestACursor:
    @given(cursor=CURSORS)
    def test_is_read_as_it_was_written(self, cursor: Cursor) -> None:
        assert parse_cursor(format_cursor(cursor)) == cursor

    @given(text=ANY_TEXT | st.text("0123456789abcdef.srvMTI-_=", max_size=60).map(lambda text: encoded(text.encode())))
    def test_of_others_is_refused_or_one_that_could_be_ours(self, text: str) -> None:
        with suppress(CommandError):
            cursor = parse_cursor(text)
            assert parse_cursor(format_cursor(cursor)) == cursor


class TestAnId:
    @given(wire=st.integers(0, 2**53 - 1) | st.from_regex(r"[A-Za-z0-9_\-]{1,64}", fullmatch=True))
    def test_has_one_stored_text_and_one_form_on_the_wire(self, wire: int | str) -> None:
        stored = parse_id(wire)
        assert parse_id(format_id(stored)) == stored
        assert isinstance(wire, str) or format_id(stored) == wire


class TestAMoment:
    @given(at=st.datetimes(timezones=st.timezones() | st.none(), allow_imaginary=False))
    def test_is_read_as_it_is_written(self, at: Any) -> None:
        try:
            found = parse_time(at.isoformat())
        except ValueError:
            assert at.year in {1, 9_999}  # its offset leads out of the calendar
            return
        assert parse_time(format_time(found)) == found

    @given(text=ANY_TEXT | st.text("0123456789-:.TZ+ W", max_size=35))
    @example("9999-12-31T23:59:59.9996Z")
    def test_of_any_text_can_be_told_or_is_refused(self, text: str) -> None:
        try:
            found = parse_time(text)
        except ValueError:
            return
        assert parse_time(format_time(found)) == found


class TestAToken:
    @given(text=ANY_TEXT | st.text("ey.J-_=A9", max_size=60) | st.just("." * MAX_TOKEN_LENGTH))
    def test_of_noise_is_refused(self, text: str) -> None:
        with pytest.raises(CommandError):
            TOKENS.authenticate(text, now=Millis(0))

    @given(header=CLAIMS.map(json.dumps) | st.integers(1, 6_000).map("[".__mul__), claims=CLAIMS.map(json.dumps))
    def test_of_any_json_is_refused(self, header: str, claims: str) -> None:
        text = f"{encoded(header.encode())}.{encoded(claims.encode())}.{encoded(b'x' * 32)}"
        with pytest.raises(CommandError):
            TOKENS.authenticate(text, now=Millis(0))

    @given(claims=st.fixed_dictionaries({"sub": CLAIMS, "aud": CLAIMS, "exp": CLAIMS}, optional={"nbf": CLAIMS}))
    def test_that_is_signed_names_somebody_or_is_refused(self, claims: dict[str, Any]) -> None:
        token = jwt.api_jws.encode(json.dumps(claims).encode(), KEY, "HS256")
        try:
            principal = TOKENS.authenticate(token, now=Millis(0))
        except CommandError:
            return
        assert format_time(principal.expires_at)

    @given(user=st.from_regex(r"[A-Za-z0-9_\-]{1,64}", fullmatch=True), ttl_s=st.integers(1, 10**12))
    def test_of_ours_names_its_user(self, user: str, ttl_s: int) -> None:
        token = issue_token(KEY, UserId(user), ttl_s=ttl_s, now=Millis(0))
        principal = TOKENS.authenticate(token, now=Millis(0))
        assert principal.user_id == user
        assert format_time(principal.expires_at)


class TestAnAddress:
    @given(peer=ADDRESSES | ANY_TEXT | st.none(), headers=st.lists(st.binary(max_size=60) | ADDRESSES.map(str.encode)))
    def test_is_one_or_unknown_whatever_the_proxies_say(self, peer: str | None, headers: list[bytes]) -> None:
        scope = {
            "client": (peer, 1) if peer is not None else None,
            "headers": [(b"x-forwarded-for", one) for one in headers],
        }
        found = client_address(scope, PROXIES)
        assert found == "unknown" or ip_address(found)

    @given(address=ADDRESSES | ANY_TEXT)
    def test_counts_as_one_peer_in_one_way(self, address: str) -> None:
        assert limit_key(limit_key(address)) == limit_key(address)

    @given(origin=st.binary(max_size=40), host=st.binary(max_size=40))
    def test_of_a_page_elsewhere_is_not_allowed(self, origin: bytes, host: bytes) -> None:
        scope = {"headers": [(b"origin", origin), (b"host", host)]}
        is_own = origin.lower() in {b"http://" + host.lower(), b"https://" + host.lower()}
        assert is_allowed_origin(scope, ()) == (is_own and host != b"")


def problem(read: Callable[[], object]) -> str | None:
    """What was wrong, in the words of the reply; None where it was read."""
    try:
        read()
    except ValidationError as error:
        path, clause = first_problem(error)
        assert len(path) <= MAX_PATH_LENGTH
        return clause
    return None


class TestARequest:
    @pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
    @given(data=st.data())
    def test_is_read_or_refused_with_words(self, endpoint: Endpoint[Any, Any], data: st.DataObject) -> None:
        values = CLAIMS | ANY_TEXT | st.lists(ANY_TEXT, max_size=2)
        for model in (endpoint.query, endpoint.body):
            members = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(model.model_fields, values)))
            clause = problem(lambda: model.model_validate(members))  # noqa: B023  called at once
            assert clause != ""

    @pytest.mark.parametrize("name", requests.PATH_PARAMETERS)
    @given(text=ANY_TEXT)
    def test_has_a_path_that_is_harmless_or_refused(self, name: str, text: str) -> None:
        kind: TypeAdapter[Any] = TypeAdapter(requests.PATH_PARAMETERS[name][0])
        assert problem(lambda: kind.validate_python(text)) is not None or text.isprintable() or JSON.encode({"n": text})


def refusal(name: str, text: str) -> str:
    try:
        load_settings({name: text})
    except ConfigurationError as error:
        return str(error)
    return ""


class TestASetting:
    @pytest.mark.parametrize("name", Settings.model_fields)
    @given(text=ANY_TEXT | st.integers().map(str) | st.text("0123456789./:,@-eE", max_size=30))
    def test_of_any_text_is_taken_or_refused_in_a_line(self, name: str, text: str) -> None:
        assert "\n" not in refusal(name, text)
