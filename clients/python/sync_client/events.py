"""What goes into the machine and what comes out of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from sync_client.frames import Frame, Message, Receipt
from sync_client.ladder import LinkKind
from sync_client.stores.port import Tables
from sync_client.values import Operation


class Resume(NamedTuple):
    """What the store knows from before.

    Attributes:
        owner: whose store it is; None until a server said so.
        synced_at: of a plain server, the time that its last reply named.
        is_complete: everything was here once.
    """

    cursor: str | None = None
    owner: str | None = None
    synced_at: str | None = None
    is_complete: bool = False


class Profile(NamedTuple):
    """Who connects, and to hear of what. None is every space, or every entity type."""

    client_id: str
    spaces: tuple[str, ...] | None = None
    entity_types: tuple[str, ...] | None = None
    info: tuple[tuple[str, str], ...] = ()
    can_renew: bool = False
    """The token comes from a function, so that a refused one may be followed by a good one."""


# --- in ------------------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """Connect, and stay connected."""


class Stop(NamedTuple):
    """Let go."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The link that was asked for is open.

    Attributes:
        has_heartbeat: silence on it means something; a link over HTTP notices that by itself.
    """

    token: str = field(repr=False)
    has_heartbeat: bool


class Lost(NamedTuple):
    """The link could not be opened, or is gone.

    Attributes:
        code: the close code, if the server closed a WebSocket.
        is_odd: something on the way answered, and not as the server does.
        is_unauthorized: the server wants another token (HTTP 401).
    """

    reason: str
    code: int | None = None
    is_odd: bool = False
    is_unauthorized: bool = False
    retry_after_s: float | None = None


class Received(NamedTuple):
    frame: Frame


class Written(NamedTuple):
    """Operations were put into the queue."""


class Loaded(NamedTuple):
    """The answer to `Load(after)`; `is_end` where nothing is behind these."""

    after: int
    operations: list[Operation]
    is_end: bool


@dataclass(frozen=True, slots=True)
class NewToken:
    """The answer to `AskToken`."""

    token: str = field(repr=False)


class Diverged(NamedTuple):
    """The store differs from the server and could not be mended: take everything anew."""


Input = Start | Stop | Opened | Lost | Received | Written | Loaded | NewToken | Diverged

# --- out -----------------------------------------------------------------------------------------------------------


class Open(NamedTuple):
    """Get a token and open a link; answered by `Opened` or `Lost`.

    Attributes:
        needs_new_token: the one used last was refused or has expired.
    """

    kind: LinkKind
    needs_new_token: bool


class Close(NamedTuple):
    """Close the link; nothing more is to come from it."""


class Send(NamedTuple):
    message: Message


class AskToken(NamedTuple):
    """Answered by `NewToken`, while the link stays."""


class Load(NamedTuple):
    """Read the queue behind a position; answered by `Loaded`."""

    after: int


class Apply(NamedTuple):
    """Do this step in one transaction of the store, before the next effect."""

    step: Callable[[Tables], None]


class ListConflicts(NamedTuple):
    """Ask over HTTP for the open conflicts, which the feed does not tell."""


class Check(NamedTuple):
    """Compare the store with what the server has and mend it; answered by `Diverged` if that does not help.

    Attributes:
        receipts: what the server says it has; None where it has to be asked.
    """

    receipts: tuple[Receipt, ...] | None = None


class Synced(NamedTuple):
    """What the server has is here, as of now."""


Effect = Open | Close | Send | AskToken | Load | Apply | ListConflicts | Check | Synced
