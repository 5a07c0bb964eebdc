"""The parts of a running server that doors need, in one value; made by `sync_server.app`."""

from dataclasses import dataclass

from schema.registry import Registry
from sync_server.auth import Authenticator
from sync_server.clients import Clients
from sync_server.committer import Committer
from sync_server.config import Settings
from sync_server.connections import Connections
from sync_server.feed import Feed
from sync_server.hub import Hub
from sync_server.limits import RateLimit
from sync_server.presence import Presence
from sync_server.protocol.machine import MachineLimits
from sync_server.users import Users


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    server_id: str
    registry: Registry
    authenticator: Authenticator
    committer: Committer
    feed: Feed
    hub: Hub
    presence: Presence
    users: Users
    clients: Clients
    connections: Connections
    machine_limits: MachineLimits
    connect_limit: RateLimit
    request_limit: RateLimit
    operation_limit: RateLimit
