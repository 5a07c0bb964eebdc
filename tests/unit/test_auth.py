import base64
import hmac
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_server import auth
from sync_server.auth import (
    END_OF_TIME,
    Authenticator,
    Principal,
    TokenEarly,
    TokenExpired,
    TokenInvalid,
    TokenUntimely,
    issue_token,
)
from sync_server.errors import CommandError, ConfigurationError, ErrorCode
from sync_server.types import Millis, UserId, format_time

SECRET = "correct-horse-battery-staple-0123456789"
NOW = Millis(1_704_880_800_000)
NOW_S = NOW // 1_000
AUDIENCE = "authenticated"
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())

authenticator = Authenticator(secret=SECRET)
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["HS256", "none", "b64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def claims(**changes: Any) -> dict[str, Any]:
    values = {"sub": "1", "aud": AUDIENCE, "exp": NOW_S + 60, **changes}
    return {name: value for name, value in values.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid} if kid is not None else None)


def after(seconds: float) -> Millis:
    return Millis(NOW + round(seconds * 1_000))


def segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwk(key: Any, kid: str, **members: str) -> dict[str, str]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **members}


def key_file(path: Path, *keys: dict[str, str]) -> str:
    path.write_text(json.dumps({"keys": keys}))
    return str(path)


class TestIssuedToken:
    def test_names_its_user_until_its_end(self) -> None:
        token = issue_token(SECRET, UserId("note-taker_1"), ttl_s=3_600, now=NOW)

        principal = authenticator.authenticate(token, now=NOW)

        assert principal == Principal(UserId("note-taker_1"), after(3_600))

    def test_is_for_one_audience(self) -> None:
        token = issue_token(SECRET, UserId("1"), ttl_s=60, now=NOW, audience="elsewhere")

        with pytest.raises(TokenInvalid):
            authenticator.authenticate(token, now=NOW)


class TestExpiry:
    def test_comes_with_a_leeway(self) -> None:
        authenticator.authenticate(signed(), now=Millis(after(70) - 1))

    def test_is_told_apart(self) -> None:
        with pytest.raises(TokenExpired) as caught:
            authenticator.authenticate(signed(), now=after(70))

        assert (caught.value.code, caught.value.message) == (ErrorCode.UNAUTHORIZED, "The token has expired.")

    def test_is_measured_with_the_given_clock_alone(self) -> None:
        long_ago = signed(exp=1_000, iat=1, nbf=1)
        far_ahead = signed(exp=9_000_000_000, iat=8_000_000_000, nbf=8_000_000_000)

        assert authenticator.authenticate(long_ago, now=Millis(2_000)).expires_at == 1_000_000
        assert authenticator.authenticate(far_ahead, now=Millis(8_000_000_000_000)).expires_at == 9_000_000_000_000
        assert time.time() < 8_000_000_000

    @pytest.mark.parametrize("change", [{"sub": "a b"}, {"aud": "elsewhere"}, {"key": "x" * 32}])
    def test_of_a_wrong_token_is_not_told(self, change: dict[str, Any]) -> None:
        with pytest.raises(TokenInvalid):
            authenticator.authenticate(signed(**{"exp": NOW_S - 60, **change}), now=NOW)

    def test_beyond_the_calendar_is_its_end(self) -> None:
        principal = authenticator.authenticate(signed(exp=10**400), now=NOW)

        assert principal.expires_at == END_OF_TIME
        assert format_time(principal.expires_at) == "9999-12-31T23:59:59Z"

    def test_may_be_a_fraction(self) -> None:
        assert authenticator.authenticate(signed(exp=NOW_S + 0.5), now=NOW).expires_at == NOW + 500


class TestRememberedToken:
    """One that the secret signed is not verified again; everything else about it is."""

    def test_ends_when_it_ends(self) -> None:
        token = signed(exp=NOW_S + 60)
        authenticator.authenticate(token, now=NOW)

        with pytest.raises(TokenExpired):
            authenticator.authenticate(token, now=after(70))

    def test_is_no_other_authenticators(self) -> None:
        token = signed()
        authenticator.authenticate(token, now=NOW)

        for other in (Authenticator(secret="x" * 32), Authenticator(secret=SECRET, audience="elsewhere")):
            with pytest.raises(TokenInvalid):
                other.authenticate(token, now=NOW)

    def test_vouches_for_no_other_text(self) -> None:
        token = signed()
        header, _, signature = token.split(".")
        authenticator.authenticate(token, now=NOW)

        for forged in (f"{header}.{segment(json.dumps(claims(sub='2')).encode())}.{signature}", f"{token[:-4]}AAAA"):
            with pytest.raises(TokenInvalid):
                authenticator.authenticate(forged, now=NOW)


