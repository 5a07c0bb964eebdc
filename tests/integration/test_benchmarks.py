"""What benchmarks compare the server with writes what the server writes."""

from itertools import islice
from pathlib import Path

from bench.raw_sqlite import commits, open_database


class TestTheRawDatabase:
    def test_takes_rows_of_the_present_schema(self, tmp_path: Path) -> None:
        connection = open_database(tmp_path)
        assert len(list(islice(commits(connection, batch=10, per_sync=5), 2))) == 2
        counted = [connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in ("changes", "operations")]
        connection.close()
        assert counted == [(20,), (20,)]
