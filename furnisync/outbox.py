"""What one program's batch answers hold for the other, so that no answer is asked for twice.

    image sync --answers--> images_outbox.db --> data sync     (listings and shops, no images)
    data sync  --answers--> data_outbox.db   --> image sync    (what discovery needs, with images)

Each program writes its own outbox and only reads the other's. A reader commits its cursor with the
rows that it makes of an answer, so that a kill loses and doubles nothing. An outbox is bounded by
age and bytes. It may be deleted: then answers are asked for again.
"""

import json
import logging
import sqlite3
import time
import zlib
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec

from furnisync.clock import DAY_S
from furnisync.errors import DatabaseUnusable
from furnisync.sqlite.connection import connect_to_read
from furnisync.sqlite.database import open_database, open_reader
from furnisync.sqlite.writer import Writer

__all__ = [
    "CURSOR_TABLE",
    "Answer",
    "Cursor",
    "Outbox",
    "empty_outbox",
    "load_cursor",
    "read_answers",
    "save_cursor",
]

log = logging.getLogger("furnisync.outbox")

APPLICATION_ID = 0x46534F42  # "FSOB"
KEPT_S = 14 * DAY_S
"""An older answer is of no use: what it tells is due again."""
MOST_BYTES = 1_000_000_000
"""More than one collection of 600,000 listings, which takes about half of it."""
PRUNE_EVERY = 200
LEVEL = 1
"""Of compression: more costs time and gains little."""

_TABLES = """
CREATE TABLE outbox (identity TEXT NOT NULL) STRICT;
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,       -- when the API gave it, unix seconds
    body BLOB NOT NULL         -- compressed JSON, a list of listings
) STRICT;
"""

CURSOR_TABLE = """
CREATE TABLE outbox_cursor (
    identity TEXT NOT NULL,    -- of the other program's outbox
    number INTEGER NOT NULL    -- the last answer that was taken from it
) STRICT;
"""
"""A migration of a reader's database."""


class Cursor(msgspec.Struct, frozen=True):
    """How far an outbox was read; an outbox that was made anew has another identity."""

    identity: str
    number: int


class Answer(msgspec.Struct, frozen=True):
    """An answer of batch.

    Attributes:
        cursor: to be committed with what is made of it.
        at: when the API gave it, unix seconds.
        listings: a JSON list.
    """

    cursor: Cursor
    at: int
    listings: bytes

    def objects(self) -> list[dict[str, Any]]:
        """The listings with all their fields."""
        try:
            found: list[Any] = _listings.decode(self.listings)
        except msgspec.DecodeError:
            found = json.loads(self.listings)  # msgspec refuses half a surrogate pair
        return [one for one in found if isinstance(one, dict)]


_listings = msgspec.json.Decoder(list[Any])


class Outbox:
    """One program's outbox, open for writing.

    What is put there is in the file when `put` returns; a power cut may lose the last seconds,
    which costs calls and nothing else.
    """

    def __init__(self, path: Path, reader: Path) -> None:
        """Open the outbox, or create it.

        Args:
            path: the file.
            reader: the other program's database; what it has taken is deleted here.

        Raises:
            DatabaseUnusable: not writable.
        """
        connection = _open_or_replace(path)
        connection.execute("PRAGMA synchronous = NORMAL")
        self._reader = reader
        self._since_pruned = PRUNE_EVERY
        self._writer = Writer(connection, "outbox")

    async def put(self, at: int, listings: bytes) -> None:
        """Add an answer: a JSON list of its listings, and when it came (unix seconds)."""
        await self._writer.run(self._put, at, listings)

    def close(self) -> None:
        """Finish what is queued, then close the file."""
        self._writer.close()

    def _put(self, connection: sqlite3.Connection, at: int, listings: bytes) -> None:
        connection.execute(
            "INSERT INTO answers (at, body) VALUES (?, ?)", (at, zlib.compress(listings, LEVEL))
        )
        self._since_pruned += 1
        if self._since_pruned >= PRUNE_EVERY:
            self._since_pruned = 0
            _prune(connection, at, _cursor_in(self._reader))


