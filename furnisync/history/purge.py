"""Deletes rows from the history: by age, listing, shop or buyer.

`purged` lists the purged ids (of a buyer: a keyed hash), and triggers keep them out.
The age of a row is the time when it was written. A static row stays as long as a
younger dynamic row uses it.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from furnisync.history.fields.values import as_json

PURGED: Final = """
CREATE TABLE purged (
    kind TEXT NOT NULL CHECK (kind IN ('listing', 'shop', 'buyer')),
    id INTEGER NOT NULL,  -- of a buyer: a keyed hash
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
""" + "".join(
    f"""CREATE TRIGGER {table}_purged_{kind} BEFORE INSERT ON {table}
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = '{kind}' AND id = NEW.{kind}_id)
BEGIN SELECT RAISE(IGNORE); END;
"""
    for table, kind in (
        ("shops", "shop"), ("shops_dynamic", "shop"), ("sync_state", "shop"),
        ("listings", "listing"), ("listings", "shop"), ("listings_dynamic", "listing"),
        ("reviews", "listing"), ("reviews", "shop"),
    )
)  # fmt: skip
"""A migration of the history."""

PAGE: Final = 5000

By = Literal["listing", "shop", "buyer", "age"]


class Reach(msgspec.Struct, frozen=True):
    """Which rows to delete.

    Attributes:
        by: the type of `values`.
        values: ids (of a buyer: all its forms), or one time: older rows are deleted (unix seconds).
    """

    by: By
    values: tuple[int, ...]


class Part(msgspec.Struct, frozen=True):
    """Rows of one table; `key` is the column that pages it."""

    table: str
    key: str
    condition: str


_MEANT: Final = "(SELECT value FROM json_each(:values))"
_BEFORE: Final = "snapshot_timestamp < (SELECT min(value) FROM json_each(:values))"


def parts_of(reach: Reach) -> tuple[Part, ...]:
    """The rows to delete, in the necessary order."""
    if reach.by == "age":
        return _BY_AGE
    reviews = f"{'buyer_user' if reach.by == 'buyer' else reach.by}_id IN {_MEANT}"
    odd_reviews = (
        f"table_name = 'reviews' AND id IN (SELECT transaction_id FROM reviews WHERE {reviews})"
    )
    parts = [Part("oddities", "rowid", odd_reviews), Part("reviews", "rowid", reviews)]
    if reach.by == "buyer":
        return tuple(parts)
    of_shop = f"IN (SELECT listing_id FROM listings WHERE shop_id IN {_MEANT})"
    listings = f"IN {_MEANT}" if reach.by == "listing" else of_shop
    parts += [
        Part("oddities", "rowid", f"table_name = 'listings' AND id {listings}"),
        Part("listings_dynamic", "listing_id", f"listing_id {listings}"),
        Part("listings", "rowid", f"{reach.by}_id IN {_MEANT}"),
    ]
    if reach.by == "shop":
        shop = f"shop_id IN {_MEANT}"
        parts += [
            Part("oddities", "rowid", f"table_name = 'shops' AND id IN {_MEANT}"),
            Part("shops_dynamic", "shop_id", shop),
            Part("shops", "rowid", shop),
            Part("sync_state", "rowid", shop),
        ]
    return tuple(parts)


def _drawn_on(table: str, key: str) -> str:
    """The condition of a static row to delete: old, and no younger dynamic row uses it."""
    before = "(SELECT min(value) FROM json_each(:values))"
    return (
        f"{_BEFORE} AND NOT (EXISTS (SELECT 1 FROM {table}_dynamic AS young"
        f" WHERE young.{key} = {table}.{key} AND young.snapshot_timestamp >= {before})"
        f" AND NOT EXISTS (SELECT 1 FROM {table} AS later WHERE later.{key} = {table}.{key}"
        f" AND later.snapshot_timestamp > {table}.snapshot_timestamp"
        f" AND later.snapshot_timestamp <= {before}))"
    )


_BY_AGE: Final = (
    Part("listings", "rowid", _drawn_on("listings", "listing_id")),
    Part("shops", "rowid", _drawn_on("shops", "shop_id")),
    Part("listings_dynamic", "listing_id", _BEFORE),
    Part("shops_dynamic", "shop_id", _BEFORE),
    Part("reviews", "rowid", _BEFORE),
    Part("oddities", "rowid", _BEFORE),
)


def _page_end(connection: sqlite3.Connection, part: Part, after: int) -> int | None:
    row = connection.execute(
        f"SELECT max(k) FROM (SELECT {part.key} AS k FROM {part.table} WHERE {part.key} > ?"
        f" ORDER BY {part.key} LIMIT {PAGE})",
        (after,),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _within(part: Part) -> str:
    return f"{part.table} WHERE {part.key} > :after AND {part.key} <= :end AND {part.condition}"


def count_rows(connection: sqlite3.Connection, reach: Reach, part: Part) -> int:
    """Number of rows of a part, counted in short reads."""
    return sum(
        connection.execute(f"SELECT count(*) FROM {_within(part)}", bounds).fetchone()[0]
        for bounds in _pages(connection, reach, part)
    )


def _pages(
    connection: sqlite3.Connection, reach: Reach, part: Part
) -> Iterator[dict[str, int | str]]:
    after = -(2**63)
    while (end := _page_end(connection, part, after)) is not None:
        yield {"after": after, "end": end, "values": as_json(list(reach.values))}
        after = end


def delete_page(
    connection: sqlite3.Connection, reach: Reach, part: Part, after: int
) -> tuple[int, int | None]:
    """Delete rows in the next page of a table, inside a transaction.

    Args:
        connection: the writer's.
        reach: the rows to delete.
        part: their table.
        after: the end of the previous page; the smallest integer at first.

    Returns:
        number of deleted rows, and the end of this page; None if that was the last.
    """
    end = _page_end(connection, part, after)
    if end is None:
        return 0, None
    bounds = {"after": after, "end": end, "values": as_json(list(reach.values))}
    deleted = connection.execute(f"DELETE FROM {_within(part)}", bounds).rowcount
    return deleted, end


def remember_purged(
    connection: sqlite3.Connection, kind: Literal["listing", "shop", "buyer"], key: int, now: int
) -> None:
    """Keep out rows with this id (of a buyer: this hash) from now on."""
    connection.execute(
        "INSERT INTO purged VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (kind, key, now)
    )
    if kind == "shop":
        connection.execute("DELETE FROM arrived_shops WHERE shop_id = ?", (key,))


def purged_ids(
    connection: sqlite3.Connection, kind: Literal["listing", "shop", "buyer"]
) -> frozenset[int]:
    """The purged ids; few, because a person named each."""
    rows = connection.execute("SELECT id FROM purged WHERE kind = ?", (kind,))
    return frozenset(row[0] for row in rows)


def open_syncs_of(connection: sqlite3.Connection, reach: Reach) -> list[int]:
    """`sync_id` of open syncs that contain rows of it."""
    sql = {
        "shop": f"SELECT sync_id FROM work_shops WHERE shop_id IN {_MEANT}",
        "listing": f"SELECT DISTINCT sync_id FROM work_ids WHERE listing_id IN {_MEANT}",
        "age": f"SELECT sync_id FROM work_shops WHERE {_BEFORE}",
        "buyer": "SELECT sync_id FROM work_shops WHERE 0",
    }[reach.by]
    return [row[0] for row in connection.execute(sql, {"values": as_json(list(reach.values))})]


def count_staged(connection: sqlite3.Connection, sync_ids: list[int]) -> int:
    """Number of rows that are staged for these syncs, and deleted with them."""
    ids = {"values": as_json(sync_ids)}
    return sum(
        connection.execute(
            f"SELECT count(*) FROM {table} WHERE sync_id IN {_MEANT}", ids
        ).fetchone()[0]
        for table in ("work_shops", "work_ids", "work_pages")
    )
