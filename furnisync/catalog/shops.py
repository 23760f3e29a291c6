"""Shops of the catalog: which are known, and which are due for a sync of their lists."""

import json
import sqlite3
from collections.abc import Collection, Iterable


def add_shops(connection: sqlite3.Connection, shop_ids: Iterable[int | None], now: int) -> int:
    """Record shops that are not known yet; returns how many."""
    return connection.executemany(
        "INSERT INTO shops (shop_id, first_seen) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(shop_id, now) for shop_id in set(shop_ids) if shop_id is not None],
    ).rowcount


def mark_all_shops_synced(connection: sqlite3.Connection, at: int) -> None:
    """A complete pass saw every active furniture listing of every shop."""
    connection.execute("UPDATE shops SET synced_at = ?, reason = NULL", (at,))


def mark_shop_synced(
    connection: sqlite3.Connection, shop_id: int, at: int | None, reason: str | None
) -> None:
    """Record that one shop was read whole, or why not (then `at` is None and it stays due)."""
    connection.execute(
        "UPDATE shops SET synced_at = coalesce(?, synced_at), reason = ? WHERE shop_id = ?",
        (at, reason, shop_id),
    )


def make_shops_due(
    connection: sqlite3.Connection,
    taxonomy_ids: Collection[int],
    low: float | None,
    high: float | None,
) -> int:
    """Make shops due that sell something in a price interval of some nodes.

    Returns:
        how many.
    """
    return connection.execute(
        "UPDATE shops SET synced_at = NULL WHERE shop_id IN (SELECT shop_id FROM listings"
        " WHERE price_usd >= coalesce(?, -1e18) AND price_usd <= coalesce(?, 1e18)"
        " AND taxonomy_id IN (SELECT value FROM json_each(?)))",
        (low, high, json.dumps(sorted(taxonomy_ids))),
    ).rowcount


def forget_synced_shops(connection: sqlite3.Connection) -> None:
    """`--reset-shops`: every shop is due again."""
    connection.execute("UPDATE shops SET synced_at = NULL")


def due_shops(connection: sqlite3.Connection, before: int, after_id: int, limit: int) -> list[int]:
    """Shops that are due, by id, from `after_id` on (exclusive)."""
    rows = connection.execute(
        "SELECT shop_id FROM shops WHERE (synced_at IS NULL OR synced_at < ?) AND shop_id > ?"
        " ORDER BY shop_id LIMIT ?",
        (before, after_id, limit),
    )
    return [row[0] for row in rows]
