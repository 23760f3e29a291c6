"""Opens a database: pragmas, checks, migrations, transactions; translates SQLite's errors.

The caller owns the transaction and never holds it across a network call.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from furnisync.errors import (
    DatabaseFull,
    DatabaseOutdated,
    DatabaseUnusable,
    is_disk_full,
)
from furnisync.sqlite.connection import connect_to_read, connect_to_write
from furnisync.sqlite.migration_backup import backed_up, remove_older

log = logging.getLogger("furnisync.sqlite")

Migration = str | Callable[[sqlite3.Connection], None]
"""SQL statements, or a function, that migrate one version to the next."""

NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,  # a disk quota is used up, among others
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)
NO_SHARING = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_RDLOCK,
        sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""SQLite's errors where file locks or shared memory do not work."""
FREE_PAGES_AT_ONCE = 1000


def open_database(
    path: Path, application_id: int, migrations: Sequence[Migration]
) -> sqlite3.Connection:
    """Open or create a database for writing, and migrate it to the newest version.

    A database of an older version is copied first (`migration_backup.py`).

    Every commit is on the disk when it returns (WAL with synchronous=FULL): a power cut loses
    nothing that was committed.

    Args:
        path: the file; its folder must exist.
        application_id: 32-bit mark in the file's header that identifies it as ours.
        migrations: all of them; `PRAGMA user_version` counts how many were applied.

    Raises:
        DatabaseUnusable: newer version, another program's file, damaged, or not writable.
        DatabaseFull: the disk is full.
    """
    with _translated(path):
        if not path.exists():
            path.touch(0o600)  # before SQLite does: the log beside it gets the same mode
        connection = connect_to_write(path)
        try:
            _check_owner(connection, path, application_id)
            _check_version(connection, path, len(migrations))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # Deleted content inside a page is overwritten; builds of SQLite differ in the default.
            connection.execute("PRAGMA secure_delete = FAST")
            _migrate(connection, path, application_id, migrations)
            _make_private(path)
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(
    path: Path, application_id: int, newest: int, *, oldest: int = 0
) -> sqlite3.Connection:
    """Open an existing database read-only; never blocks a writer and is never blocked.

    Works on a read-only file system too, and leaves no files behind (see `sqlite_connection`).
    Closing the connection raises DatabaseUnusable if the rows read may be inconsistent.

    Args:
        path: the file.
        application_id: as for `open_database`.
        newest: the newest version that this program knows.
        oldest: the oldest that the caller can read.

    Raises:
        DatabaseUnusable: missing, damaged, another program's file, or of a newer version.
        DatabaseOutdated: of an older version.
        DatabaseFull: the disk has no space for the index beside it.
    """
    with _translated(path):
        connection = connect_to_read(path)
        try:
            _check_owner(connection, path, application_id)
            _check_version(connection, path, newest, oldest)
        except BaseException:
            connection.close()
            raise
        return connection


def _make_private(path: Path) -> None:
    """Restrict a database that an older version or a copy left readable by others to its owner."""
    for ending in ("", "-wal", "-shm"):
        # Some file systems have no permissions and refuse; `doctor` reports who can read there.
        with suppress(FileNotFoundError, PermissionError):
            path.with_name(path.name + ending).chmod(0o600)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; takes the write lock at once, so that no statement inside waits for it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def overwrite_free_pages(connection: sqlite3.Connection) -> bool:
    """Overwrite some of the pages that deleted rows have left.

    A free page keeps its old content until it is used again, so each is filled with zeros once
    and then freed.

    Args:
        connection: inside a transaction.

    Returns:
        whether there is more to do, in another transaction.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS overwritten (zeros BLOB)")
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free == 0:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DROP TABLE overwritten")
        connection.execute("PRAGMA secure_delete = FAST")
        return False
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    zeros = min(free, FREE_PAGES_AT_ONCE) * page_bytes
    connection.execute("INSERT INTO overwritten VALUES (zeroblob(?))", (zeros,))
    return True


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        if lacks_room(error):
            raise DatabaseFull(
                f"{path} cannot be opened ({error}): there is no room on its disk, free some."
            ) from error
        if getattr(error, "sqlite_errorcode", None) in NO_SHARING:
            raise DatabaseUnusable(
                f"{path} cannot be used ({error}): its file system lacks the locks or the shared"
                " memory that SQLite needs, as network shares often do; move the home to a local"
                " disk and set FURNISYNC_HOME to it."
            ) from error
        raise DatabaseUnusable(
            f"{path} cannot be used as a database ({error}): check the file, its folder's"
            " permissions and the room on the disk, or move the file away to start with a new one."
        ) from error


def lacks_room(error: sqlite3.DatabaseError | OSError) -> bool:
    """Whether a disk is full, or its quota used up."""
    if isinstance(error, OSError):
        return is_disk_full(error)
    return getattr(error, "sqlite_errorcode", None) in NO_ROOM


def _check_owner(connection: sqlite3.Connection, path: Path, application_id: int) -> None:
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if found != application_id and not empty:
        raise DatabaseUnusable(
            f"{path} was not made by furnisync (or is another of its files): move it away,"
            " or take its content over with `furnisync import`."
        )


def _check_version(connection: sqlite3.Connection, path: Path, known: int, oldest: int = 0) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise DatabaseUnusable(
            f"{path} is of version {version}, this program knows {known}: update furnisync."
        )
    if version < oldest:
        raise DatabaseOutdated(
            f"{path} is of an older version: run a sync to renew it, or"
            " `furnisync service restart` where a service runs it."
        )


def _migrate(
    connection: sqlite3.Connection,
    path: Path,
    application_id: int,
    migrations: Sequence[Migration],
) -> None:
    """Run all steps or none, after a copy, which is made under the same write lock."""
    newest = len(migrations)
    with ExitStack() as stack, transaction(connection):
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == newest:
            return
        if version > 0:
            stack.enter_context(backed_up(path, version, newest))
        for step in migrations[version:]:
            if callable(step):
                step(connection)
            else:
                for statement in _statements(step):
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute(f"PRAGMA application_id = {application_id}")
    if version > 0:
        remove_older(path, application_id, version)


def _statements(script: str) -> Iterator[str]:
    """Split a script, since `executescript` would commit the open transaction."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
