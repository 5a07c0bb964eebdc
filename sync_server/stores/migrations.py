"""Brings the database to the code's schema, under a lock; refuses one that is newer than the code."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError as AlembicError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

import schema.migrations
from sync_server.errors import ConfigurationError


def migrate(engine: Engine) -> str:
    """Run the migrations that the database lacks, all or none, and return the revision it is at then.

    The caller holds the locks of `opening.locked_engine`; the whole run is one transaction.

    Raises:
        ConfigurationError: the database was written by a newer version of the server, or cannot be used.
    """
    try:
        return _migrate(engine)
    except DBAPIError as error:
        message = f"the database {engine.url.database} cannot be used: {error.orig}"
        raise ConfigurationError(message) from None


def _migrate(engine: Engine) -> str:
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            _refuse_newer(connection, scripts)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            # a file that may only be read lets a write transaction begin, and refuses the first write
            connection.exec_driver_sql("DELETE FROM alembic_version WHERE false")
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            if connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
                connection.exec_driver_sql("ROLLBACK")
            raise
    return str(scripts.get_current_head())


def require_current(engine: Engine) -> None:
    """Change nothing, and make sure that the database is at the code's schema.

    Raises:
        ConfigurationError: it is older or newer, or cannot be used.
    """
    scripts = ScriptDirectory.from_config(_config())
    try:
        with engine.connect() as connection:
            _refuse_newer(connection, scripts)
            revision = MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        message = f"the database cannot be read: {error.orig}"
        raise ConfigurationError(message) from None
    if revision != scripts.get_current_head():
        message = f"the database is at schema {revision}, older than this program; start the server, or run migrate"
        raise ConfigurationError(message)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.migrations.__file__).parent).replace("%", "%%"))
    return config


def _refuse_newer(connection: Connection, scripts: ScriptDirectory) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return
    try:
        scripts.get_revision(revision)
    except AlembicError:
        message = f"the database is at schema {revision}, which is newer than this server; upgrade the server"
        raise ConfigurationError(message) from None
