"""What an answer brought of staged shops: listings as rows to be, shops, and what is gone."""

import sqlite3
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from furnisync.history.claims import Claim
from furnisync.history.fields import Object, Oddity, Value, as_id, as_json
from furnisync.history.purge import purged_ids
from furnisync.history.selection import Selection
from furnisync.history.staging import GONE, HERE, ShopSync, add_open, shop_sync


class StagedPage(msgspec.Struct, array_like=True):
    """Listings of one shop that one answer brought, as the rows that they will be.

    Attributes:
        static_columns: of `static` behind the fixed ones, as selected at that time.
        dynamic_columns: the same of `dynamic`.
        static: rows for `listings`, of those whose static row is not recent.
        dynamic: rows for `listings_dynamic`, of all.
        ended: states of those that are not active any more, by listing.
        oddities: what did not fit, by listing.
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


def stage_batch(
    connection: sqlite3.Connection,
    selection: Selection,
    claim: Claim,
    listings: Iterable[Object],
    *,
    now_s: float,
) -> list[int]:
    """Stage an answer of batch; ids that were asked for and are not in it are gone.

    Listings that nobody waits for (any more) are passed over, and so is what was purged. A shop
    that rides along in a listing is staged where its sync has none yet.

    Returns:
        The shops whose listings are now all here.
    """
    answers: dict[int, Object] = {}
    purged = purged_ids(connection, "listing")
    for listing in listings:
        listing_id = as_id(listing.get("listing_id"))
        if listing_id is None:
            _keep_unkeyed(connection, listing, now_s)
        elif listing_id not in purged:
            answers.setdefault(listing_id, listing)
    touched = []
    for target, waiting in _waiting(connection, claim).items():
        _mark_answered(connection, target, waiting, answers)
        if arrived := [(i, answers[i]) for i in waiting if i in answers]:
            _stage_listings(connection, selection, target, arrived)
            _stage_riding_shop(connection, selection, target, arrived)
        touched.append(target.shop_id)
    states = [shop_sync(connection, shop_id) for shop_id in touched]
    return [state.shop_id for state in states if state.complete or state.wants_shop]


@dataclass(frozen=True, slots=True)
class _Target:
    """The sync for which an answer is staged."""

    sync_id: int
    shop_id: int
    snapshot: int
    static_after: int
    has_shop: bool


def _waiting(connection: sqlite3.Connection, claim: Claim) -> dict[_Target, list[int]]:
    by_sync: dict[int, list[int]] = {}
    for sync_id, listing_id in claim.staged:
        by_sync.setdefault(sync_id, []).append(listing_id)
    found = {}
    for sync_id, ids in by_sync.items():
        row = connection.execute(
            "SELECT sync_id, shop_id, snapshot_timestamp, static_after, shop IS NOT NULL"
            " FROM work_shops WHERE sync_id = ?",
            (sync_id,),
        ).fetchone()
        if row is None:  # the shop has gone meanwhile
            continue
        still = connection.execute(
            "SELECT listing_id FROM work_ids WHERE sync_id = ? AND status = 0"
            " AND listing_id IN (SELECT value FROM json_each(?))",
            (sync_id, as_json(ids)),
        )
        target = _Target(row[0], row[1], row[2], row[3], bool(row[4]))
        found[target] = [listing_id for (listing_id,) in still]
    return found


def _mark_answered(
    connection: sqlite3.Connection, target: _Target, waiting: list[int], answers: Container[int]
) -> None:
    here = [listing_id for listing_id in waiting if listing_id in answers]
    gone = [listing_id for listing_id in waiting if listing_id not in answers]
    for status, ids in ((HERE, here), (GONE, gone)):
        if ids:
            connection.execute(
                "UPDATE work_ids SET status = ? WHERE sync_id = ?"
                " AND listing_id IN (SELECT value FROM json_each(?))",
                (status, target.sync_id, as_json(ids)),
            )
    add_open(connection, target.sync_id, -len(waiting))


def _stage_listings(
    connection: sqlite3.Connection,
    selection: Selection,
    target: _Target,
    arrived: list[tuple[int, Object]],
) -> None:
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
    connection.execute(
        "INSERT INTO work_pages (sync_id, body) VALUES (?, ?)",
        (target.sync_id, msgspec.msgpack.encode(page)),
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
