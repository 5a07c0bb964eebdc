"""docs/client.md says what the client does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sync_client import batches, ladder, machine, receipts, replica
from sync_client.states import TABLE, Event, State

from docs.client_tables import PAGE, with_table
from tests.harness import RunningServer, token_for

TEXT = PAGE.read_text(encoding="utf-8")


class TestTheDocument:
    def test_has_the_table_of_the_machine(self) -> None:
        assert with_table(TEXT) == TEXT, "run `make docs`"

    def test_covers_every_event_in_every_state(self) -> None:
        assert all(set(TABLE[state]) == set(Event) for state in State)
        assert set(TABLE) == set(State)

    @pytest.mark.parametrize(
        ("module", "letter"), [(machine, "M"), (replica, "D"), (receipts, "R"), (batches, "B"), (ladder, "L")]
    )
    def test_has_the_laws_of_the_modules(self, module: object, letter: str) -> None:
        """Their texts, too: the modules write them as sentences, the document as parts of one."""
        laws = re.findall(rf"^ ?({letter}\d) (.+)\.$", str(module.__doc__), re.MULTILINE)
        assert laws
        printed = re.findall(rf"^\| ({letter}\d) \| (.+) \|$", TEXT, re.MULTILINE)
        assert printed == [(number, text[0].lower() + text[1:]) for number, text in laws]

    def test_names_tests_that_are_there(self) -> None:
        for name in re.findall(r"`(tests/[a-z_/]+\.py)`", TEXT):
            assert (Path(__file__).parents[2] / name).exists(), name

    async def test_has_an_example_that_runs(self, server: RunningServer, tmp_path: Path) -> None:
        (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
        environment = {**os.environ, "SYNC_CLIENT_URL": server.http_url, "SYNC_CLIENT_TOKEN": token_for("1")}
        import asyncio

        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", example, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        told, errors = await run.communicate()
        assert run.returncode == 0, errors.decode()
        assert "milk, eggs - on its way" in told.decode()
        assert "Shopping" in told.decode().splitlines()[-1]
