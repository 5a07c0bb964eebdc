"""A token becomes a Principal, or one of two errors; the only module that imports jwt."""

import json
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, Protocol

import jwt

from sync_server.errors import CommandError, ConfigurationError, ErrorCode
from sync_server.types import IDENTIFIER_PATTERN, Millis, UserId

DEFAULT_AUDIENCE: Final = "authenticated"
LEEWAY_S: Final = 10
"""How far the clocks of who signs and who checks may differ."""
MAX_TOKEN_LENGTH: Final = 8_192
END_OF_TIME: Final = Millis(253_402_300_799_000)
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can write; no token is said to live longer."""

_USER_ID = re.compile(IDENTIFIER_PATTERN)
_KEY_ALGORITHMS = frozenset({"RS256", "ES256"})
_KEYS_FRESH_MS = 300_000
_REFETCH_PAUSE_MS = 30_000
_FETCH_TIMEOUT_S = 5
_REMEMBERED_TOKENS = 512
_REQUIRED_CLAIMS = ["exp", "sub", "aud"]
_TOKENS = jwt.PyJWT(
    {
        # pyjwt would read the clock for these three; `_check_times` takes `now`
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_sub": False,  # `_user_id` is stricter
        "require": _REQUIRED_CLAIMS,
        "enforce_minimum_key_length": True,
    }
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a valid token names, and until when."""

    user_id: UserId
    expires_at: Millis
    """When the token ends, without leeway."""


class TokenInvalid(CommandError):  # noqa: N818  a verdict on the token
    """The token is not one of ours; why is never said."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, "The token is invalid.")


class TokenUntimely(CommandError):  # noqa: N818  a verdict on the token
    """The token is one of ours and not of now: another one of the same user, or the same one later, will do."""


class TokenEarly(TokenUntimely):
    """The token is not valid yet."""

    def __init__(self) -> None:
        message = "The token is not valid yet: the clock of whoever issued it is ahead of the server's."
        super().__init__(ErrorCode.UNAUTHORIZED, message)


class TokenExpired(TokenUntimely):
    """The token was valid and has ended."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, "The token has expired.")


class KeySource(Protocol):
    """Where a JSON Web Key Set comes from."""

    needs_io: bool

    def fetch(self) -> jwt.PyJWKSet:
        """The set as it is now.

        Raises:
            OSError, ValueError, jwt.PyJWTError: it cannot be had or is none.
        """
        ...


class Authenticator:
    """Checks tokens; safe to share between threads.

    HS256 is checked with the secret, RS256 and ES256 with the key set, and never one with the other's key. With a
    secret, or a key set from a file, `authenticate` computes for some tens of microseconds and may be called in the
    event loop. With a key set from a URL (`needs_io`) it may wait for the network, at most 5 s every 30 s: call it in
    a thread.

    Args:
        secret: key of HS256, at least 32 bytes; None refuses HS256.
        jwks: path or https URL of a JSON Web Key Set; None refuses RS256 and ES256.
        audience: what `aud` must be or contain.
        leeway_s: tolerated difference of the clocks.

    Raises:
        ConfigurationError: neither secret nor keys are given, or the file of keys cannot be used.
    """

    def __init__(
        self,
        *,
        secret: str | None = None,
        jwks: str | None = None,
        audience: str = DEFAULT_AUDIENCE,
        leeway_s: float = LEEWAY_S,
    ) -> None:
        if secret is None and jwks is None:
            message = "SYNC_AUTH_SECRET or SYNC_AUTH_JWKS must be set to check tokens"
            raise ConfigurationError(message)
        self._secret = secret
        # what the secret signed it has signed for good; whether the token is of now is looked at each time
        self._signed_claims = lru_cache(_REMEMBERED_TOKENS)(partial(_claims, key=secret or "", audience=audience))
        self._keys = _Keys(_key_source(jwks)) if jwks is not None else None
        self._audience = audience
        self._leeway_ms = leeway_s * 1_000

    @property
    def needs_io(self) -> bool:
        """Whether `authenticate` may wait for the network, so that it must not be called in the event loop."""
        return self._keys is not None and self._keys.source.needs_io

    def authenticate(self, token: str, *, now: Millis) -> Principal:
        """Whom this token names.

        Raises:
            TokenExpired: it is ours, and ended more than the leeway before `now`.
            TokenEarly: it is ours, and begins, or was issued, more than the leeway after `now`.
            TokenInvalid: anything else is wrong with it.
            CommandError: NETWORK_ERROR, the keys to check it with cannot be had at the moment.
        """
        claims = self._verified_claims(token, now)
        user_id = _user_id(claims)
        expires_at = self._check_times(claims, now)
        return Principal(user_id, expires_at)

    def _verified_claims(self, token: str, now: Millis) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenInvalid
        try:
            key = self._key_for(token, now)
            if key is None:
                raise TokenInvalid
            if isinstance(key, jwt.PyJWK):  # which may be withdrawn
                return _claims(token, key=key, audience=self._audience)
            return self._signed_claims(token)
        except (jwt.PyJWTError, ValueError):
            raise TokenInvalid from None

    def _key_for(self, token: str, now: Millis) -> str | jwt.PyJWK | None:
        if self._keys is None:
            return self._secret
        header = jwt.get_unverified_header(token)
        return self._secret if header.get("alg") == "HS256" else self._keys.key(header, now)

    def _check_times(self, claims: Mapping[str, Any], now: Millis) -> Millis:
        expires_at = _moment(claims["exp"])
        if any(_moment(claims[name]) > now + self._leeway_ms for name in ("nbf", "iat") if name in claims):
            raise TokenEarly
        if now >= expires_at + self._leeway_ms:
            raise TokenExpired
        return expires_at


