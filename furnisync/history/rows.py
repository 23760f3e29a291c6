"""Appends rows of snapshot tables; the rules for them are in `snapshots.py` and `reviews.py`."""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache

from furnisync.history.fields.values import Oddity, Value, as_json
from furnisync.sqlite.rows import insert_many


def insert_rows(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Value]],
) -> int:
    """Add rows of a snapshot table, values after its fixed columns; returns how many were new.

    An existing row (same id, same snapshot) stays as it is: history is append-only.
    """
    insert = _insert_sql(table, tuple(columns))
    return insert_many(connection, insert, rows, "ON CONFLICT DO NOTHING")


@lru_cache(maxsize=64)
def _insert_sql(table: str, columns: tuple[str, ...]) -> str:
    fixed = {
        "shops": "shop_id, snapshot_timestamp",
        "shops_dynamic": "shop_id, snapshot_timestamp",
        "listings": "listing_id, snapshot_timestamp, shop_id",
        "listings_dynamic": "listing_id, snapshot_timestamp",
        "reviews": "snapshot_timestamp",
    }[table]
    names = ", ".join((fixed, *(f'"{name}"' for name in columns)))
    return f"INSERT INTO {table} ({names})"


def append_oddities(
    connection: sqlite3.Connection,
    table: str,
    snapshot: int,
    found: Iterable[tuple[int | None, Sequence[Oddity]]],
) -> None:
    """Store the original values that did not fit their columns."""
    connection.executemany(
        "INSERT INTO oddities VALUES (?, ?, ?, ?, ?)",
        (
            (table, key, snapshot, oddity.field, oddity.value)
            for key, oddities in found
            for oddity in oddities
        ),
    )


def known_since(connection: sqlite3.Connection, ids: Sequence[object], at: int) -> set[int]:
    """Listings with a row of that time or later, unless a wrong clock wrote it."""
    rows = connection.execute(
        "SELECT DISTINCT listing_id FROM listings_dynamic WHERE snapshot_timestamp >= ?"
        " AND wrong_clock IS NULL AND listing_id IN (SELECT value FROM json_each(?))",
        (at, as_json(ids)),
    )
    return {row[0] for row in rows}
