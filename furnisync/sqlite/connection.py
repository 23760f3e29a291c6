"""How to connect to a database: for writing, and for reading without leaving files behind.

SQLite keeps the newest commits in `-wal` until a writer moves them into the database, and an index
of them in `-shm`. Both exist while a process has the database open and after `kill -9`. The last
one to close it normally removes them. How each state is read was found by experiment (SQLite 3.40):

| beside the database      | folder    | opened as     | what the reader sees and leaves     |
| ------------------------ | --------- | ------------- | ----------------------------------- |
| `-wal` and `-shm`        | any       | `mode=ro`     | every commit; both files stay       |
| `-wal` alone (a copy)    | writable  | `mode=ro`     | every commit; `-shm` is made, stays |
| `-wal` alone             | read-only | refused       | it would miss the newest commits    |
| none, or an empty `-wal` | writable  | `mode=rw`     | all; both are made and removed      |
| none, or an empty `-wal` | read-only | `immutable=1` | all, because the log is empty       |

So `immutable`, which ignores `-wal` and every lock, is used only where there is no log to ignore.
A writer that uses the same disk by another path (a container's mount, another machine) may begin
during the read. Until it changes the database itself, the rows read are consistent and as of the
start. After that, `Reading.check` raises an error instead of accepting inconsistent rows.
"""

import os
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from furnisync.errors import DatabaseUnusable

C = TypeVar("C", bound=sqlite3.Connection)

BUSY_TIMEOUT_MS = 60_000
SETTLE_S = 1.0
"""A writer that starts or stops creates or removes its files within this."""
_PASSING = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


def _mark(path: Path) -> tuple[int, int, int]:
    """A value that changes whenever a file does."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Reading:
    """A way to read a database, correct at the moment of the choice.

    Attributes:
        path: the database, with symbolic links resolved as SQLite does.
        query: the parameters of the URI.
    """

    path: Path
    query: str
    _begun: tuple[int, int, int] = field(repr=False)

    @property
    def address(self) -> str:
        """The database as SQLite's URI."""
        return f"{self.path.as_uri()}?{self.query}"

    def check(self) -> None:
        """Check after everything is read.

        Raises:
            DatabaseUnusable: the rows read may mix old and new ones.
        """
        if "immutable" in self.query and _mark(self.path) != self._begun:
            raise DatabaseUnusable(
                f"{self.path} was changed while it was read on a read-only file system: run the"
                " command again."
            )


def choose_reading(path: Path) -> Reading:
    """Choose how to read a database by the table above.

    Raises:
        DatabaseUnusable: its newest commits cannot be read here.
        OSError: it does not exist.
    """
    path = path.resolve()
    begun = _mark(path)
    log, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
    writable = os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)
    if log.exists() and (index.exists() or (writable and _size(log))):
        query = "mode=ro"  # never the last to close it, because that would remove the log
    elif _size(log) == 0:
        query = "mode=rw" if writable else "mode=ro&immutable=1"
    else:
        raise DatabaseUnusable(
            f"{log} holds the newest changes, which cannot be read without {index.name} on a"
            f" read-only file system: copy {path.name} and {log.name} to a folder that can be"
            " written, and read them there."
        )
    return Reading(path, query, begun)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class ReadConnection(sqlite3.Connection):
    """A connection that checks at its end whether the rows read were consistent."""

    reading: Reading | None = None

    def close(self) -> None:
        """Close it.

        Raises:
            DatabaseUnusable: the rows read may mix old and new ones.
        """
        super().close()
        if self.reading is not None:
            self.reading.check()


def connect_to_read(path: Path) -> ReadConnection:
    """Connect to an existing database as `choose_reading` says.

    Raises:
        DatabaseUnusable: it does not exist, or its newest commits cannot be read here.
        sqlite3.DatabaseError, OSError: it cannot be read.
    """
    until = time.monotonic() + SETTLE_S
    while True:
        if not path.exists():
            raise DatabaseUnusable(f"{path} does not exist yet: run a sync first.")
        try:
            return _connect_as(choose_reading(path))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _PASSING or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _connect_as(reading: Reading) -> ReadConnection:
    connection = _connect(reading.address, ReadConnection)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # opens the log too
    except BaseException:
        connection.close()
        raise
    connection.reading = reading
    return connection


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Connect for writing; creates an empty database if there is none.

    Raises:
        sqlite3.DatabaseError: it cannot be opened.
    """
    return _connect(f"{path.resolve().as_uri()}?mode=rwc", sqlite3.Connection)


def _connect(address: str, kind: type[C]) -> C:
    connection = sqlite3.connect(
        address,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
        factory=kind,
        uri=True,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -32000")
    return connection