class TestWrongToken:
    @pytest.mark.parametrize(
        "change",
        [
            {"exp": None},
            {"exp": "never"},
            {"exp": True},
            {"exp": float("nan")},
            {"exp": float("inf")},
            {"exp": [NOW_S + 60]},
            {"sub": None},
            {"sub": 1},
            {"sub": ""},
            {"sub": "a" * 65},
            {"sub": "1\n"},
            {"sub": "a/b"},
            {"sub": "é"},
            {"aud": None},
            {"aud": "elsewhere"},
            {"aud": ["elsewhere"]},
            {"aud": 1},
            {"iat": "today"},
            {"nbf": float("nan")},
            {"key": "another-secret-of-enough-bytes-0123456789"},
            {"algorithm": "HS384", "key": SECRET * 2},
            {"algorithm": "HS512", "key": SECRET * 2},
        ],
    )
    def test_is_invalid(self, change: dict[str, Any]) -> None:
        with pytest.raises(TokenInvalid):
            authenticator.authenticate(signed(**change), now=NOW)

    @pytest.mark.parametrize("change", [{"nbf": NOW_S + 11}, {"iat": NOW_S + 11}])
    def test_is_early_where_its_issuers_clock_is_ahead(self, change: dict[str, Any]) -> None:
        """Clocks come right again: a client that took it for invalid would never come back."""
        with pytest.raises(TokenEarly):
            authenticator.authenticate(signed(**change), now=NOW)

    @pytest.mark.parametrize("change", [{"nbf": NOW_S + 10}, {"iat": NOW_S + 10}, {"aud": ["x", AUDIENCE]}])
    def test_is_not_one_within_the_leeway_or_with_several_audiences(self, change: dict[str, Any]) -> None:
        assert authenticator.authenticate(signed(**change), now=NOW).user_id == "1"

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
    def test_is_one_without_signature(self, algorithm: str) -> None:
        header = segment(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())

        with pytest.raises(TokenInvalid):
            authenticator.authenticate(f"{header}.{segment(json.dumps(claims()).encode())}.", now=NOW)

    @pytest.mark.parametrize(
        "token",
        [
            "",
            ".",
            "..",
            "a.b.c",
            "not a token",
            "\ud800",
            "é.é.é",
            signed()[:-2],
            signed() + "A",
            signed() + ".x",
            " " + signed(),
            segment(b"[" * 5_000) + ".e30.AA",
            segment(b'{"alg": ["HS256"]}') + ".e30.AA",
            segment(b'{"alg": "HS256", "kid": 1}') + ".e30.AA",
            segment(b'{"alg": "HS256", "crit": ["b64"], "b64": false}') + "..AA",
            segment(b"null") + ".e30.AA",
        ],
    )
    def test_may_be_any_text(self, token: str) -> None:
        with pytest.raises(TokenInvalid):
            authenticator.authenticate(token, now=NOW)

    @patient
    @given(st.text() | st.lists(st.binary(), max_size=4).map(lambda parts: ".".join(map(segment, parts))))
    def test_never_raises_anything_else(self, token: str) -> None:
        with pytest.raises(TokenInvalid):
            authenticator.authenticate(token, now=NOW)

    @patient
    @given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]), json_values))
    def test_may_have_any_header(self, header: dict[str, Any]) -> None:
        token = f"{segment(json.dumps(header).encode())}.{segment(json.dumps(claims()).encode())}.AAAA"

        with pytest.raises(TokenInvalid):
            authenticator.authenticate(token, now=NOW)

    @patient
    @given(st.dictionaries(st.sampled_from(["sub", "aud", "exp", "nbf", "iat", "iss", "jti"]), json_values))
    def test_may_claim_anything(self, claimed: dict[str, Any]) -> None:
        body = f"{segment(json.dumps({'alg': 'HS256'}).encode())}.{segment(json.dumps(claimed).encode())}"
        signature = segment(hmac.digest(SECRET.encode(), body.encode(), "sha256"))

        with pytest.raises((TokenInvalid, TokenUntimely)):
            authenticator.authenticate(f"{body}.{signature}", now=NOW)

    def test_that_is_long_is_refused_before_it_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(auth, "_TOKENS", None)

        with pytest.raises(TokenInvalid):
            authenticator.authenticate(signed(name="x" * 8_192), now=NOW)

    @pytest.mark.parametrize("token", [signed(aud="elsewhere"), signed(sub="a/b"), signed(exp=None), "a.b.c"])
    def test_does_not_say_why(self, token: str) -> None:
        with pytest.raises(TokenInvalid) as caught:
            authenticator.authenticate(token, now=NOW)

        assert caught.value.message == "The token is invalid."
        assert caught.value.details == {}
        assert "jwt.exceptions" not in "".join(traceback.format_exception(caught.value))


