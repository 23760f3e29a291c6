"""What was fetched of a shop and waits for the rest, in the `work_` tables of the same file.

    begin_shop_sync ──> stage_list_page ... ──> claim_ids ──> stage_batch ...
          │              (ids of the list)      (100 ids       (listings, their
          │                                      of any shops)  shops, what is gone)
          └─ ids known: no list pages                │
                                                     └─> complete_syncs ──> append_shop_sync

All functions run inside the caller's transaction. A call's answer is staged in the same transaction
that moves the progress, so a killed run asks again only for what was in flight: at the start of a
run `release_claims` puts the ids of such calls back.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from furnisync.history.fields import Object, Oddity, Value, as_id, as_json
from furnisync.history.selection import Selection

BATCH_SIZE: Final = 100
WANTED, ASKED, HERE, GONE = range(4)


class StagedListing(msgspec.Struct, array_like=True):
    """A listing as it will be appended; `static` is None where its static row is recent."""

    listing_id: int
    shop_id: int
    static: list[Value] | None
    dynamic: list[Value]
    oddities: list[Oddity]


class StagedPage(msgspec.Struct, array_like=True):
    """Listings of one shop that one answer brought, with the columns selected at that time."""

    static_columns: tuple[str, ...]
    dynamic_columns: tuple[str, ...]
    listings: list[StagedListing]


class StagedShop(msgspec.Struct, array_like=True):
    """A shop's own values, with the columns selected at that time."""

    static_columns: tuple[str, ...]
    static: list[Value]
    dynamic_columns: tuple[str, ...]
    dynamic: list[Value]
    oddities: list[Oddity]


@dataclass(frozen=True, slots=True)
class ShopSync:
    """A sync under way.

    Attributes:
        snapshot_timestamp: of all its rows, unix seconds.
        list_offset: of the list page to ask next; None where the list is read (or not wanted).
        told: `count` as the list said it last.
        open_ids: staged ids whose batch answer is not here yet.
        has_shop: the shop object is here.
    """

    shop_id: int
    snapshot_timestamp: int
    list_offset: int | None
    told: int | None
    open_ids: int
    has_shop: bool

    @property
    def complete(self) -> bool:
        """Everything is here: `append_shop_sync` may run."""
        return self.list_offset is None and self.open_ids == 0 and self.has_shop

    @property
    def wants_shop(self) -> bool:
        """Only the shop object is missing: no listing carried it, so getShop must be asked."""
        return self.list_offset is None and self.open_ids == 0 and not self.has_shop


def begin_shop_sync(
    connection: sqlite3.Connection,
    shop_id: int,
    now_s: float,
    *,
    static_days: float = 182.0,
    ids: Iterable[int] | None = None,
) -> ShopSync:
    """Begin a shop's sync, or take up the one that is under way (`ids` are then added to it).

    Args:
        connection: inside a transaction.
        shop_id: any shop; one that `sync_state` does not know is added to it.
        now_s: unix time; it becomes the snapshot's, later than that of the shop's last sync.
        static_days: age beyond which a static row is written again.
        ids: the listings to take where no list is to be read (furniture only).
    """
    connection.execute(
        "INSERT INTO sync_state (shop_id) VALUES (?) ON CONFLICT DO NOTHING", (shop_id,)
    )
    last = connection.execute(
        "UPDATE sync_state SET last_asked = ? WHERE shop_id = ? RETURNING last_sync",
        (int(now_s), shop_id),
    ).fetchone()[0]
    snapshot = int(now_s) if last is None else max(int(now_s), last + 1)
    connection.execute(
        "INSERT INTO work_shops (shop_id, snapshot_timestamp, static_after, list_offset)"
        " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (shop_id, snapshot, snapshot - int(static_days * 86400), 0 if ids is None else None),
    )
    if ids is not None:
        stage_ids(connection, shop_id, ids)
    return shop_sync(connection, shop_id)


def shop_sync(connection: sqlite3.Connection, shop_id: int) -> ShopSync:
    """The sync under way of a shop.

    Raises:
        LookupError: there is none.
    """
    row = connection.execute(f"{_SYNCS} WHERE shop_id = ?", (shop_id,)).fetchone()
    if row is None:
        raise LookupError(f"no sync of shop {shop_id} is under way")
    return _as_sync(row)


def open_syncs(connection: sqlite3.Connection, limit: int = 1000) -> list[ShopSync]:
    """Syncs under way, oldest first: a run takes these up before it begins others."""
    rows = connection.execute(f"{_SYNCS} ORDER BY sync_id LIMIT ?", (limit,))
    return [_as_sync(row) for row in rows]


def finished_syncs(connection: sqlite3.Connection, limit: int = 1000) -> list[ShopSync]:
    """Syncs whose listings are all here, oldest first: `complete`, or `wants_shop`."""
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


