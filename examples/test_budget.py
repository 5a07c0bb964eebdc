"""What must hold of a budget, tried with devices that lose the server in every way.

Run it with `pytest examples/test_budget.py`. Take `Merge.COUNTER` away from `Budget.spent` and it fails: of two people
who spend at the same time, one is forgotten. The report shows who.
"""

from collections.abc import Callable
from random import Random

from examples.budget import Budget
from sync_server.testing.kit import End, Person


async def open_budget(person: Person, _chance: Random) -> None:
    await person.do(lambda client: client.create("budget", name="party", space_id=person.shared))


async def spend(person: Person, chance: Random) -> None:
    budget = await person.some("budget", chance)
    if budget is None:
        return
    amount = chance.randint(1, 100)
    spent = int(budget.data.get("spent", 0)) + amount
    if await person.do(lambda client: client.update(budget, spent=spent)) is not None:
        person.ledger["spent"] = person.ledger.get("spent", 0) + amount


def adds_up(end: End) -> None:
    total = sum(budget.get("spent", 0) for budget in end.of("budget"))
    assert total == end.ledger.get("spent", 0), f"{end.ledger['spent']} was spent, the budgets say {total}"


def test_what_was_spent_adds_up(simulate: Callable[..., None]) -> None:
    simulate(types=[Budget], acts=[open_budget, spend, spend], check=adds_up, runs=20)