class TestKeyFile:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> str:
        return key_file(tmp_path / "keys.json", jwk(RSA_KEY, "rsa-1"), jwk(EC_KEY, "ec-1"))

    @pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "rsa-1"), (EC_KEY, "ES256", "ec-1")])
    def test_checks_its_algorithms(self, keys: str, key: Any, algorithm: str, kid: str) -> None:
        principal = Authenticator(jwks=keys).authenticate(signed(key, algorithm, kid), now=NOW)

        assert principal.user_id == "1"

    def test_is_read_without_waiting(self, keys: str) -> None:
        assert not Authenticator(jwks=keys).needs_io
        assert not authenticator.needs_io

    def test_finds_the_only_key_of_an_algorithm_without_kid(self, keys: str) -> None:
        assert Authenticator(jwks=keys).authenticate(signed(RSA_KEY, "RS256"), now=NOW).user_id == "1"

    def test_does_not_guess_among_several(self, tmp_path: Path) -> None:
        keys = key_file(tmp_path / "keys.json", jwk(RSA_KEY, "rsa-1"), jwk(OTHER_RSA_KEY, "rsa-2"))

        with pytest.raises(TokenInvalid):
            Authenticator(jwks=keys).authenticate(signed(RSA_KEY, "RS256"), now=NOW)

    @pytest.mark.parametrize(
        "token",
        [
            signed(),
            signed(RSA_KEY, "RS256", "rsa-9"),
            signed(OTHER_RSA_KEY, "RS256", "rsa-1"),
            signed(RSA_KEY, "RS384", "rsa-1"),
            signed(RSA_KEY, "PS256", "rsa-1"),
            signed(EC_KEY, "ES256", "rsa-1"),
            signed(RSA_KEY, "RS256", "rsa-1", exp=None),
        ],
    )
    def test_refuses_the_rest(self, keys: str, token: str) -> None:
        with pytest.raises(TokenInvalid):
            Authenticator(jwks=keys).authenticate(token, now=NOW)

    def test_tells_expiry(self, keys: str) -> None:
        with pytest.raises(TokenExpired):
            Authenticator(jwks=keys).authenticate(signed(RSA_KEY, "RS256", "rsa-1", exp=NOW_S - 60), now=NOW)

    def test_serves_beside_a_secret(self, keys: str) -> None:
        both = Authenticator(secret=SECRET, jwks=keys)

        assert both.authenticate(signed(), now=NOW) == both.authenticate(signed(EC_KEY, "ES256", "ec-1"), now=NOW)

    def test_never_lends_a_public_key_as_a_secret(self, tmp_path: Path) -> None:
        shared = {"kty": "oct", "k": segment(SECRET.encode()), "kid": "oct-1", "alg": "HS256"}
        keys = key_file(tmp_path / "keys.json", shared, jwk(RSA_KEY, "rsa-1"))

        with pytest.raises(TokenInvalid):
            Authenticator(jwks=keys).authenticate(signed(kid="oct-1"), now=NOW)

    def test_refuses_a_key_that_is_too_short_to_be_safe(self, tmp_path: Path) -> None:
        weak = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
        keys = key_file(tmp_path / "keys.json", jwk(weak, "weak"))
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            token = signed(weak, "RS256", "weak")

        with pytest.raises(TokenInvalid):
            Authenticator(jwks=keys).authenticate(token, now=NOW)

    def test_is_read_again_for_an_unknown_key_after_a_pause(self, keys: str) -> None:
        checks = Authenticator(jwks=keys)
        with pytest.raises(TokenInvalid):
            checks.authenticate(signed(OTHER_RSA_KEY, "RS256", "rsa-2"), now=NOW)
        key_file(Path(keys), jwk(OTHER_RSA_KEY, "rsa-2"))

        with pytest.raises(TokenInvalid):
            checks.authenticate(signed(OTHER_RSA_KEY, "RS256", "rsa-2"), now=after(29))
        assert checks.authenticate(signed(OTHER_RSA_KEY, "RS256", "rsa-2"), now=after(30)).user_id == "1"
        with pytest.raises(TokenInvalid):
            checks.authenticate(signed(RSA_KEY, "RS256", "rsa-1"), now=after(31))

    def test_forgets_withdrawn_keys_after_five_minutes(self, keys: str) -> None:
        checks = Authenticator(jwks=keys)
        token = signed(RSA_KEY, "RS256", "rsa-1", exp=NOW_S + 9_999)
        checks.authenticate(token, now=NOW)
        key_file(Path(keys), jwk(OTHER_RSA_KEY, "rsa-2"))

        with pytest.raises(TokenInvalid):
            checks.authenticate(token, now=after(300))

    @pytest.mark.parametrize(
        "content",
        ["", "[]", "{}", '{"keys": []}', '{"keys": "x"}', '{"keys": [1]}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}'],
    )
    def test_without_usable_keys_stops_the_start(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "keys.json").write_text(content)

        with pytest.raises(ConfigurationError, match=r"^SYNC_AUTH_JWKS: "):
            Authenticator(jwks=str(tmp_path / "keys.json"))

    def test_that_is_missing_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"^SYNC_AUTH_JWKS: "):
            Authenticator(jwks=str(tmp_path / "keys.json"))


