"""The pytest plugin as a user of it runs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BAD = """
from examples.test_budget import adds_up, open_budget, spend
from tests.simulation.test_kit import ForgetfulBudget


def test_it(simulate):
    simulate(types=[ForgetfulBudget], acts=[open_budget, spend], check=adds_up, runs=200)
"""


def pytest_on(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", str(path), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


class TestThePlugin:
    def test_runs_the_example(self) -> None:
        ran = pytest_on(ROOT / "examples/test_budget.py", "--simulations", "5")
        assert ran.returncode == 0, ran.stdout

    def test_reports_a_failure_with_its_seed_which_fails_again(self, tmp_path: Path) -> None:
        path = tmp_path / "test_bad.py"
        path.write_text(BAD)
        first = pytest_on(path)
        assert first.returncode == 1
        assert "steps are enough for it" in first.stdout
        seed = first.stdout.partition("--simulation-seed ")[2].split()[0]
        again = pytest_on(path, "--simulation-seed", seed)
        assert again.returncode == 1
        assert f"seed {seed} breaks a promise" in again.stdout
