"""The store on SQLite: the contract, and what only a file can do."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from schema.tables import metadata
from sync_server.errors import ConfigurationError
from sync_server.fingerprints import checksum_of
from sync_server.records import ClientRecord, EntityKey
from sync_server.stores.engine import open_engine
from sync_server.stores.migrations import _config, migrate
from sync_server.stores.opening import locked_engine, opened_store, reading_store
from sync_server.stores.sql import Store, StoreError
from sync_server.types import ClientId, EntityId, EntityType, Millis, OperationId, UserId
from tests.contract.builders import append, change
from tests.contract.log_contract import LogContract
from tests.contract.records_contract import RecordsContract

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'sync.db'}")
    yield engine
    engine.dispose()


class TestSqliteStore(LogContract, RecordsContract):
    @pytest.fixture
    def store(self, engine: Engine) -> Iterator[Store]:
        migrate(engine)
        store = Store(engine)
        yield store
        store.close()

    def test_syncs_each_commit_to_the_disk(self, engine: Engine) -> None:
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    def test_says_store_error_when_another_process_holds_the_database(self, store: Store, tmp_path: Path) -> None:
        with store.write() as writer:
            writer._cursor.execute("PRAGMA busy_timeout=10")
        other = sqlite3.connect(tmp_path / "sync.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError):
            _write_much(store)
        with store.read() as reader:
            assert not reader.has_user("1")
        other.close()
        with store.write() as writer:
            writer.save_user("1", 10)

    def test_says_store_error_and_leaves_nothing_when_the_disk_is_full(self, store: Store) -> None:
        with store.write() as writer:
            writer.start_epoch("e1")
            pages = writer._cursor.execute("PRAGMA page_count").fetchone()[0]
            writer._cursor.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StoreError):
            _write_much(store)
        with store.write() as writer:
            writer._cursor.execute("PRAGMA max_page_count=1000000")
            assert writer.head().head_seq == 0
            writer.save_user("1", 10)


class TestMigrations:
    def test_make_the_schema_that_the_tables_declare(self, engine: Engine) -> None:
        migrate(engine)
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    def test_do_nothing_the_second_time(self, engine: Engine) -> None:
        assert migrate(engine) == migrate(engine)

    def test_give_an_older_database_its_chains(self, engine: Engine) -> None:
        config = _config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            for seq, (entity_id, version) in enumerate([("a", 1), ("b", 1), ("a", 2), ("a", 3)], start=1):
                connection.exec_driver_sql(
                    "INSERT INTO changes VALUES (?, 'u-1', 'note', ?, ?, 'update', '{}', '{}', NULL, 'r', 1, 1, '1', "
                    "'c', 'op')",
                    (seq, entity_id, version),
                )
                connection.exec_driver_sql(
                    "INSERT OR REPLACE INTO entities VALUES ('note', ?, 'u-1', ?, '{}', 0, 1, 1, '1', 1, ?)",
                    (entity_id, version, seq),
                )
        migrate(engine)
        with Store(engine).read() as reader:
            history = reader.history(EntityKey(EntityType("note"), EntityId("a")), before_version=None, limit=9)
        assert [(change.seq, change.previous_seq) for change in history] == [(4, 3), (3, 1), (1, 0)]

    def test_give_an_older_database_its_checksums(self, engine: Engine) -> None:
        config = _config()
        rows = [("u-1", "a", 7, 0, 4), ("u-1", "b", 1, 0, 2), ("u-1", "gone", 2, 1, 9), ("s", "c", 3, 0, 5)]
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0002")
            for space_id in ("u-1", "s", "empty"):
                connection.exec_driver_sql("INSERT INTO spaces VALUES (?, '', '1', 1)", (space_id,))
            for space_id, entity_id, version, deleted, seq in rows:
                connection.exec_driver_sql(
                    "INSERT INTO entities VALUES ('note', ?, ?, ?, '{}', ?, 1, 1, '1', 1, ?)",
                    (entity_id, space_id, version, deleted, seq),
                )
        migrate(engine)
        with Store(engine).read() as reader:
            found = reader.receipts(["u-1", "s", "empty"])
            for space_id, receipt in found.items():
                assert receipt.checksum == checksum_of(reader.live_versions(space_id))
        assert [(one.seq, one.live_count) for one in map(found.get, ["u-1", "s", "empty"])] == [(9, 2), (5, 1), (0, 0)]

    def test_keep_the_verdicts_and_clients_of_an_older_database(self, engine: Engine) -> None:
        config = _config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0002")
            connection.exec_driver_sql(
                "INSERT INTO operations VALUES ('1', 'c', 'op', x'00', 's', 'update', 'note', 'a', 'applied', "
                "'same_version', 2, 2, NULL, NULL, NULL, NULL, NULL, 0, 1, 0)"
            )
            connection.exec_driver_sql("INSERT INTO clients VALUES ('1', 'c', '{}', 'cursor', 7)")
        migrate(engine)
        with Store(engine).read() as reader:
            (kept,) = reader.decisions_named(UserId("1"), OperationId("op"))
            known = reader.client(UserId("1"), "c")
        assert (kept.version, kept.base_version, kept.strategy, kept.sent) == (2, None, None, None)
        assert known == ClientRecord(UserId("1"), ClientId("c"), {}, "cursor", Millis(7), None, None)

    def test_refuse_a_database_that_is_newer_than_the_code(self, engine: Engine) -> None:
        migrate(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(ConfigurationError, match="9999, which is newer than this server"):
            migrate(engine)

    def test_leave_an_older_database_as_it_was_when_one_fails(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stumble(*_args: object, **_options: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("alembic.operations.Operations.create_index", stumble)
        with pytest.raises(ZeroDivisionError):
            migrate(engine)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0

    def test_run_once_when_two_processes_start_at_once(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            outcomes = pool.map(_migrated, [tmp_path, tmp_path])
        head = _migrated(tmp_path)
        assert head in outcomes
        assert all(outcome == head or "another server" in outcome for outcome in outcomes)

    def test_leave_all_or_nothing_behind_when_killed(self, tmp_path: Path) -> None:
        script = textwrap.dedent(
            """
            import os, signal, sys
            from alembic.operations import Operations
            from sync_server.stores.engine import open_engine
            from sync_server.stores.migrations import migrate

            made = Operations.create_index
            count = 0

            def create_index(self, *args, **options):
                global count
                count += 1
                if count == 4:
                    os.kill(os.getpid(), signal.SIGKILL)
                return made(self, *args, **options)

            Operations.create_index = create_index
            migrate(open_engine(sys.argv[1]))
            """
        )
        url = f"sqlite:///{tmp_path / 'sync.db'}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        killed = subprocess.run([sys.executable, "-c", script, url], env=environment, check=False)
        with sqlite3.connect(tmp_path / "sync.db") as connection:
            left = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        connection.close()
        engine = open_engine(url)
        migrate(engine)
        with engine.connect() as migrated:
            assert compare_metadata(MigrationContext.configure(migrated), metadata) == []
        engine.dispose()
        assert killed.returncode == -signal.SIGKILL
        assert left == 0


class TestAReadingStore:
    def test_reads_beside_a_server(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'sync.db'}"
        with opened_store(tmp_path, url) as store:
            with store.write() as writer:
                writer.save_user("1", 10)
            with reading_store(url) as other, other.read() as reader:
                assert reader.has_user("1")
                with store.write() as writer:
                    writer.save_user("2", 10)
                assert not reader.has_user("2")

    def test_cannot_write(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'sync.db'}"
        with opened_store(tmp_path, url):
            pass
        before = (tmp_path / "sync.db").read_bytes()
        with reading_store(url) as store:
            with store.read() as reader:
                assert not reader.has_user("1")
            with pytest.raises(StoreError, match="readonly"), store.write() as writer:
                writer.save_user("1", 10)
        assert (tmp_path / "sync.db").read_bytes() == before

    def test_needs_a_database(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'none' / 'sync.db'}"
        with pytest.raises(ConfigurationError, match="there is no database"), reading_store(url):
            pass
        assert not (tmp_path / "none").exists()

    def test_needs_the_schema_of_the_code(self, tmp_path: Path) -> None:
        engine = open_engine(f"sqlite:///{tmp_path / 'sync.db'}")
        for revision, message in (("0001", "older than this program"), ("9999", "newer than this server")):
            migrate(engine)
            with engine.begin() as connection:
                connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
            with pytest.raises(ConfigurationError, match=message), reading_store(str(engine.url)):
                pass
            with engine.begin() as connection:
                connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0005'")
        engine.dispose()

    def test_says_in_one_line_what_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "sync.db").write_text("this is a text" * 100)
        with pytest.raises(ConfigurationError, match="cannot be read"), reading_store(f"sqlite:///{tmp_path}/sync.db"):
            pass


def _write_much(store: Store) -> None:
    with store.write() as writer:
        append(writer, *(change(0, "a", data="x" * 4_096) for _ in range(200)))


def _migrated(data_dir: Path) -> str:
    """The schema that a starting process brings the database to, or why it does not start."""
    try:
        with locked_engine(data_dir, f"sqlite:///{data_dir / 'sync.db'}") as engine:
            return migrate(engine)
    except ConfigurationError as error:
        return str(error)
