"""Rows and times that a wrong clock wrote: marked, left out of views and frames, never deleted.

A time further in the future than `WRONG_S` is wrong. Its rows keep their values and get
`wrong_clock = 1`. `sync_state` of the shop is derived from its other rows again, so that it is
due. Call this only with a time that is known to be right, or right rows would be marked.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final

from furnisync.clock import WRONG_S
from furnisync.history.staging import drop_sync

MARKS: Final = "".join(
    f"ALTER TABLE {table} ADD COLUMN wrong_clock INTEGER;\n"
    for table in ("shops", "shops_dynamic", "listings", "listings_dynamic", "reviews")
)
"""A migration of the history."""

COLUMN: Final = "wrong_clock"

_OF_SHOP: Final = {
    "shops": "shop_id = :shop_id",
    "shops_dynamic": "shop_id = :shop_id",
    "listings_dynamic": "listing_id IN (SELECT listing_id FROM listings WHERE shop_id = :shop_id)",
    "listings": "shop_id = :shop_id",
    "reviews": "shop_id = :shop_id",
}

_SHOPS_AHEAD: Final = """
SELECT shop_id FROM sync_state
WHERE last_sync > :ahead OR last_asked > :ahead OR reviews_walked > :ahead OR walk_started > :ahead
    OR reviews_not_before > :ahead + :wait_s
UNION SELECT shop_id FROM work_shops WHERE snapshot_timestamp > :ahead"""
_WITH_ROWS_AHEAD: Final = """
UNION SELECT shop_id FROM shops_dynamic WHERE snapshot_timestamp > :ahead AND wrong_clock IS NULL"""


def shops_ahead(
    connection: sqlite3.Connection, now_s: float, *, wait_s: float, rows: bool = False
) -> list[int]:
    """Shops with a time in the future: an earlier clock was ahead, or ours is behind now.

    Args:
        connection: any connection to the history.
        now_s: unix time.
        wait_s: the longest wait of reviews by the settings.
        rows: also check the shops' rows, about half a second for two million.
    """
    sql = _SHOPS_AHEAD + (_WITH_ROWS_AHEAD if rows else "")
    found = connection.execute(sql, {"ahead": int(now_s + WRONG_S), "wait_s": int(wait_s)})
    return [row[0] for row in found]


def repair_shop(connection: sqlite3.Connection, shop_id: int, now_s: float) -> int:
    """Mark a shop's rows with a time in the future, and make it due; inside a transaction.

    Args:
        connection: the writer's.
        shop_id: any shop.
        now_s: unix time, known to be right.

    Returns:
        how many rows were marked.
    """
    values = {"shop_id": shop_id, "ahead": int(now_s + WRONG_S), "now": int(now_s)}
    for (sync_id,) in connection.execute(
        "SELECT sync_id FROM work_shops WHERE shop_id = :shop_id AND snapshot_timestamp > :ahead",
        values,
    ).fetchall():
        drop_sync(connection, sync_id)
    marked = sum(
        connection.execute(
            f"UPDATE {table} SET {COLUMN} = 1 WHERE {condition}"
            f" AND snapshot_timestamp > :ahead AND {COLUMN} IS NULL",
            values,
        ).rowcount
        for table, condition in _OF_SHOP.items()
    )
    connection.execute(_RIGHT_STATE, values)
    return marked


def repair_shops(connection: sqlite3.Connection, shop_ids: Iterable[int], now_s: float) -> int:
    """`repair_shop` for several; returns how many rows were marked."""
    return sum(repair_shop(connection, shop_id, now_s) for shop_id in shop_ids)


_RIGHT_STATE: Final = f"""
UPDATE sync_state SET
    first_sync = r.first_sync, last_sync = r.last_sync, last_static = r.last_static,
    status = CASE WHEN status = 'ok' AND r.last_sync IS NULL THEN 'new' ELSE status END,
    not_before = CASE WHEN last_asked > :ahead THEN NULL ELSE not_before END,
    last_asked = min(last_asked, :now),
    reviews_walked = CASE WHEN reviews_walked > :ahead THEN NULL ELSE reviews_walked END,
    walk_started = min(walk_started, :now),
    reviews_not_before = NULL
FROM (
    SELECT
        (SELECT min(snapshot_timestamp) FROM shops_dynamic
            WHERE shop_id = :shop_id AND {COLUMN} IS NULL) AS first_sync,
        (SELECT max(snapshot_timestamp) FROM shops_dynamic
            WHERE shop_id = :shop_id AND {COLUMN} IS NULL) AS last_sync,
        (SELECT max(snapshot_timestamp) FROM shops
            WHERE shop_id = :shop_id AND {COLUMN} IS NULL) AS last_static
) AS r
WHERE shop_id = :shop_id"""
