"""The targets of the fuzzer hold for all they begin with and for all that was ever found; in `make soak` for more."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.seeds import FINDINGS, seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
"""For each target, in `make soak`."""


class TestATarget:
    @pytest.mark.parametrize("target", TARGETS)
    def test_holds_for_its_seeds_and_findings(self, target: str) -> None:
        found = seeds(target)
        assert found
        for data in found:
            TARGETS[target](data)

    @pytest.mark.parametrize("target", TARGETS)
    def test_holds_for_its_seeds_cut_anywhere(self, target: str) -> None:
        for data in seeds(target):
            for end in range(0, len(data), 1 + len(data) // 40):
                TARGETS[target](data[:end])

    def test_is_there_for_every_finding(self) -> None:
        assert {path.name for path in FINDINGS.iterdir()} <= set(TARGETS)


@pytest.mark.soak
class TestFuzzing:
    @pytest.mark.parametrize("target", TARGETS)
    def test_finds_nothing_new(self, target: str, tmp_path: Path) -> None:
        pytest.importorskip("atheris", reason="needs atheris, which `make soak` installs where there is a wheel")
        command = [sys.executable, "-m", "tests.fuzz", target, f"-max_total_time={SECONDS}", "-print_final_stats=1"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"}
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        assert run.returncode == 0, run.stderr[-4_000:]
        runs, seconds = re.findall(r"Done (\d+) runs in (\d+) second", run.stderr)[-1]
        covered = re.findall(r"cov: (\d+)", run.stderr)[-1]
        print(f"{target}: {runs} runs in {seconds} s, {covered} edges")  # noqa: T201  the figures of docs/reliability.md
