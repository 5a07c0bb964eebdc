"""The machine with all around it but a socket: what it asks for is done on a store in memory."""

from typing import Any

from sync_client import replica, views
from sync_client.events import (
    Apply,
    Effect,
    Input,
    Load,
    Loaded,
    Opened,
    Profile,
    Received,
    Resume,
    Send,
    Start,
    Written,
)
from sync_client.frames import Admission, CaughtUp, Failure, Greeting, Limits, Result
from sync_client.ladder import Ladder
from sync_client.machine import Machine
from sync_client.states import State
from sync_client.stores.memory import MemoryTables
from sync_client.values import Operation, Problem

from clients.python.tests.builders import AT, reply

FULL = frozenset({"subscribe"})
WELCOME = Greeting(FULL, Limits(), 20.0, Admission(1, None), None)
PLAIN = Greeting(None, Limits(), None, Admission(1, None), None)
BUSY = Problem(error="wait", error_code="RATE_LIMIT_EXCEEDED")
WRONG = Problem(error="wrong", error_code="VALIDATION_ERROR")


def kinds(effects: list[Effect]) -> list[type]:
    """Effects without members are all equal, as tuples; their types are not."""
    return [type(one) for one in effects]


class Shell:
    """Does what the machine asks for, on a store in memory."""

    def __init__(self, resume: Resume | None = None, *, ladder: Ladder | None = None, **profile: Any) -> None:
        self.now = 100.0
        self.tables = MemoryTables()
        self.sent: list[dict[str, Any]] = []
        self.done: list[Effect] = []
        numbers = iter(range(1, 10_000))
        self.machine = Machine(
            Profile("client_a", **profile), resume or Resume(), ladder=ladder or Ladder(),
            new_id=lambda: f"m{next(numbers)}", chance=lambda: 0.5, now_text=lambda: AT,
        )  # fmt: skip

    def tell(self, event: Input) -> list[Effect]:
        return self.do(self.machine.handle(event, self.now))

    def hear(self, frame: Any) -> list[Effect]:
        return self.tell(Received(frame))

    def wait(self) -> list[Effect]:
        """Until the next deadline."""
        deadline = self.machine.deadline
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.do(self.machine.tick(self.now))

    def do(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            self.done.append(effect)
            if isinstance(effect, Apply):
                effect.step(self.tables)
            if isinstance(effect, Send):
                self.sent.append(effect.message)
            if isinstance(effect, Load):
                operations = views.waiting(self.tables, after=effect.after, limit=1_000)
                self.tell(Loaded(effect.after, operations, is_end=True))
        return effects

    def connect(self, greeting: Greeting = WELCOME) -> "Shell":
        """From idle, or at the end of a pause."""
        if self.machine.state is State.WAITING:
            self.wait()
        self.tell(Start())
        self.tell(Opened("token", has_heartbeat=True))
        self.hear(greeting)
        return self

    def live(self) -> "Shell":
        self.connect()
        self.hear(CaughtUp("c1"))
        return self

    def write(self, *operations: Operation) -> None:
        replica.append(self.tables, operations)
        self.tell(Written())

    def answer(self, *results: Result, **members: Any) -> list[Effect]:
        """What the server says to the request under way."""
        return self.hear(reply(*results, **{"message_id": self.request["message_id"], **members}))

    def fail(self, problem: Problem = BUSY, *, is_retryable: bool = True, after_s: float | None = None) -> list[Effect]:
        return self.hear(Failure(self.request["message_id"], problem, is_retryable, after_s))

    @property
    def is_asking(self) -> bool:
        """A request is under way."""
        return self.machine._uploads.is_under_way

    def wait_for_request(self) -> None:
        while not self.is_asking:
            self.wait()

    @property
    def waiting(self) -> list[str]:
        """Ids of what is in the queue."""
        return [one.operation_id for one in views.waiting(self.tables, after=0, limit=1_000)]

    @property
    def refused(self) -> list[str]:
        """Ids of what is in the quarantine."""
        return [one.operation_id for one in self.tables.quarantined()]

    @property
    def request(self) -> dict[str, Any]:
        found = self.sent[-1]
        assert found["type"] == "sync"
        return found

    @property
    def asked(self) -> list[str]:
        return [one["operation_id"] for one in self.request["data"]["operations"]]