def issue_token(secret: str, user_id: UserId, *, ttl_s: int, now: Millis, audience: str = DEFAULT_AUDIENCE) -> str:
    """An HS256 token of this user that ends `ttl_s` seconds after `now`."""
    issued_at = now // 1_000
    claims = {"sub": user_id, "aud": audience, "iat": issued_at, "exp": issued_at + ttl_s}
    return _TOKENS.encode(claims, secret, "HS256")


def _claims(token: str, *, key: str | jwt.PyJWK, audience: str) -> dict[str, Any]:
    algorithm = key.algorithm_name if isinstance(key, jwt.PyJWK) else "HS256"
    return _TOKENS.decode(token, key, [algorithm], audience=audience)


def _user_id(claims: Mapping[str, Any]) -> UserId:
    subject = claims["sub"]
    if not isinstance(subject, str) or _USER_ID.fullmatch(subject) is None:
        raise TokenInvalid
    return UserId(subject)


def _moment(claim: Any) -> Millis:
    is_number = isinstance(claim, int | float) and not isinstance(claim, bool)
    if not is_number or (isinstance(claim, float) and not math.isfinite(claim)):
        raise TokenInvalid
    return Millis(int(max(0, min(claim, END_OF_TIME // 1_000)) * 1_000))


class _Keys:
    """A key set that is fetched again when it is old or a token names a key it lacks, and kept when that fails."""

    def __init__(self, source: KeySource) -> None:
        self.source = source
        self._keys: list[jwt.PyJWK] | None = None
        self._fetched_at: Millis | None = None
        self._tried_at: Millis | None = None
        self._lock = threading.Lock()
        if not source.needs_io:
            self._keys = _usable_keys(source)

    def key(self, header: Mapping[str, Any], now: Millis) -> jwt.PyJWK | None:
        """The one key this token's header names; without `kid`, the only one of its algorithm."""
        with self._lock:
            if self._is_stale(now):
                self._refresh(now)
            found = self._find(header)
            if found is None and self._may_refetch(now):
                self._refresh(now)
                found = self._find(header)
            if found is None and self._keys is None:
                message = "Tokens cannot be checked at the moment."
                raise CommandError(ErrorCode.NETWORK_ERROR, message, retry_after_ms=_REFETCH_PAUSE_MS)
            return found

    def _find(self, header: Mapping[str, Any]) -> jwt.PyJWK | None:
        candidates = [key for key in self._keys or () if key.algorithm_name == header.get("alg")]
        if "kid" in header:
            candidates = [key for key in candidates if key.key_id == header["kid"]]
        return candidates[0] if len(candidates) == 1 else None

    def _is_stale(self, now: Millis) -> bool:
        is_old = self._fetched_at is None or now - self._fetched_at >= _KEYS_FRESH_MS
        return is_old and self._may_refetch(now)

    def _may_refetch(self, now: Millis) -> bool:
        return self._tried_at is None or abs(now - self._tried_at) >= _REFETCH_PAUSE_MS

    def _refresh(self, now: Millis) -> None:
        self._tried_at = now
        try:
            self._keys = _usable_keys(self.source)
            self._fetched_at = now
        except ConfigurationError:
            return  # the old keys serve on; the next try is in half a minute


class _KeyFile:
    needs_io = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self) -> jwt.PyJWKSet:
        return _key_set(json.loads(self._path.read_bytes()))


class _KeyUrl:
    needs_io = True

    def __init__(self, url: str) -> None:
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=_FETCH_TIMEOUT_S)

    def fetch(self) -> jwt.PyJWKSet:
        return _key_set(self._client.fetch_data())


def _key_source(location: str) -> KeySource:
    return _KeyUrl(location) if "://" in location else _KeyFile(Path(location))


def _key_set(value: object) -> jwt.PyJWKSet:
    keys = value.get("keys") if isinstance(value, dict) else None
    return jwt.PyJWKSet(keys if isinstance(keys, list) else [])


def _usable_keys(source: KeySource) -> list[jwt.PyJWK]:
    try:
        keys = source.fetch()
    except (OSError, ValueError, RecursionError, jwt.PyJWTError) as error:
        message = f"SYNC_AUTH_JWKS: no key set can be read there ({type(error).__name__})"
        raise ConfigurationError(message) from error
    usable = [key for key in keys if key.algorithm_name in _KEY_ALGORITHMS and key.public_key_use in {"sig", None}]
    if not usable:
        message = "SYNC_AUTH_JWKS: the key set has no key for RS256 or ES256"
        raise ConfigurationError(message)
    return usable
