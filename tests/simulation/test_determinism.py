"""A seed replays exactly: in another process, in another order, whatever ran before."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator

from sync_server.testing.runs import Run, own_setting, play
from sync_server.testing.search import Load

SEEDS = range(6)


def fingerprint(run: Run) -> str:
    """Of everything that a run leaves behind, to the last bit of each moment."""
    told = [f"{event}" for event in run.history.events]
    told += [f"{name} {end}" for name, end in sorted(run.history.ends.items())]
    for user, truth in sorted(run.history.truths.items()):
        told += [f"{user} {sorted(truth.spaces)} {truth.rows} {truth.versions} {truth.conflicts}"]
    return hashlib.sha256("\n".join([*told, *run.problems]).encode()).hexdigest()


def fingerprints(seeds: Iterable[int]) -> Iterator[tuple[int, str]]:
    load, setting = Load(), own_setting()
    for seed in seeds:
        yield seed, fingerprint(play(load.plan(seed), setting))


def of_another_process(hash_seed: str) -> dict[int, str]:
    """In reverse, so that each seed has others before it than here."""
    told = subprocess.run(
        [sys.executable, "-m", __name__],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    return {int(seed): text for seed, text in (line.split() for line in told.splitlines())}


class TestASeed:
    def test_replays_in_other_processes(self) -> None:
        assert of_another_process("1") == of_another_process("2") == dict(fingerprints(SEEDS))

    def test_replays_after_itself(self) -> None:
        (first, again) = (fingerprint for _, fingerprint in fingerprints((3, 3)))
        assert first == again


if __name__ == "__main__":
    for number, text in fingerprints(reversed(SEEDS)):
        print(number, text)  # noqa: T201  to whom it was started by