def _sync_id(connection: sqlite3.Connection, shop_id: int) -> int:
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
    told: int | None,
    next_offset: int | None,
) -> ShopSync:
    """Stage the ids of a page of the shop's list; ids that are there already do no harm.

    Args:
        connection: inside a transaction.
        shop_id: a shop whose sync is under way.
        ids: listing ids of the page.
        told: the answer's `count`.
        next_offset: of the page to ask next; None ends the list, and listings that were active
            in the last sync but are not in the list now are then staged too.
    """
    stage_ids(connection, shop_id, ids)
    connection.execute(
        "UPDATE work_shops SET list_offset = ?, listings_told = ifnull(?, listings_told)"
        " WHERE shop_id = ?",
        (next_offset, told, shop_id),
    )
    if next_offset is None:
        _stage_missing(connection, shop_id)
    return shop_sync(connection, shop_id)


def stage_ids(connection: sqlite3.Connection, shop_id: int, ids: Iterable[int]) -> None:
    """Add listings that batch is to be asked for, wherever they are known from."""
    sync_id = _sync_id(connection, shop_id)
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO work_ids (sync_id, listing_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        ((sync_id, listing_id) for listing_id in ids),
    )
    _add_open(connection, sync_id, connection.total_changes - before)


def _stage_missing(connection: sqlite3.Connection, shop_id: int) -> None:
    """Stage the listings that are live as far as we know, and that the list did not show."""
    sync_id = _sync_id(connection, shop_id)
    added = connection.execute(
        f"""INSERT INTO work_ids (sync_id, listing_id)
        {LIVE_LISTINGS} AND true ON CONFLICT DO NOTHING""",
        {"sync_id": sync_id, "shop_id": shop_id},
    ).rowcount
    _add_open(connection, sync_id, added)


LIVE_LISTINGS: Final = """
    SELECT :sync_id, k.listing_id
    FROM (SELECT DISTINCT listing_id FROM listings WHERE shop_id = :shop_id) k
    WHERE ifnull((
        SELECT d.state FROM listings_dynamic d WHERE d.listing_id = k.listing_id
        ORDER BY d.snapshot_timestamp DESC LIMIT 1), 'active') = 'active'"""
"""Listings of a shop whose last known state is active, or was not told."""


def _add_open(connection: sqlite3.Connection, sync_id: int, change: int) -> None:
    connection.execute(
        "UPDATE work_shops SET open_ids = open_ids + ? WHERE sync_id = ?", (change, sync_id)
    )


def claim_ids(
    connection: sqlite3.Connection, limit: int = BATCH_SIZE, *, full_only: bool = False
) -> list[int]:
    """Take up to `limit` staged ids, of any shops, oldest sync first, for one call of batch.

    With `full_only` none are taken while fewer than `limit` wait: more may come to fill the call.
    """
    rows = connection.execute(
        "SELECT listing_id FROM work_ids WHERE status = 0 ORDER BY sync_id, listing_id LIMIT ?",
        (limit,),
    ).fetchall()
    ids = list(dict.fromkeys(row[0] for row in rows))
    if full_only and len(ids) < limit:
        return []
    connection.executemany(
        "UPDATE work_ids SET status = 1 WHERE listing_id = ? AND status = 0",
        ((listing_id,) for listing_id in ids),
    )
    return ids


