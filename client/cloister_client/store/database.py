"""The store's database: connections, transactions, migrations, and the one dialect difference."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from cloister_client.sqlite_log import begin_log, empty_log
from cloister_shared.errors import ConfigError, ServiceError

BUSY_TIMEOUT_S = 30
"""How long a writer waits for another process's transaction."""

CHUNK = 500
"""Values in one ``IN (...)``: every database takes as many parameters."""

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MIGRATIONS = Path(__file__).parent / "migrations"
_PREPARE_LOCK = 0x636C6F6973746572  # "cloister"; SQLite locks the whole file
_UPGRADE_LOCK = threading.Lock()  # Alembic's context is global to the process

T = TypeVar("T")


class Database:
    """A SQLite file (in WAL mode) or a PostgreSQL database.

    Raises ``ConfigError`` for a URL that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._writer = self._engine.execution_options(cloister_writes=True)

    @contextmanager
    def prepare(self, tombstone: Callable[[str], str]) -> Iterator[Connection]:
        """The transaction in which a store is made or migrated, by one process at a time.

        A migration may need the tombstones of pseudonyms. Raises ``ServiceError`` if the database
        does not answer.
        """
        with _named(self._engine.url), self.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_PREPARE_LOCK)))
            upgrade(connection, tombstone)
            yield connection

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database and writes nothing."""
        return self._engine.begin()

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that is undone by an exception; in SQLite one at a time."""
        return self._writer.begin()

    def write_anew(self) -> None:
        """Leave nothing of deleted rows in a SQLite file, its free space and its log.

        Overwriting them is not enough: SQLite may have moved a row within its page, or to another,
        and left the bytes where they were. PostgreSQL's files are its administrator's. Raises
        ``ServiceError`` if there is no room for it, or readers do not let go of the log.
        """
        if self._engine.dialect.name != "sqlite":
            return
        with closing(self._engine.raw_connection()) as pooled:
            connection = cast(sqlite3.Connection, pooled.driver_connection)
            try:
                connection.execute("VACUUM")
                empty_log(connection, BUSY_TIMEOUT_S)
            except sqlite3.Error as error:
                raise ServiceError(
                    f"the store cannot be written anew without the deleted rows ({error}); it is "
                    "tried again when the store is opened next"
                ) from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def upgrade(
    connection: Connection, tombstone: Callable[[str], str], revision: str = "head"
) -> None:
    """Bring the tables to this release's; a newer release's are a ``ConfigError``."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes.update(connection=connection, tombstone=tombstone)
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise ConfigError(
            f"the store was written by a newer release of Cloister (revision {current}); "
            "install that release, or restore a backup of the store"
        )
    if current != known[0]:
        with _UPGRADE_LOCK:
            command.upgrade(config, revision)


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT of this connection's dialect, which knows ``on_conflict_do_nothing``."""
    return _INSERTS[connection.dialect.name](table)


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """``values`` in slices of at most ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _engine(url: str) -> Engine:
    try:
        engine = create_engine(make_url(url))
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"store_url cannot be used: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"store_url needs the package {error.name}, which is not installed; for PostgreSQL "
            "write postgresql+psycopg://… and pip install '.[postgresql]'"
        ) from error
    if engine.dialect.name not in _INSERTS:
        raise ConfigError(
            f"store_url names the database {engine.dialect.name!r}; use sqlite or postgresql"
        )
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _: object) -> None:
    """Pragmas of a new connection; transactions are begun by :func:`_begin_sqlite` alone."""
    connection.isolation_level = None
    begin_log(connection, BUSY_TIMEOUT_S)
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
        "foreign_keys = ON",
        "secure_delete = ON",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock at once: one that read first could not get it any more."""
    writes = connection.get_execution_options().get("cloister_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _named(url: URL) -> Iterator[None]:
    """Say in one sentence which database did not answer; a password in its URL is left out."""
    try:
        yield
    except DBAPIError as error:
        place = url.render_as_string(hide_password=True)
        raise ServiceError(f"cannot open the store at {place}: {error.orig}") from error
