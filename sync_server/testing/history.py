"""What happened in a simulated run, as the devices and the people at them saw it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from sync_client.values import Conflict, Key, Operation, Quarantined

Json = dict[str, Any]
T = TypeVar("T")


class Wrote(NamedTuple):
    """A person wrote something and the device kept it. `marks` are texts that occur nowhere else."""

    at: float
    device: str
    what: str
    key: Key
    marks: tuple[str, ...]


class Opened(NamedTuple):
    """A link to the server; its messages follow under its number."""

    at: float
    device: str
    link: int
    kind: str


class Sent(NamedTuple):
    at: float
    device: str
    link: int
    message: Json


class Got(NamedTuple):
    """A message came to the device whole."""

    at: float
    device: str
    link: int
    message: Json


class Read(NamedTuple):
    """A device asked the server for an entity over HTTP; `version` is None where there was none."""

    asked_at: float
    at: float
    device: str
    key: Key
    version: int | None


class Pried(NamedTuple):
    """Somebody asked the server over HTTP about something, and then the same about what never was.

    Attributes:
        space_id: what it was about, or where; None where `key` says that.
        told: status and body of the answer.
        refusal: the same for what never was.
    """

    asked_at: float
    at: float
    user: str
    what: str
    space_id: str | None
    key: Key | None
    told: tuple[int, str]
    refusal: tuple[int, str]


class Granted(NamedTuple):
    """An owner gave a role or, with None, took it away; the server said so at `at`.

    Attributes:
        is_sure: it did; else the answer was lost, and nobody knows.
    """

    asked_at: float
    at: float
    user: str
    space_id: str
    role: str | None
    is_sure: bool = True


class Happened(NamedTuple):
    """A fault, or an end of one."""

    at: float
    who: str
    what: str


class Restored(NamedTuple):
    """The server went on from a backup: what it acknowledged since that was made is gone, and it says so.

    Attributes:
        head: a position that the log surely had in the backup.
    """

    at: float
    backup_at: float
    head: int = 0


class State(NamedTuple):
    """A live entity; `data` is without its id."""

    space_id: str | None
    version: int
    data: Json


class Version(NamedTuple):
    """One version of an entity, as the server's history tells it in the end."""

    key: Key
    version: int
    seq: int
    operation_id: str
    client_id: str
    operation_type: str
    data: Json | None
    text: str
    """Everything that was told of it, as JSON."""


class Trimmed(NamedTuple):
    """The server forgot its log. It was asked for all of it just before.

    Attributes:
        asked_at: when that began.
        head: where the log ended then.
        floor: up to where it was forgotten; what came between `head` and here may never have been asked for.
        versions: what the log had up to `head`.
    """

    asked_at: float
    at: float
    head: int
    floor: int
    versions: "tuple[Version, ...]"


Event = Wrote | Opened | Sent | Got | Read | Pried | Granted | Happened | Restored | Trimmed


class DeviceEnd(NamedTuple):
    """What a device has in the end, once it said that everything is up and everything is here."""

    user: str
    client_id: str
    is_settled: bool
    trouble: str
    rows: Mapping[Key, State]
    pending: tuple[Operation, ...]
    quarantined: tuple[Quarantined, ...]
    conflicts: tuple[Conflict, ...]


class Truth(NamedTuple):
    """What the server tells a new device of a user in the end."""

    spaces: frozenset[str]
    rows: Mapping[Key, State]
    versions: tuple[Version, ...]
    conflicts: tuple[Json, ...]


class History:
    """
    Attributes:
        epoch: of the log in the end.
        is_corrupted: rows of a device were made wrong on purpose.
        http_devices: those that may hear of changes otherwise than over a WebSocket.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ends: dict[str, DeviceEnd] = {}
        self.truths: dict[str, Truth] = {}
        self.users: dict[str, str] = {}
        self.epoch = ""
        self.is_corrupted = False
        self.http_devices: set[str] = set()
        self.problems: list[str] = []

    def add(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> Iterator[T]:
        return (event for event in self.events if isinstance(event, kind))
