"""Where a request comes from: the client's address behind trusted proxies, and the page that sent it."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Scope = Mapping[str, Any]


def client_address(scope: Scope, trusted_proxies: Sequence[Network]) -> str:
    """The address of the client: the peer's, or the last one in X-Forwarded-For that no trusted proxy has.

    >>> client_address({"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"6.6.6.6, 1.2.3.4")]},
    ...     [ipaddress.ip_network("10.0.0.0/8")])
    '1.2.3.4'
    """
    address = str(scope["client"][0]) if scope.get("client") else "unknown"
    hops = [hop.strip() for value in _values(scope, b"x-forwarded-for") for hop in value.split(",")]
    while hops and _is_in(address, trusted_proxies):
        address = hops.pop()
    return address if _is_address(address) else "unknown"


def limit_key(address: str) -> str:
    """What counts as one peer: an address, or the /64 of an IPv6 address, which one host can have all of.

    >>> limit_key("1.2.3.4"), limit_key("2001:db8::1:2:3:4"), limit_key("unknown"), limit_key("::ffff:1.2.3.4")
    ('1.2.3.4', '2001:db8::/64', 'unknown', '1.2.3.4')
    """
    if not _is_address(address):
        return address
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:  # noqa: PLR2004  IPv4
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def is_allowed_origin(scope: Scope, allowed: Sequence[str]) -> bool:
    """Whether the page may connect: there is none, it is of this very host, or its origin is on the list."""
    origin = next(iter(_values(scope, b"origin")), None)
    if origin is None:
        return True
    if origin.lower() in allowed:
        return True
    host = next(iter(_values(scope, b"host")), "").lower()
    return bool(host) and origin.lower() in {f"http://{host}", f"https://{host}"}


def _values(scope: Scope, name: bytes) -> Iterable[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    return _is_address(address) and any(ipaddress.ip_address(address) in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
