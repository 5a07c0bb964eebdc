"""Fuzzes one target, guided by coverage: `python -m tests.fuzz server_json -max_total_time=60`.

What follows the target's name is for libFuzzer. What it finds is written as `crash-…`; put it into `findings/<target>`,
where the ordinary tests replay it.
"""

import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found]  # ships no types

with atheris.instrument_imports(include=["sync_server", "sync_client", "jwt", "_pydatetime"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.seeds import MOST_BYTES, seeds, words


def main(target: str, *options: str) -> None:
    """Never returns: libFuzzer ends the process, with a status of its own where it found something."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(seed)
        dictionary = Path(folder, "words")
        dictionary.write_text("".join(f'"{word}"\n' for word in words()), encoding="ascii")
        atheris.Setup(["fuzz", f"-dict={dictionary}", f"-max_len={MOST_BYTES}", *options, str(corpus)], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
