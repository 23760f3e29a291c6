"""What was fetched of a shop and waits for the rest, in the `work_` tables of the same file.

    begin_shop_sync ──> stage_list_page ... ──> Claims.take ──> stage_batch ... ──> append_shop_sync
          │              (ids of the list)      (100 ids         (listings, their    (when it is
          └─ ids known: no list pages            of any shops)    shops, the gone)    complete)

All functions run inside the caller's transaction. A call's answer is staged in the same transaction
that moves the progress, so a killed run asks again only for what was in flight.
"""

import sqlite3
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from furnisync.history.fields import Object, Oddity, Value, as_id, as_json
from furnisync.history.purge import purged_ids
from furnisync.history.selection import Selection

BATCH_SIZE: Final = 100
WANTED, HERE, GONE = range(3)


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


def open_syncs(connection: sqlite3.Connection) -> list[ShopSync]:
    """Syncs under way, oldest first: a run takes these up before it begins others."""
    return [_as_sync(row) for row in connection.execute(f"{_SYNCS} ORDER BY sync_id")]


def drop_stale_syncs(connection: sqlite3.Connection, before_s: float) -> int:
    """Forget syncs begun before a time, so that no row bears a time long before its values.

    Their shops are due as if never begun; to go on would cost the rest of the old sync besides a
    whole new one.
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


def count_staged(connection: sqlite3.Connection, shop_id: int) -> int:
    """Distinct listings staged for a shop so far."""
    row = connection.execute(
        "SELECT count(*) FROM work_ids WHERE sync_id = ?", (_sync_id(connection, shop_id),)
    ).fetchone()
    return int(row[0])


def stage_ended(connection: sqlite3.Connection, shop_id: int, ids: Sequence[int]) -> ShopSync:
    """Of listings that ended as somebody else knows, stage those that are live to our knowledge."""
    sync_id = _sync_id(connection, shop_id)
    added = connection.execute(
        f"""INSERT INTO work_ids (sync_id, listing_id)
        {LIVE_LISTINGS} AND k.listing_id IN (SELECT value FROM json_each(:ids))
        ON CONFLICT DO NOTHING""",
        {"sync_id": sync_id, "shop_id": shop_id, "ids": as_json(list(ids))},
    ).rowcount
    _add_open(connection, sync_id, added)
    return shop_sync(connection, shop_id)


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


@dataclass(frozen=True, slots=True)
class Claim:
    """Listings to ask batch for in one call.

    Attributes:
        ids: for the call, none twice.
        staged: where they belong: (sync_id, listing_id).
    """

    ids: tuple[int, ...]
    staged: tuple[tuple[int, int], ...]

    def split(self, ids: Container[int | None]) -> "tuple[Claim, Claim]":
        """The part that is about these ids, and the rest."""
        here = tuple(pair for pair in self.staged if pair[1] in ids)
        rest = tuple(pair for pair in self.staged if pair[1] not in ids)
        return _claim(here), _claim(rest)


def _claim(staged: tuple[tuple[int, int], ...]) -> Claim:
    return Claim(tuple(dict.fromkeys(listing_id for _, listing_id in staged)), staged)


class Claims:
    """Which staged ids are being asked for; a killed process forgets it, and they are free again.

    `take` runs where the writer runs. A claim is given back after its answer was committed, and
    after its call failed.
    """

    def __init__(self) -> None:
        self._taken: set[tuple[int, int]] = set()

    def take(
        self, connection: sqlite3.Connection, limit: int = BATCH_SIZE, *, full_only: bool = False
    ) -> Claim | None:
        """Take up to `limit` staged ids, of any shops, oldest sync first; None where none wait.

        With `full_only` also None while fewer than `limit` wait: more may come to fill the call.
        """
        rows = connection.execute(
            "SELECT sync_id, listing_id FROM work_ids WHERE status = 0"
            " ORDER BY sync_id, listing_id LIMIT ?",
            (limit + len(self._taken),),
        )
        free = [pair for row in rows if (pair := (row[0], row[1])) not in self._taken][:limit]
        if not free or (full_only and len(free) < limit):
            return None
        self._taken.update(free)
        return _claim(tuple(free))

    def give_back(self, claim: Claim) -> None:
        """The claim's answer is committed, or its call failed."""
        self._taken.difference_update(claim.staged)


def shops_of(connection: sqlite3.Connection, claim: Claim) -> list[int]:
    """The shops whose syncs wait for a claim."""
    rows = connection.execute(
        "SELECT shop_id FROM work_shops WHERE sync_id IN (SELECT value FROM json_each(?))",
        (as_json(list({sync_id for sync_id, _ in claim.staged})),),
    )
    return [row[0] for row in rows]


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
    _add_open(connection, target.sync_id, -len(waiting))


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


def drop_sync(connection: sqlite3.Connection, sync_id: int) -> None:
    """Forget what is staged of a shop's sync."""
    connection.execute("DELETE FROM work_pages WHERE sync_id = ?", (sync_id,))
    connection.execute("DELETE FROM work_ids WHERE sync_id = ?", (sync_id,))
    connection.execute("DELETE FROM work_shops WHERE sync_id = ?", (sync_id,))