def release_ids(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Put back the ids of a call that failed."""
    connection.executemany(
        "UPDATE work_ids SET status = 0 WHERE listing_id = ? AND status = 1",
        ((listing_id,) for listing_id in ids),
    )


def release_claims(connection: sqlite3.Connection) -> int:
    """At the start of a run: put back what a killed run had asked for; returns how many."""
    return connection.execute("UPDATE work_ids SET status = 0 WHERE status = 1").rowcount


def stage_batch(
    connection: sqlite3.Connection,
    selection: Selection,
    asked: Sequence[int],
    listings: Iterable[Object],
    *,
    now_s: float,
) -> list[int]:
    """Stage an answer of batch; ids that were asked for and are not in it are gone.

    Listings that nobody waits for (any more) are passed over. A shop that rides along in a listing
    is staged where its sync has none yet.

    Returns:
        The shops whose listings are now all here.
    """
    answers: dict[int, Object] = {}
    for listing in listings:
        listing_id = as_id(listing.get("listing_id"))
        if listing_id is None:
            _keep_unkeyed(connection, listing, now_s)
        else:
            answers.setdefault(listing_id, listing)
    touched = []
    for sync, waiting in _waiting(connection, asked).items():
        arrived = [
            (listing_id, answers[listing_id]) for listing_id in waiting if listing_id in answers
        ]
        if arrived:
            _stage_listings(connection, selection, sync, arrived)
            _stage_riding_shop(connection, selection, sync, arrived)
        connection.executemany(
            "UPDATE work_ids SET status = ? WHERE sync_id = ? AND listing_id = ?",
            ((HERE if i in answers else GONE, sync.sync_id, i) for i in waiting),
        )
        _add_open(connection, sync.sync_id, -len(waiting))
        touched.append(sync.shop_id)
    return [
        shop_id
        for shop_id in touched
        if (state := shop_sync(connection, shop_id)).complete or state.wants_shop
    ]


@dataclass(frozen=True, slots=True)
class _Target:
    """The sync for which an answer is staged."""

    sync_id: int
    shop_id: int
    static_after: int
    has_shop: bool


def _waiting(connection: sqlite3.Connection, asked: Sequence[int]) -> dict[_Target, list[int]]:
    rows = connection.execute(
        """SELECT s.sync_id, s.shop_id, s.static_after, s.shop IS NOT NULL, i.listing_id
        FROM work_ids i JOIN work_shops s USING (sync_id)
        WHERE i.listing_id IN (SELECT value FROM json_each(?)) AND i.status < 2""",
        (as_json(list(asked)),),
    )
    found: dict[_Target, list[int]] = {}
    for sync_id, shop_id, static_after, has_shop, listing_id in rows:
        target = _Target(sync_id, shop_id, static_after, bool(has_shop))
        found.setdefault(target, []).append(listing_id)
    return found


def _stage_listings(
    connection: sqlite3.Connection,
    selection: Selection,
    target: _Target,
    arrived: list[tuple[int, Object]],
) -> None:
    recent = _with_recent_static(connection, target, [listing_id for listing_id, _ in arrived])
    static, dynamic = selection.listing_static, selection.listing_dynamic
    staged = []
    for listing_id, listing in arrived:
        oddities: list[Oddity] = []
        staged.append(
            StagedListing(
                listing_id,
                as_id(listing.get("shop_id")) or target.shop_id,
                None if listing_id in recent else static.values(listing, oddities),
                dynamic.values(listing, oddities),
                oddities,
            )
        )
    body = msgspec.msgpack.encode(StagedPage(static.columns, dynamic.columns, staged))
    connection.execute(
        "INSERT INTO work_pages (sync_id, body) VALUES (?, ?)", (target.sync_id, body)
    )


def _with_recent_static(
    connection: sqlite3.Connection, target: _Target, ids: Sequence[int]
) -> set[int]:
    rows = connection.execute(
        "SELECT listing_id FROM listings WHERE snapshot_timestamp >= ?"
        " AND listing_id IN (SELECT value FROM json_each(?))",
        (target.static_after, as_json(list(ids))),
    )
    return {row[0] for row in rows}


def _stage_riding_shop(
    connection: sqlite3.Connection,
    selection: Selection,
    target: _Target,
    arrived: list[tuple[int, Object]],
) -> None:
    if target.has_shop:
        return
    for _, listing in arrived:
        shop = listing.get("shop")
        if isinstance(shop, dict) and as_id(shop.get("shop_id")) == target.shop_id:
            stage_shop(connection, selection, target.shop_id, shop)
            return


def stage_shop(
    connection: sqlite3.Connection, selection: Selection, shop_id: int, shop: Object
) -> ShopSync:
    """Stage the shop object, from getShop or as it rode along with a listing."""
    oddities: list[Oddity] = []
    staged = StagedShop(
        selection.shop_static.columns,
        selection.shop_static.values(shop, oddities),
        selection.shop_dynamic.columns,
        selection.shop_dynamic.values(shop, oddities),
        oddities,
    )
    connection.execute(
        "UPDATE work_shops SET shop = ?, listings_active = ?, signals = ? WHERE shop_id = ?",
        (
            msgspec.msgpack.encode(staged),
            as_id(shop.get("listing_active_count")),
            review_signals(shop),
            shop_id,
        ),
    )
    return shop_sync(connection, shop_id)


def review_signals(shop: Object) -> str | None:
    """What moves when a shop gets a review, as one comparable text; None where nothing is told."""
    told = [shop.get(n) for n in ("review_count", "review_average", "transaction_sold_count")]
    return None if told == [None, None, None] else as_json(told)


def _keep_unkeyed(connection: sqlite3.Connection, listing: Object, now_s: float) -> None:
    connection.execute(
        "INSERT INTO oddities VALUES ('listings', NULL, ?, NULL, ?)", (int(now_s), as_json(listing))
    )


def drop_sync(connection: sqlite3.Connection, shop_id: int) -> None:
    """Forget what is staged of a shop."""
    sync_id = _sync_id(connection, shop_id)
    connection.execute("DELETE FROM work_pages WHERE sync_id = ?", (sync_id,))
    connection.execute("DELETE FROM work_ids WHERE sync_id = ?", (sync_id,))
    connection.execute("DELETE FROM work_shops WHERE sync_id = ?", (sync_id,))
