"""How a shop's sync becomes rows, all of them or none, in one transaction.

| what                       | rows                                                                |
| -------------------------- | ------------------------------------------------------------------- |
| a shop or listing, new     | static and dynamic                                                  |
| known                      | dynamic; static again if none is younger than `static_days`         |
| known, now ended           | a dynamic row with its state, once                                  |
| known, not in batch        | a dynamic row with state `gone` and nothing else, once              |
| ended and back             | dynamic rows again                                                  |
| never recorded and gone    | none                                                                |

In a row NULL means that Etsy sent null, or nothing, at that time. It is a value like any other:
unchanged values are repeated, and no older row fills it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import msgspec

from furnisync.clock import DAY_S
from furnisync.history.arrivals import (
    Arrival,
    StagedPage,
    StagedShop,
    sort_batch,
    stage_arrival,
    stage_shop,
)
from furnisync.history.claims import BatchClaim
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Object, as_id
from furnisync.history.reuse import oldest_reused
from furnisync.history.rows import append_oddities, insert_rows, known_since
from furnisync.history.set_aside import forget_set_aside
from furnisync.history.staging import GONE, LIVE_LISTINGS, ShopSync, drop_sync, shop_sync
from furnisync.limits import retry_wait

GONE_STATE: Final = "gone"
_LONGEST_GONE_WAIT: Final = 8
"""A gone shop waits at most this many times the first wait."""


@dataclass
class Appended:
    """Numbers of rows of a shop's sync.

    Attributes:
        counted: active listings, by the `count` of the shop's list.
        vanished: listings that were in the list, never recorded, and unknown to batch.
    """

    counted: int = 0
    shop_static: int = 0
    listing_static: int = 0
    listing_dynamic: int = 0
    active: int = 0
    ended: int = 0
    gone: int = 0
    vanished: int = 0


_SHOP: Final = msgspec.msgpack.Decoder(StagedShop)
_PAGE: Final = msgspec.msgpack.Decoder(StagedPage)


class SyncIncomplete(ValueError):
    """An incomplete sync cannot be appended: a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of an answer of batch.

    Attributes:
        appended: shops whose sync is complete, with their numbers of rows.
        wants_shop: shops of which only the shop object is missing.
    """

    appended: dict[int, Appended]
    wants_shop: list[int]


def take_batch(
    connection: sqlite3.Connection,
    selection: Selection,
    claim: BatchClaim,
    listings: Iterable[Object],
    *,
    now_s: float,
) -> Taken:
    """Append the shops that an answer of batch completes, stage the rest.

    Call it inside one transaction. Requested ids that are not in the answer are gone.
    """
    listings = list(listings)
    came = (as_id(one.get("listing_id")) for one in listings)
    forget_set_aside(connection, [one for one in came if one is not None])
    taken = Taken({}, [])
    for arrival in sort_batch(connection, selection, claim, listings, now_s=now_s):
        if arrival.completes:
            appended = _append_with(connection, selection, arrival)
            taken.appended[arrival.shop_id] = appended
        elif stage_arrival(connection, selection, arrival).wants_shop:
            taken.wants_shop.append(arrival.shop_id)
    return taken


def append_shop_sync(connection: sqlite3.Connection, shop_id: int) -> Appended:
    """Append the staged shop and listings, update `sync_state`, empty the staging.

    Call it inside one transaction. Listings stream from the staging a page at a time.

    Raises:
        LookupError: this shop has no open sync.
        SyncIncomplete: list pages, batch answers or the shop itself are missing.
    """
    sync = shop_sync(connection, shop_id)
    if not sync.complete:
        raise SyncIncomplete(f"the sync of shop {shop_id} is not complete: {sync}")
    return _append(connection, sync, (), ())


def _append_with(
    connection: sqlite3.Connection, selection: Selection, arrival: Arrival
) -> Appended:
    """Append a shop with its last answer, which then needs no staging."""
    if arrival.shop is not None:
        stage_shop(connection, selection, arrival.shop_id, arrival.shop)
    pages = () if arrival.page is None else (arrival.page,)
    return _append(connection, shop_sync(connection, arrival.shop_id), pages, arrival.gone)


def _append(
    connection: sqlite3.Connection,
    sync: ShopSync,
    last_pages: Iterable[StagedPage],
    last_gone: Iterable[int],
) -> Appended:
    appended = Appended(counted=sync.counted or 0)
    sync_id, static_after, shop, shop_at, reused = connection.execute(
        "SELECT sync_id, static_after, shop, shop_at, reused FROM work_shops WHERE shop_id = ?",
        (sync.shop_id,),
    ).fetchone()
    snapshot = sync.snapshot_timestamp
    key = (sync.shop_id, snapshot if shop_at is None else shop_at)
    _append_shop(connection, key, static_after, _SHOP.decode(shop), appended)
    for page in chain(_pages(connection, sync_id), last_pages):
        append_page(connection, snapshot, page, appended)
    _append_gone(
        connection, chain(_staged_gone(connection, sync_id), last_gone), snapshot, appended
    )
    appended.active += reused
    oldest = [oldest_reused(connection, sync_id)] if reused else []
    synced_at = min(at for at in (snapshot, shop_at, *oldest) if at is not None)
    _mark_synced(connection, sync, appended, synced_at)
    drop_sync(connection, sync_id)
    return appended


def _append_shop(
    connection: sqlite3.Connection,
    key: tuple[int, int],
    static_after: int,
    shop: StagedShop,
    appended: Appended,
) -> None:
    recent = connection.execute(
        "SELECT 1 FROM shops WHERE shop_id = ? AND snapshot_timestamp >= ? AND wrong_clock IS NULL",
        (key[0], static_after),
    ).fetchone()
    if recent is None:
        insert_rows(connection, "shops", shop.static_columns, [(*key, *shop.static)])
        appended.shop_static = 1
    insert_rows(connection, "shops_dynamic", shop.dynamic_columns, [(*key, *shop.dynamic)])
    if shop.oddities:
        append_oddities(connection, "shops", key[1], [(key[0], shop.oddities)])


def _pages(connection: sqlite3.Connection, sync_id: int) -> Iterator[StagedPage]:
    rows = connection.execute("SELECT body FROM work_pages WHERE sync_id = ?", (sync_id,))
    for (body,) in rows:
        yield _PAGE.decode(body)


def append_page(
    connection: sqlite3.Connection, snapshot: int, page: StagedPage, appended: Appended
) -> None:
    """Append listings and count them in `appended`, but none of which a newer row is known.

    `snapshot` is the time of their rows.
    """
    appended.active += len(page.dynamic) - len(page.ended)
    still = _still_ended(connection, page.ended)
    # The other program's answer may have come while this one was staged: then its rows are newer.
    newer = known_since(connection, [row[0] for row in page.dynamic], snapshot)
    appended.ended += len(page.ended.keys() - still - newer)
    if skipped := still | newer:
        page.static = [row for row in page.static if row[0] not in skipped]
        page.dynamic = [row for row in page.dynamic if row[0] not in skipped]
        page.oddities = [odd for odd in page.oddities if odd[0] not in skipped]
    appended.listing_static += insert_rows(connection, "listings", page.static_columns, page.static)
    appended.listing_dynamic += insert_rows(
        connection, "listings_dynamic", page.dynamic_columns, page.dynamic
    )
    if page.oddities:
        append_oddities(connection, "listings", snapshot, page.oddities)


def _still_ended(connection: sqlite3.Connection, ended: Mapping[int, str]) -> set[int]:
    """Listings that ended earlier and are still in that state: their last row is enough."""
    return {
        listing_id
        for listing_id, state in ended.items()
        if _last_state(connection, listing_id) == state
    }


_NEVER: Final = object()


def _last_state(connection: sqlite3.Connection, listing_id: int) -> object:
    """The state in the newest row of a listing; `_NEVER` if it has none."""
    row = connection.execute(
        "SELECT state FROM listings_dynamic WHERE listing_id = ? AND wrong_clock IS NULL"
        " ORDER BY snapshot_timestamp DESC LIMIT 1",
        (listing_id,),
    ).fetchone()
    return _NEVER if row is None else row[0]


def _staged_gone(connection: sqlite3.Connection, sync_id: int) -> Iterator[int]:
    rows = connection.execute(
        f"SELECT listing_id FROM work_ids WHERE sync_id = ? AND status = {GONE}", (sync_id,)
    )
    return (listing_id for (listing_id,) in rows)


def _append_gone(
    connection: sqlite3.Connection, ids: Iterable[int], snapshot: int, appended: Appended
) -> None:
    """Append a last row for recorded listings that batch no longer sends."""
    for listing_id in ids:
        state = _last_state(connection, listing_id)
        if state is _NEVER:
            appended.vanished += 1
        elif state != GONE_STATE:
            row = (listing_id, snapshot, GONE_STATE)
            appended.gone += insert_rows(connection, "listings_dynamic", ("state",), [row])
    appended.listing_dynamic += appended.gone


def _mark_synced(
    connection: sqlite3.Connection, sync: ShopSync, appended: Appended, synced_at: int
) -> None:
    """Record a sync; `synced_at`, the time of its oldest row, decides when it is due again."""
    connection.execute(
        """UPDATE sync_state SET
            status = 'ok', first_sync = ifnull(first_sync, :snapshot), last_sync = :synced_at,
            last_static = CASE WHEN :static THEN :snapshot ELSE last_static END,
            listings_told = w.listings_told, listings_active = w.listings_active,
            listings_found = :found, signals = w.signals,
            not_before = NULL, failures = 0, reason = NULL, gone_answers = 0
        FROM work_shops w WHERE w.shop_id = sync_state.shop_id AND w.shop_id = :shop_id""",
        {
            "shop_id": sync.shop_id,
            "synced_at": synced_at,
            "snapshot": sync.snapshot_timestamp,
            "static": appended.shop_static,
            "found": appended.active,
        },
    )


def mark_shop_gone(
    connection: sqlite3.Connection, shop_id: int, now_s: float, *, gone_days: float = 90.0
) -> int:
    """Record that Etsy no longer knows the shop (404), and with it its listings.

    Its active listings get a row with state `gone`; earlier batch results are kept. It is
    requested again after `gone_days`, then after twice, four times and finally eight times that.

    Returns:
        Number of listings that got their last row.
    """
    snapshot = _keep_staged(connection, shop_id, int(now_s))
    ended = connection.execute(
        f"""INSERT INTO listings_dynamic (listing_id, snapshot_timestamp, state)
        SELECT listing_id, :snapshot, :gone FROM ({LIVE_LISTINGS})
        WHERE true ON CONFLICT DO NOTHING""",
        {"sync_id": 0, "shop_id": shop_id, "snapshot": snapshot, "gone": GONE_STATE},
    ).rowcount
    answers = connection.execute(
        "INSERT INTO sync_state (shop_id) VALUES (?)"
        " ON CONFLICT DO UPDATE SET shop_id = shop_id RETURNING gone_answers",
        (shop_id,),
    ).fetchone()[0]
    wait_days = gone_days * min(2**answers, _LONGEST_GONE_WAIT)
    connection.execute(
        """UPDATE sync_state SET status = 'gone', gone_answers = gone_answers + 1, last_asked = ?,
            not_before = ?, failures = 0, reason = 'Etsy has no such shop (404)'
        WHERE shop_id = ?""",
        (int(now_s), int(now_s + wait_days * DAY_S), shop_id),
    )
    return ended


def _keep_staged(connection: sqlite3.Connection, shop_id: int, now_s: int) -> int:
    """Append earlier batch results of a shop that is gone; returns the time of its end."""
    row = connection.execute(
        "SELECT sync_id, snapshot_timestamp FROM work_shops WHERE shop_id = ?", (shop_id,)
    ).fetchone()
    if row is not None:
        for page in _pages(connection, row[0]):
            append_page(connection, row[1], page, Appended())
        drop_sync(connection, row[0])
        now_s = max(now_s, row[1] + 1)
    last = connection.execute(
        "SELECT last_sync FROM sync_state WHERE shop_id = ?", (shop_id,)
    ).fetchone()
    return now_s if last is None or last[0] is None else max(now_s, last[0] + 1)


def mark_sync_failed(
    connection: sqlite3.Connection, shop_id: int, reason: str, now_s: float
) -> None:
    """Leave a shop's sync pending, with its reason, for longer each time; staged rows stay."""
    connection.execute(
        f"""UPDATE sync_state SET failures = failures + 1, reason = ?1, last_asked = ?2,
            not_before = ?2 + {retry_wait("failures")} WHERE shop_id = ?3""",
        (reason, int(now_s), shop_id),
    )
