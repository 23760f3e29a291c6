"""What an answer contains for staged shops: listings as future rows, shops, and what is gone."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from furnisync.history.claims import BatchClaim
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Object, Oddity, Value, as_id, as_json
from furnisync.history.purge import purged_ids
from furnisync.history.staging import GONE, HERE, ShopSync, add_open, shop_sync


class StagedPage(msgspec.Struct, array_like=True):
    """Listings of one shop from one answer, as future rows.

    Attributes:
        static_columns: of `static` after the fixed ones, as selected at that time.
        dynamic_columns: the same for `dynamic`.
        static: rows for `listings`, for listings without a recent static row.
        dynamic: rows for `listings_dynamic`, for all.
        ended: states of listings that are no longer active.
        oddities: values that did not fit, by listing.
    """

    static_columns: tuple[str, ...]
    dynamic_columns: tuple[str, ...]
    static: list[list[Value]]
    dynamic: list[list[Value]]
    ended: dict[int, str]
    oddities: list[tuple[int, list[Oddity]]]


class StagedShop(msgspec.Struct, array_like=True):
    """A shop's own values, with the columns selected at that time."""

    static_columns: tuple[str, ...]
    static: list[Value]
    dynamic_columns: tuple[str, ...]
    dynamic: list[Value]
    oddities: list[Oddity]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What an answer of batch contains for one sync.

    Attributes:
        here: ids in the answer.
        gone: requested ids that are not in the answer.
        page: the listings as future rows; None if there are none.
        shop: the shop object, if the answer has it and the sync does not.
        completes: whether the sync then has everything.
    """

    sync_id: int
    shop_id: int
    here: tuple[int, ...]
    gone: tuple[int, ...]
    page: StagedPage | None
    shop: Object | None
    completes: bool


def sort_batch(
    connection: sqlite3.Connection,
    selection: Selection,
    claim: BatchClaim,
    listings: Iterable[Object],
    *,
    now_s: float,
) -> list[Arrival]:
    """Sort an answer of batch by the syncs that wait for it; this stages nothing.

    Listings that no sync waits for (any more) and purged ones are skipped. Objects without an id
    are stored as oddities.
    """
    answers: dict[int, Object] = {}
    purged = purged_ids(connection, "listing")
    for listing in listings:
        listing_id = as_id(listing.get("listing_id"))
        if listing_id is None:
            _keep_unkeyed(connection, listing, now_s)
        elif listing_id not in purged:
            answers.setdefault(listing_id, listing)
    return [
        _arrival(connection, selection, target, waiting, answers)
        for target, waiting in _waiting(connection, claim).items()
    ]


def stage_arrival(
    connection: sqlite3.Connection, selection: Selection, arrival: Arrival
) -> ShopSync:
    """Stage an arrival until the rest of the sync is complete."""
    for status, ids in ((HERE, arrival.here), (GONE, arrival.gone)):
        if ids:
            connection.execute(
                "UPDATE work_ids SET status = ? WHERE sync_id = ?"
                " AND listing_id IN (SELECT value FROM json_each(?))",
                (status, arrival.sync_id, as_json(ids)),
            )
    add_open(connection, arrival.sync_id, -len(arrival.here) - len(arrival.gone))
    if arrival.page is not None:
        connection.execute(
            "INSERT INTO work_pages (sync_id, body) VALUES (?, ?)",
            (arrival.sync_id, msgspec.msgpack.encode(arrival.page)),
        )
    if arrival.shop is not None:
        stage_shop(connection, selection, arrival.shop_id, arrival.shop)
    return shop_sync(connection, arrival.shop_id)


@dataclass(frozen=True, slots=True)
class RowsFor:
    """What the rows of an answer need besides it.

    Attributes:
        shop_id: of listings that do not say it.
        snapshot: the rows' time, unix seconds.
        static_after: older static rows are due again.
    """

    shop_id: int
    snapshot: int
    static_after: int


@dataclass(frozen=True, slots=True)
class _Target(RowsFor):
    """The sync for which an answer came."""

    sync_id: int
    list_read: bool
    open_ids: int
    has_shop: bool


def _waiting(connection: sqlite3.Connection, claim: BatchClaim) -> dict[_Target, list[int]]:
    by_sync: dict[int, list[int]] = {}
    for sync_id, listing_id in claim.staged:
        by_sync.setdefault(sync_id, []).append(listing_id)
    found = {}
    for sync_id, ids in by_sync.items():
        row = connection.execute(
            "SELECT shop_id, snapshot_timestamp, static_after, sync_id, list_offset IS NULL,"
            " open_ids, shop IS NOT NULL FROM work_shops WHERE sync_id = ?",
            (sync_id,),
        ).fetchone()
        if row is None:  # the shop is gone since then
            continue
        still = connection.execute(
            "SELECT listing_id FROM work_ids WHERE sync_id = ? AND status = 0"
            " AND listing_id IN (SELECT value FROM json_each(?))",
            (sync_id, as_json(ids)),
        )
        found[_Target(*row)] = [listing_id for (listing_id,) in still]
    return found


def _arrival(
    connection: sqlite3.Connection,
    selection: Selection,
    target: _Target,
    waiting: Sequence[int],
    answers: Mapping[int, Object],
) -> Arrival:
    here = tuple(listing_id for listing_id in waiting if listing_id in answers)
    shop = None if target.has_shop else _riding_shop(target, (answers[one] for one in here))
    return Arrival(
        target.sync_id,
        target.shop_id,
        here,
        tuple(listing_id for listing_id in waiting if listing_id not in answers),
        as_rows(connection, selection, target, [(i, answers[i]) for i in here]) if here else None,
        shop,
        completes=bool(target.list_read)
        and target.open_ids == len(waiting)
        and (bool(target.has_shop) or shop is not None),
    )


def as_rows(
    connection: sqlite3.Connection,
    selection: Selection,
    target: RowsFor,
    arrived: Sequence[tuple[int, Object]],
) -> StagedPage:
    """Listings as future rows, with a static one where none is recent."""
    recent = _with_recent_static(connection, target, [listing_id for listing_id, _ in arrived])
    static, dynamic = selection.listing_static, selection.listing_dynamic
    state_at = 2 + dynamic.columns.index("state")
    page = StagedPage(static.columns, dynamic.columns, [], [], {}, [])
    for listing_id, listing in arrived:
        odd: list[Oddity] = []
        row = [listing_id, target.snapshot, *dynamic.values(listing, odd)]
        page.dynamic.append(row)
        state = row[state_at]
        if state is not None and state != "active":
            page.ended[listing_id] = str(state)
        if listing_id not in recent:
            shop_id = as_id(listing.get("shop_id")) or target.shop_id
            values = static.values(listing, odd)
            page.static.append([listing_id, target.snapshot, shop_id, *values])
        if odd:
            page.oddities.append((listing_id, odd))
    return page


def _with_recent_static(
    connection: sqlite3.Connection, target: RowsFor, ids: Sequence[int]
) -> set[int]:
    rows = connection.execute(
        "SELECT listing_id FROM listings WHERE snapshot_timestamp >= ? AND wrong_clock IS NULL"
        " AND listing_id IN (SELECT value FROM json_each(?))",
        (target.static_after, as_json(list(ids))),
    )
    return {row[0] for row in rows}


def _riding_shop(target: _Target, listings: Iterable[Object]) -> Object | None:
    shops = (listing.get("shop") for listing in listings)
    return next(
        (
            shop
            for shop in shops
            if isinstance(shop, dict) and as_id(shop.get("shop_id")) == target.shop_id
        ),
        None,
    )


def stage_shop(
    connection: sqlite3.Connection, selection: Selection, shop_id: int, shop: Object
) -> ShopSync:
    """Stage the shop object, from getShop or from a listing."""
    connection.execute(
        "UPDATE work_shops SET shop_at = NULL, shop = ?, listings_active = ?, signals = ?"
        " WHERE shop_id = ?",
        (*shop_values(selection, shop), shop_id),
    )
    return shop_sync(connection, shop_id)


def shop_values(selection: Selection, shop: Object) -> tuple[bytes, int | None, str | None]:
    """A shop object as it is staged, its number of active listings, its signals for reviews."""
    oddities: list[Oddity] = []
    staged = StagedShop(
        selection.shop_static.columns,
        selection.shop_static.values(shop, oddities),
        selection.shop_dynamic.columns,
        selection.shop_dynamic.values(shop, oddities),
        oddities,
    )
    active = as_id(shop.get("listing_active_count"))
    return msgspec.msgpack.encode(staged), active, review_signals(shop)


def review_signals(shop: Object) -> str | None:
    """The values that change when a shop gets a review, as one text; None if all are missing."""
    signals = [shop.get(n) for n in ("review_count", "review_average", "transaction_sold_count")]
    return None if signals == [None, None, None] else as_json(signals)


def _keep_unkeyed(connection: sqlite3.Connection, listing: Object, now_s: float) -> None:
    connection.execute(
        "INSERT INTO oddities VALUES ('listings', NULL, ?, NULL, ?)", (int(now_s), as_json(listing))
    )
