"""Listings in the order of their ids, however many, without holding them in memory.

Written to the catalogue in the order of the file, which is none, a million listings took 28 GB of
writes, as each landed on another page of the tables. SQLite sorts them outside of memory first.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from furnisync.importer.metadata_forms import OldListing

_AT_ONCE: Final = 5000


class SortedListings:
    """A scratch list: fill it with `add`, then read it with `by_id`."""

    def __init__(self, scratch: Path) -> None:
        self._list = sqlite3.connect(scratch, isolation_level=None)
        self._list.execute("PRAGMA journal_mode = OFF")
        self._list.execute("PRAGMA synchronous = OFF")
        self._list.execute("CREATE TABLE entries (listing_id INTEGER, body BLOB)")
        self.count = 0

    def close(self) -> None:
        """Forget the list."""
        self._list.close()

    def add(self, listings: Iterable[OldListing]) -> None:
        """Put listings in, from a stream."""
        encode = msgspec.msgpack.Encoder().encode
        rows = ((one.listing_id, encode(one)) for one in listings)
        self._list.execute("BEGIN")
        while chunk := list(islice(rows, _AT_ONCE)):
            self._list.executemany("INSERT INTO entries VALUES (?, ?)", chunk)
            self.count += len(chunk)
        self._list.execute("COMMIT")

    def by_id(self) -> Iterator[OldListing]:
        """All of them by id; of two entries of one listing the earlier first."""
        decode = msgspec.msgpack.Decoder(OldListing).decode
        for (body,) in self._list.execute("SELECT body FROM entries ORDER BY listing_id, rowid"):
            yield decode(body)