class TestKeyUrl:
    """The network is cut out at pyjwt's one method that uses it."""

    @pytest.fixture
    def serve(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
        def set_answers(*answers: dict[str, Any] | Exception) -> list[int]:
            waiting, calls = list(answers), list[int]()

            def fetch_data(_client: jwt.PyJWKClient) -> dict[str, Any]:
                calls.append(1)
                answer = waiting.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            monkeypatch.setattr(jwt.PyJWKClient, "fetch_data", fetch_data)
            return calls

        return set_answers

    def test_is_fetched_at_the_first_token(self, serve: Callable[..., list[int]]) -> None:
        calls = serve({"keys": [jwk(RSA_KEY, "rsa-1")]})
        checks = Authenticator(jwks="https://id.example/jwks")
        assert (checks.needs_io, calls) == (True, [])

        for _ in range(3):
            checks.authenticate(signed(RSA_KEY, "RS256", "rsa-1"), now=NOW)

        assert calls == [1]

    def test_is_not_asked_for_each_unknown_key(self, serve: Callable[..., list[int]]) -> None:
        calls = serve({"keys": [jwk(RSA_KEY, "rsa-1")]})
        checks = Authenticator(jwks="https://id.example/jwks")

        for number in range(5):
            with pytest.raises(TokenInvalid):
                checks.authenticate(signed(RSA_KEY, "RS256", f"rsa-{number + 2}"), now=after(number))

        assert calls == [1]

    def test_that_is_down_leaves_the_last_keys_in_use(self, serve: Callable[..., list[int]]) -> None:
        calls = serve({"keys": [jwk(RSA_KEY, "rsa-1")]}, jwt.PyJWKClientConnectionError("down"), OSError("down"))
        checks = Authenticator(jwks="https://id.example/jwks")
        token = signed(RSA_KEY, "RS256", "rsa-1", exp=NOW_S + 9_999)
        checks.authenticate(token, now=NOW)

        for seconds in (300, 310, 330):
            assert checks.authenticate(token, now=after(seconds)).user_id == "1"

        assert len(calls) == 3

    def test_that_was_never_up_is_not_the_tokens_fault(self, serve: Callable[..., list[int]]) -> None:
        calls = serve(jwt.PyJWKClientConnectionError("https://id.example is down"))
        checks = Authenticator(jwks="https://id.example/jwks")

        for _ in range(2):
            with pytest.raises(CommandError) as caught:
                checks.authenticate(signed(RSA_KEY, "RS256", "rsa-1"), now=NOW)

        assert (caught.value.code, caught.value.code.is_retryable) == (ErrorCode.NETWORK_ERROR, True)
        assert "id.example" not in caught.value.message
        assert calls == [1]


class TestAuthenticator:
    def test_needs_a_secret_or_keys(self) -> None:
        with pytest.raises(ConfigurationError):
            Authenticator()

    def test_shows_no_secret(self) -> None:
        assert SECRET not in repr(authenticator)
