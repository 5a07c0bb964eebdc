"""The README's walk-through is run as it stands, and prints what the README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness import server_process, token_for

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, index: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[index]


class TestWalkThrough:
    def test_prints_what_the_readme_says(self, tmp_path: Path) -> None:
        script = tmp_path / "walkthrough.py"
        script.write_text(block("python"), encoding="utf-8")
        with server_process(tmp_path / "data") as process:
            environment = {**os.environ, "SYNC_URL": process.ws_url, "TOKEN": token_for("1")}
            run = subprocess.run(
                [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=30, check=False
            )
        assert run.stderr == ""
        assert run.stdout == block("text")


class TestLinks:
    def test_lead_to_files_that_exist(self) -> None:
        root = Path(__file__).parents[2]
        links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
        assert [link for link in links if not (root / link).exists()] == []


class TestCommands:
    def test_are_targets_of_the_makefile(self) -> None:
        makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
        for command in re.findall(r"^make ([a-z]+)$", README, re.MULTILINE):
            assert f"\n{command}: " in makefile
