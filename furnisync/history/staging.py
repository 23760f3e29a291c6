"""The fetched parts of incomplete shops, in the `work_` tables of the same file.

    begin_shop_sync ──> stage_list_page ... ──> Claims.take ──> take_batch ... ──> rows
          │              (ids of the list)      (100 ids         (listings, shops, the gone: staged,
          └─ ids known: no list pages            of any shops)    or appended once all is here)

All functions run in the caller's transaction. An answer is staged in the same transaction
as the progress, so after a kill only the calls in flight are repeated.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from furnisync.clock import DAY_S
from furnisync.history.fields.values import as_json
from furnisync.history.reuse import FOREVER, reuse_fresh, take_kept_shop
from furnisync.history.set_aside import leave_out

WANTED, HERE, GONE = range(3)
"""`work_ids.status`: the state of a staged listing."""


@dataclass(frozen=True, slots=True)
class ShopSync:
    """An open sync.

    Attributes:
        snapshot_timestamp: of all its rows, unix seconds.
        list_offset: of the next list page; None if the list is complete (or not needed).
        counted: the last `count` of the list.
        open_ids: number of staged ids without a batch answer.
        has_shop: the shop object is staged.
    """

    shop_id: int
    snapshot_timestamp: int
    list_offset: int | None
    counted: int | None
    open_ids: int
    has_shop: bool

    @property
    def complete(self) -> bool:
        """Everything is staged: `append_shop_sync` may run."""
        return self.list_offset is None and self.open_ids == 0 and self.has_shop

    @property
    def wants_shop(self) -> bool:
        """Only the shop object is missing: no listing had it, so getShop is needed."""
        return self.list_offset is None and self.open_ids == 0 and not self.has_shop


def begin_shop_sync(
    connection: sqlite3.Connection,
    shop_id: int,
    now_s: float,
    *,
    static_days: float = 182.0,
    fresh_days: float = 0.0,
    ids: Iterable[int] | None = None,
) -> ShopSync:
    """Begin a shop's sync, or continue the open one (`ids` are then added to it).

    Args:
        connection: inside a transaction.
        shop_id: any shop; an unknown one is added to `sync_state`.
        now_s: unix time; it becomes the snapshot's, later than that of the shop's last sync.
        static_days: age beyond which a static row is written again.
        fresh_days: rows up to this age, from image sync's answers, are reused.
        ids: the listings, if no list is read (furniture only).
    """
    connection.execute(
        "INSERT INTO sync_state (shop_id) VALUES (?) ON CONFLICT DO NOTHING", (shop_id,)
    )
    last = connection.execute(
        "UPDATE sync_state SET last_asked = ? WHERE shop_id = ? RETURNING last_sync",
        (int(now_s), shop_id),
    ).fetchone()[0]
    snapshot = int(now_s) if last is None else max(int(now_s), last + 1)
    fresh_after = max(snapshot - int(fresh_days * DAY_S), (last or 0) + 1)
    connection.execute(
        "INSERT INTO work_shops"
        " (shop_id, snapshot_timestamp, static_after, list_offset, fresh_after)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            shop_id,
            snapshot,
            snapshot - int(static_days * DAY_S),
            0 if ids is None else None,
            fresh_after if fresh_days else FOREVER,
        ),
    )
    take_kept_shop(connection, shop_id)
    if ids is not None:
        stage_ids(connection, shop_id, ids)
    return shop_sync(connection, shop_id)


def shop_sync(connection: sqlite3.Connection, shop_id: int) -> ShopSync:
    """The open sync of a shop.

    Raises:
        LookupError: there is none.
    """
    row = connection.execute(f"{_SYNCS} WHERE shop_id = ?", (shop_id,)).fetchone()
    if row is None:
        raise LookupError(f"no sync of shop {shop_id} is under way")
    return _as_sync(row)


def open_syncs(connection: sqlite3.Connection) -> list[ShopSync]:
    """Open syncs, oldest first: a run continues these before it begins others."""
    return [_as_sync(row) for row in connection.execute(f"{_SYNCS} ORDER BY sync_id")]


def drop_stale_syncs(connection: sqlite3.Connection, before_s: float) -> int:
    """Drop syncs that began before a time, so that no row has a time long before its values.

    Their shops are due as if never begun. To continue would cost the rest of the old sync and then
    a complete new one.
    """
    rows = connection.execute(
        "SELECT sync_id FROM work_shops WHERE snapshot_timestamp < ?", (int(before_s),)
    ).fetchall()
    for (sync_id,) in rows:
        drop_sync(connection, sync_id)
    return len(rows)


def oldest_wanted(connection: sqlite3.Connection) -> int | None:
    """The time of the oldest sync that waits for an answer of batch."""
    row = connection.execute(
        "SELECT snapshot_timestamp FROM work_shops WHERE sync_id ="
        " (SELECT min(sync_id) FROM work_ids WHERE status = 0)"
    ).fetchone()
    return None if row is None else int(row[0])


def finished_syncs(connection: sqlite3.Connection, limit: int = 1000) -> list[ShopSync]:
    """Syncs whose listings are all staged, oldest first: `complete`, or `wants_shop`."""
    rows = connection.execute(
        f"{_SYNCS} WHERE list_offset IS NULL AND open_ids = 0 ORDER BY sync_id LIMIT ?", (limit,)
    )
    return [_as_sync(row) for row in rows]


_SYNCS: Final = (
    "SELECT shop_id, snapshot_timestamp, list_offset, listings_told, open_ids,"
    " shop IS NOT NULL FROM work_shops"
)


def _as_sync(row: Sequence[Any]) -> ShopSync:
    return ShopSync(row[0], row[1], row[2], row[3], row[4], has_shop=bool(row[5]))


def sync_id_of(connection: sqlite3.Connection, shop_id: int) -> int:
    """The key of a shop's staged rows.

    Raises:
        LookupError: the shop has no open sync.
    """
    row = connection.execute(
        "SELECT sync_id FROM work_shops WHERE shop_id = ?", (shop_id,)
    ).fetchone()
    if row is None:
        raise LookupError(f"no sync of shop {shop_id} is under way")
    return int(row[0])


def stage_list_page(
    connection: sqlite3.Connection,
    shop_id: int,
    ids: Iterable[int],
    *,
    counted: int | None,
    next_offset: int | None,
) -> ShopSync:
    """Stage the ids of a page of the shop's list; duplicates are ignored.

    Args:
        connection: inside a transaction.
        shop_id: a shop with an open sync.
        ids: listing ids of the page.
        counted: the answer's `count`.
        next_offset: of the next page; None ends the list, and then listings that were active
            in the last sync but are not in the list are staged too.
    """
    stage_ids(connection, shop_id, ids)
    connection.execute(
        "UPDATE work_shops SET list_offset = ?, listings_told = ifnull(?, listings_told)"
        " WHERE shop_id = ?",
        (next_offset, counted, shop_id),
    )
    if next_offset is None:
        _stage_missing(connection, shop_id)
    return shop_sync(connection, shop_id)


def stage_ids(connection: sqlite3.Connection, shop_id: int, ids: Iterable[int]) -> None:
    """Add listings to request by batch, from any source."""
    sync_id = sync_id_of(connection, shop_id)
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO work_ids (sync_id, listing_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        ((sync_id, listing_id) for listing_id in ids),
    )
    add_open(connection, sync_id, connection.total_changes - before)
    leave_out(connection, sync_id)
    reuse_fresh(connection, sync_id)


def count_staged(connection: sqlite3.Connection, shop_id: int) -> int:
    """Distinct listings staged for a shop so far."""
    row = connection.execute(
        "SELECT count(*) FROM work_ids WHERE sync_id = ?", (sync_id_of(connection, shop_id),)
    ).fetchone()
    return int(row[0])


def stage_ended(connection: sqlite3.Connection, shop_id: int, ids: Sequence[int]) -> ShopSync:
    """Stage those of the listings that ended for image sync and are active in the history."""
    sync_id = sync_id_of(connection, shop_id)
    added = connection.execute(
        f"""INSERT INTO work_ids (sync_id, listing_id)
        {LIVE_LISTINGS} AND k.listing_id IN (SELECT value FROM json_each(:ids))
        ON CONFLICT DO NOTHING""",
        {"sync_id": sync_id, "shop_id": shop_id, "ids": as_json(list(ids))},
    ).rowcount
    add_open(connection, sync_id, added)
    leave_out(connection, sync_id)
    return shop_sync(connection, shop_id)


def _stage_missing(connection: sqlite3.Connection, shop_id: int) -> None:
    """Stage the listings that are active in the history and were not in the list."""
    sync_id = sync_id_of(connection, shop_id)
    added = connection.execute(
        f"""INSERT INTO work_ids (sync_id, listing_id)
        {LIVE_LISTINGS} AND true ON CONFLICT DO NOTHING""",
        {"sync_id": sync_id, "shop_id": shop_id},
    ).rowcount
    add_open(connection, sync_id, added)
    leave_out(connection, sync_id)


LIVE_LISTINGS: Final = """
    SELECT :sync_id, k.listing_id
    FROM (SELECT DISTINCT listing_id FROM listings WHERE shop_id = :shop_id) k
    WHERE ifnull((
        SELECT d.state FROM listings_dynamic d WHERE d.listing_id = k.listing_id
            AND d.wrong_clock IS NULL
        ORDER BY d.snapshot_timestamp DESC LIMIT 1), 'active') = 'active'"""
"""Listings of a shop whose last known state is active or unknown."""


def add_open(connection: sqlite3.Connection, sync_id: int, change: int) -> None:
    """Change the number of staged listings that wait for batch."""
    connection.execute(
        "UPDATE work_shops SET open_ids = open_ids + ? WHERE sync_id = ?", (change, sync_id)
    )


def drop_sync(connection: sqlite3.Connection, sync_id: int) -> None:
    """Delete the staged rows of a shop's sync."""
    connection.execute("DELETE FROM work_pages WHERE sync_id = ?", (sync_id,))
    connection.execute("DELETE FROM work_ids WHERE sync_id = ?", (sync_id,))
    connection.execute("DELETE FROM work_shops WHERE sync_id = ?", (sync_id,))
