"""Which staged listings need no call, since a fresh row of them is here (see `outbox_rows.py`)."""

import sqlite3

__all__ = ["FOREVER", "oldest_reused", "reuse_fresh", "take_kept_shop"]

FOREVER = 2**63 - 1
_NEWEST = (
    "SELECT d.snapshot_timestamp FROM listings_dynamic d WHERE d.listing_id = w.listing_id"
    " AND d.wrong_clock IS NULL ORDER BY d.snapshot_timestamp DESC LIMIT 1"
)


def reuse_fresh(connection: sqlite3.Connection, sync_id: int) -> None:
    """Count listings of a sync as here whose newest row is fresh, and active."""
    newest = _NEWEST.replace("SELECT d.snapshot_timestamp", "SELECT d.state = 'active' AND"
                             " d.snapshot_timestamp >= ?2")  # fmt: skip
    fresh_after = connection.execute(
        "SELECT fresh_after FROM work_shops WHERE sync_id = ?", (sync_id,)
    ).fetchone()[0]
    if fresh_after == FOREVER:
        return
    reused = connection.execute(
        f"UPDATE work_ids AS w SET status = 1 WHERE sync_id = ?1 AND status = 0 AND ({newest})",
        (sync_id, fresh_after),
    ).rowcount
    if reused:
        connection.execute(
            "UPDATE work_shops SET open_ids = open_ids - ?1, reused = reused + ?1"
            " WHERE sync_id = ?2",
            (reused, sync_id),
        )


def take_kept_shop(connection: sqlite3.Connection, shop_id: int) -> None:
    """Stage the shop object that came with image sync's answers, if it is fresh."""
    connection.execute(
        "UPDATE work_shops SET shop = a.shop, listings_active = a.listings_active,"
        " signals = a.signals, shop_at = a.at FROM arrived_shops a"
        " WHERE a.shop_id = work_shops.shop_id AND work_shops.shop_id = ?"
        " AND work_shops.shop IS NULL AND a.at >= work_shops.fresh_after",
        (shop_id,),
    )
    connection.execute("DELETE FROM arrived_shops WHERE shop_id = ?", (shop_id,))


def oldest_reused(connection: sqlite3.Connection, sync_id: int) -> int | None:
    """The time of the oldest row that a sync reuses; None if it reuses none."""
    row = connection.execute(
        f"SELECT min(({_NEWEST})) FROM work_ids w WHERE sync_id = ? AND status = 1", (sync_id,)
    ).fetchone()
    return None if row[0] is None else int(row[0])
