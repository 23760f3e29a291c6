"""Objects in the order of a key, however many, without holding them in memory.

Listings written to the catalog in the order of the metadata file caused 28 GB of writes for a
million of them, as each changed another page of the tables. SQLite sorts them on disk first.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


@contextmanager
def scratch_database(path: Path) -> Iterator[sqlite3.Connection]:
    """A database for the time of the block, which a crash may destroy: fast and without a log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


class ScratchList(Generic[T]):
    """Objects of one type: fill it with `add`, then read it with `by_key`."""

    def __init__(self, connection: sqlite3.Connection, kind: type[T]) -> None:
        self._list = connection
        self._list.execute("CREATE TABLE entries (key INTEGER, body BLOB)")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self.count = 0

    def add(self, entries: Iterable[tuple[int, T]]) -> None:
        """Add objects with their keys, from a stream."""
        self._list.execute("BEGIN")
        self.count += self._list.executemany(
            "INSERT INTO entries VALUES (?, ?)", ((key, self._encode(one)) for key, one in entries)
        ).rowcount
        self._list.execute("COMMIT")

    def by_key(self) -> Iterator[T]:
        """All objects by key, those of one key in the order in which they were added."""
        for (body,) in self._list.execute("SELECT body FROM entries ORDER BY key, rowid"):
            yield self._decode(body)
