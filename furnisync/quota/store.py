"""The ledger's file: tables, rows, and recovery from damage.

All functions run in the caller's transaction.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from furnisync.clock import DAY_S
from furnisync.errors import DatabaseUnusable
from furnisync.lockfile import exclusive
from furnisync.quota.state import BUCKET_S, Facts, Instant, Key, Notice
from furnisync.sqlite.database import open_database

APPLICATION_ID = 0x46535155  # "FSQU"
EVENTS_KEPT = 200
FLIGHT_FADES_S = 120.0
"""A call without an answer, because its process died, counts as lost after this."""
RECENT_S = 3.0
"""How long answered calls stay listed, to compute our own part of a full second."""
TRIM_EVERY_S = 1.0
FOREIGN_ATTEMPTS = 5

log = logging.getLogger("furnisync.quota")
_key = msgspec.json.Decoder(Key)

MIGRATIONS = [
    """
    CREATE TABLE ledger (
        key_id TEXT PRIMARY KEY,
        used_at REAL NOT NULL,
        state TEXT NOT NULL          -- a `Key` as JSON: always read and written completely
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE flight (
        key_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        owner TEXT NOT NULL,         -- pid.number of the process's ledger
        mono REAL NOT NULL,
        answered INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (key_id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE usage (
        key_id TEXT NOT NULL,
        bucket INTEGER NOT NULL,     -- unix time / 300
        program TEXT NOT NULL,
        purpose TEXT NOT NULL,
        calls INTEGER NOT NULL,
        PRIMARY KEY (key_id, bucket, program, purpose)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        key_id TEXT NOT NULL,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL
    ) STRICT;
    """
]

_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Damaged(Exception):
    """The file's content is invalid; this never leaves the ledger."""


def is_damage(error: BaseException | None) -> bool:
    """Whether an error of SQLite says that the content is damaged, rather than busy or full."""
    if isinstance(error, Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open the ledger; a damaged one is moved aside, because the headers restore its content.

    Raises:
        DatabaseUnusable: of a newer version, another program's file, not writable.
    """
    for attempt in range(100):
        inode = inode_of(path)
        try:
            return _open_checked(path)
        except (DatabaseUnusable, sqlite3.DatabaseError, Damaged) as error:
            cause = error.__cause__ if isinstance(error, DatabaseUnusable) else error
            if is_damage(cause):
                move_aside(path, inode, str(cause))
            elif not is_busy(cause) and attempt >= FOREIGN_ATTEMPTS:
                raise  # a file that another process is creating looks foreign for an instant
            time.sleep(0.02)
    raise DatabaseUnusable(
        f"{path} stays locked by another program: end what holds it, or move the file away."
    )


def is_busy(error: BaseException | None) -> bool:
    """Whether another process holds the lock just now."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _open_checked(path: Path) -> sqlite3.Connection:
    connection = open_database(path, APPLICATION_ID, MIGRATIONS)
    try:
        _check_pages(connection)
        # Transactions run on the event loop's thread, so none may wait for the disk or for
        # another process. The headers of the next answer restore what a power cut loses (the last
        # seconds, at worst the file).
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_pages(connection: sqlite3.Connection) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise Damaged(verdict)


def move_aside(path: Path, inode: int | None, why: str) -> None:
    """Rename the damaged file once, even if several processes find it damaged at the same time."""
    # A separate file: closing the database itself would release SQLite's locks of this process.
    with exclusive(path.with_name(f".{path.name}.lock")):
        if inode is None or inode_of(path) != inode:
            return  # another process has done it
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in ("-wal", "-shm", ""):  # the name becomes free last, with nothing beside it
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(f"{aside}{suffix}")
    log.warning(
        "%s was damaged (%s): moved to %s and created again; Etsy's next answer says what is left",
        path, why, aside.name,
    )  # fmt: skip


def inode_of(path: Path) -> int | None:
    """The inode of the file that has this name now."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def load_key(connection: sqlite3.Connection, key_id: str) -> Key:
    """The stored state of a key, or a new one.

    Raises:
        Damaged: the row is invalid.
    """
    row = connection.execute("SELECT state FROM ledger WHERE key_id = ?", (key_id,)).fetchone()
    if row is None:
        return Key()
    try:
        return _key.decode(row[0])
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error


def encode_key(key: Key) -> str:
    """A key as stored in the file."""
    return msgspec.json.encode(key).decode()


def save_key(connection: sqlite3.Connection, key_id: str, key: Key, now: Instant) -> None:
    """Store the state of a key."""
    connection.execute(
        "INSERT INTO ledger VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET used_at = excluded.used_at, state = excluded.state",
        (key_id, now.wall, encode_key(key)),
    )


class Granted(NamedTuple):
    """Whose calls are granted.

    Attributes:
        owner: pid.number of the process's ledger.
    """

    program: str
    purpose: str
    owner: str


def add_calls(
    connection: sqlite3.Connection,
    key_id: str,
    calls: Sequence[tuple[int, float]],
    granted: Granted,
    now: Instant,
) -> None:
    """Record granted calls, each with its number and its monotonic time."""
    connection.executemany(
        "INSERT OR REPLACE INTO flight VALUES (?, ?, ?, ?, ?, 0)",
        [(key_id, number, granted.purpose, granted.owner, mono) for number, mono in calls],
    )
    _add_usage(connection, key_id, granted.program, granted.purpose, now.wall, len(calls))


def _add_usage(
    connection: sqlite3.Connection,
    key_id: str,
    program: str,
    purpose: str,
    wall: float,
    calls: int,
) -> None:
    connection.execute(
        "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT DO UPDATE SET calls = calls + ?5",
        (key_id, int(wall // BUCKET_S), program, purpose, calls),
    )


def mark_answered(
    connection: sqlite3.Connection, key_id: str, number: int
) -> tuple[float, str] | None:
    """Record that a call ended; returns its monotonic time and purpose, None if not listed."""
    row = connection.execute(
        "UPDATE flight SET answered = 1 WHERE key_id = ? AND number = ? AND NOT answered"
        " RETURNING mono, purpose",
        (key_id, number),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def correct_usage(
    connection: sqlite3.Connection, key_id: str, names: tuple[str, str, str], wall: float
) -> None:
    """Move a call that was counted at a time: `(program, wrong purpose, right purpose)`."""
    program, wrong, right = names
    _add_usage(connection, key_id, program, wrong, wall, -1)
    _add_usage(connection, key_id, program, right, wall, 1)


def remove_call(
    connection: sqlite3.Connection, key_id: str, program: str, number: int, now: Instant
) -> None:
    """A granted call was not made, and never will be."""
    row = connection.execute(
        "DELETE FROM flight WHERE key_id = ? AND number = ? RETURNING mono, purpose",
        (key_id, number),
    ).fetchone()
    if row is not None:
        _add_usage(connection, key_id, program, row[1], now.wall - now.mono + row[0], -1)


def count_around(connection: sqlite3.Connection, key_id: str, mono: float) -> int:
    """Calls of all our programs in the second before an instant and shortly after it."""
    count: int = connection.execute(
        "SELECT count(*) FROM flight WHERE key_id = ? AND mono BETWEEN ? AND ?",
        (key_id, mono - 1.0, mono + 0.25),
    ).fetchone()[0]
    return count


def load_facts(connection: sqlite3.Connection, key_id: str, key: Key, now: Instant) -> Facts:
    """What a decision needs in addition to the key."""
    in_flight = connection.execute(
        "SELECT count(*) FROM flight WHERE key_id = ? AND NOT answered", (key_id,)
    ).fetchone()[0]
    if key.remaining is None or key.remaining > 0.2 * (key.limit_per_day or 0):
        return Facts(in_flight)  # the day is not spent, nor near it
    oldest = connection.execute(
        "SELECT min(bucket) FROM usage WHERE key_id = ? AND bucket > ?",
        (key_id, (now.wall - DAY_S) // BUCKET_S),
    ).fetchone()[0]
    return Facts(in_flight, oldest)


def list_lost(connection: sqlite3.Connection, key_id: str, now: Instant) -> list[int]:
    """Numbers of calls that count as lost."""
    rows = connection.execute(
        "SELECT number FROM flight WHERE key_id = ? AND NOT answered AND mono NOT BETWEEN ? AND ?",
        (key_id, now.mono - FLIGHT_FADES_S, now.mono),
    )
    return [row[0] for row in rows]


def list_orphans(connection: sqlite3.Connection, key_id: str) -> list[int]:
    """Numbers of unanswered calls whose process is dead."""
    rows = connection.execute(
        "SELECT number, owner FROM flight WHERE key_id = ? AND NOT answered", (key_id,)
    )
    return [row[0] for row in rows if not _is_alive(row[1])]


def _is_alive(owner: str) -> bool:
    try:
        os.kill(int(owner.partition(".")[0]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def trim(connection: sqlite3.Connection, key_id: str, now: Instant) -> None:
    """Delete old rows: answered calls, usage outside the last day, old events."""
    connection.execute(
        "DELETE FROM flight WHERE key_id = ? AND answered AND mono NOT BETWEEN ? AND ?",
        (key_id, now.mono - RECENT_S, now.mono),
    )
    # A bucket far in the future is from a wrong clock.
    connection.execute(
        "DELETE FROM usage WHERE bucket NOT BETWEEN ? AND ?",
        ((now.wall - DAY_S) // BUCKET_S - 12, (now.wall + DAY_S) // BUCKET_S),
    )


def add_event(connection: sqlite3.Connection, key_id: str, notice: Notice, now: Instant) -> None:
    """Store an event; only the newest stay."""
    cursor = connection.execute(
        "INSERT INTO events (key_id, at, kind, message) VALUES (?, ?, ?, ?)",
        (key_id, now.wall, notice.kind, notice.message),
    )
    connection.execute("DELETE FROM events WHERE id <= ?", ((cursor.lastrowid or 0) - EVENTS_KEPT,))
