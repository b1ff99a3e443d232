"""SQLite's write-ahead log: begun and emptied where many processes have one file open.

SQLite waits for other processes when a transaction begins, but not here: whatever ``busy_timeout``
says, it answers "database is locked" at once.
"""

import sqlite3
import time
from collections.abc import Callable

_PAUSE_S = 0.01


def begin_log(connection: sqlite3.Connection, patience_s: float) -> None:
    """Have SQLite write into a log beside the file, as it does for ever once it was told so.

    Whoever does so first needs the file alone for a moment. Raises ``sqlite3.OperationalError`` if
    others hold it for longer than ``patience_s``.
    """

    def began() -> bool:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    _await(began, patience_s)


def empty_log(connection: sqlite3.Connection, patience_s: float) -> None:
    """Bring everything from the log into the file itself, and cut the log to nothing.

    Raises ``sqlite3.OperationalError`` if others do not let go of it within ``patience_s``.
    """

    def emptied() -> bool:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    _await(emptied, patience_s)


def _await(done: Callable[[], bool], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > end:
            raise sqlite3.OperationalError("another process holds the file")
        time.sleep(_PAUSE_S)