def _open_or_replace(path: Path) -> sqlite3.Connection:
    """Open an outbox; one that cannot be used is moved aside, since its answers come again."""
    try:
        return open_database(path, APPLICATION_ID, [_TABLES])
    except DatabaseUnusable as error:
        aside = path.with_name(f"{path.name}.unusable-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            for ending in ("-wal", "-shm", ""):
                if (part := path.with_name(path.name + ending)).exists():
                    part.rename(f"{aside}{ending}")
        except OSError:
            raise error from None
        log.warning("%s; it was moved to %s", error, aside.name)
        return open_database(path, APPLICATION_ID, [_TABLES])


def _prune(connection: sqlite3.Connection, now: int, taken: Cursor | None) -> None:
    identity = _identity(connection)
    if taken is not None and taken.identity == identity:
        connection.execute("DELETE FROM answers WHERE number <= ?", (taken.number,))
    connection.execute("DELETE FROM answers WHERE at < ?", (now - KEPT_S,))
    connection.execute(
        "DELETE FROM answers WHERE number <= (SELECT max(number) FROM ("
        " SELECT number, sum(length(body)) OVER (ORDER BY number DESC) AS bytes FROM answers)"
        " WHERE bytes > ?)",
        (MOST_BYTES,),
    )


def _cursor_in(reader: Path) -> Cursor | None:
    """How far the other program is; None where its database is missing or says nothing."""
    if not reader.exists():
        return None
    try:
        with closing(connect_to_read(reader)) as connection:
            return load_cursor(connection)
    except (DatabaseUnusable, sqlite3.DatabaseError):
        return None  # it says so itself; what it has not taken stays here


def _identity(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT identity FROM outbox").fetchone()
    if row is None:
        connection.execute("INSERT INTO outbox VALUES (?)", (token_hex(8),))
        return _identity(connection)
    return str(row[0])


def read_answers(path: Path, after: Cursor | None, most: int) -> list[Answer]:
    """Read the other program's answers after a cursor, oldest first, at most so many.

    An outbox that cannot be used is as if it were not there: its answers are asked for again.
    """
    if not path.exists():
        return []
    try:
        with closing(open_reader(path, APPLICATION_ID, 1, oldest=1)) as connection:
            row = connection.execute("SELECT identity FROM outbox").fetchone()
            if row is None:
                return []
            start = after.number if after is not None and after.identity == row[0] else 0
            rows = connection.execute(
                "SELECT number, at, body FROM answers WHERE number > ? ORDER BY number LIMIT ?",
                (start, most),
            )
            return [Answer(Cursor(row[0], one[0]), one[1], zlib.decompress(one[2])) for one in rows]
    except (DatabaseUnusable, sqlite3.DatabaseError, zlib.error) as error:
        log.warning("%s cannot be read, its answers are asked for again: %s", path.name, error)
        return []


def empty_outbox(path: Path) -> None:
    """Delete all answers, so that nothing that was purged is left in them.

    Raises:
        DatabaseUnusable: not ours, damaged, or not writable.
    """
    if path.exists():
        with closing(open_database(path, APPLICATION_ID, [_TABLES])) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("DELETE FROM answers")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")


def load_cursor(connection: sqlite3.Connection) -> Cursor | None:
    """How far a reader's database is; None before the first answer, or in an older file."""
    known = "SELECT 1 FROM sqlite_schema WHERE name = 'outbox_cursor'"
    if connection.execute(known).fetchone() is None:
        return None
    row = connection.execute("SELECT identity, number FROM outbox_cursor").fetchone()
    return None if row is None else Cursor(row[0], row[1])


def save_cursor(connection: sqlite3.Connection, cursor: Cursor) -> None:
    """Record that an answer was taken, in the transaction of its rows."""
    connection.execute("DELETE FROM outbox_cursor")
    connection.execute("INSERT INTO outbox_cursor VALUES (?, ?)", (cursor.identity, cursor.number))
