"""Listings and shops: what lists and batch said of them, and which are due for batch."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from furnisync.catalog.counters import counted_by_set
from furnisync.catalog.run_scope import WITHIN_SCOPE
from furnisync.catalog.shops import add_shops
from furnisync.clock import DAY_S
from furnisync.limits import ABSENT_BELIEVED_AFTER, BELIEVED_AFTER, retry_wait
from furnisync.sqlite.rows import in_groups, insert_many, values

GONE = "gone"
RETRY_BROKEN_S = DAY_S
RETRY_GONE_S = 7 * DAY_S
DUE_SLICE_S = 900


class Listed(msgspec.Struct, frozen=True):
    """A listing as an active list names it; times in unix seconds, price in US dollars."""

    listing_id: int
    shop_id: int | None
    taxonomy_id: int | None
    price_usd: float | None
    created: int | None


class ImageRow(msgspec.Struct, frozen=True):
    """An image as batch gives it."""

    image_id: int
    rank: int
    url: str


class Batched(msgspec.Struct, frozen=True):
    """A listing as batch gives it, with its images in the order of their rank.

    Attributes:
        whole: all its images came: others that we know are no longer shown.
    """

    listing_id: int
    shop_id: int | None
    taxonomy_id: int | None
    state: str | None
    price_usd: float | None
    created: int | None
    images: Sequence[ImageRow]
    whole: bool = False


_KNOWN = """
SELECT listing_id, state, shop_id, taxonomy_id, price_usd, created FROM listings
WHERE listing_id IN (SELECT value FROM json_each(?))
"""
_ADD = (
    "INSERT INTO listings (listing_id, shop_id, taxonomy_id, price_usd, created, state,"
    " first_seen, last_listed, pass_id, batch_due)"
)
_RENEW = """
UPDATE listings SET
    shop_id = coalesce(:shop_id, shop_id),
    taxonomy_id = coalesce(:taxonomy_id, taxonomy_id),
    price_usd = coalesce(:price_usd, price_usd),
    created = coalesce(:created, created),
    last_listed = :now,
    pass_id = coalesce(:pass_id, pass_id),
    batch_due = CASE WHEN state IS 'active' THEN batch_due ELSE :due END,
    batch_tries = CASE WHEN state IS 'active' THEN batch_tries ELSE 0 END,
    state = 'active'
WHERE listing_id = :listing_id
"""
_SEEN = (
    "UPDATE listings SET last_listed = ?, pass_id = coalesce(?, pass_id)"
    " WHERE listing_id IN (SELECT value FROM json_each(?))"
)


def add_listed(
    connection: sqlite3.Connection, listed: Sequence[Listed], now: int, pass_id: int | None = None
) -> None:
    """Record the listings of an active list; new and returning ones become due for batch."""
    ids = json.dumps([one.listing_id for one in listed])
    known = {row[0]: tuple(row) for row in connection.execute(_KNOWN, (ids,))}
    due = due_slice(now)
    new, renewed, seen = [], [], []
    with counted_by_set(connection) as changes:
        for one in {one.listing_id: one for one in listed}.values():
            before = known.get(one.listing_id)
            if before is None:
                new.append((*msgspec.structs.astuple(one), "active", now, now, pass_id, due))
            elif before == (one.listing_id, "active", *_facts_of(one)):
                seen.append(one.listing_id)
            else:
                when = {"now": now, "pass_id": pass_id, "due": due}
                renewed.append({**msgspec.structs.asdict(one), **when})
                changes[_counter(before[1])] -= 1
                changes[_counter("active")] += 1
        changes[_counter("active")] += insert_many(connection, _ADD, new)
        connection.executemany(_RENEW, renewed)
        connection.execute(_SEEN, (now, pass_id, json.dumps(seen)))
        changes["shops"] += add_shops(connection, (one.shop_id for one in listed), now)


def _facts_of(one: Listed) -> tuple[object, ...]:
    return one.shop_id, one.taxonomy_id, one.price_usd, one.created


def _counter(state: str | None) -> str:
    return f"listings.{state or 'unknown'}"


def due_slice(at: int) -> int:
    """The time at which a listing is due, rounded down.

    What is due together is claimed by id, so that a batch meets few pages of the database.
    """
    return at - at % DUE_SLICE_S


def want_batch(connection: sqlite3.Connection, listing_ids: Iterable[int], now: int) -> None:
    """Make these ids due for batch now, known or not."""
    connection.executemany(
        "INSERT INTO listings (listing_id, first_seen, batch_due) VALUES (?1, ?2, ?2)"
        " ON CONFLICT DO UPDATE SET batch_due = ?2, batch_tries = 0",
        [(listing_id, now) for listing_id in listing_ids],
    )


def claim_batch(
    connection: sqlite3.Connection,
    now: int,
    in_flight: Collection[int],
    limit: int,
    *,
    restricted: bool = False,
) -> list[int]:
    """Up to `limit` ids that are due for batch, longest due first, none of those in flight.

    One that made a batch fail comes alone. If `restricted`, only those of `run_scope`.
    """
    within = WITHIN_SCOPE if restricted else ""
    rows = connection.execute(
        "SELECT listing_id, batch_failures FROM listings INDEXED BY listings_batch"
        " WHERE batch_due IS NOT NULL AND batch_due <= :now"
        f" {within} ORDER BY batch_due LIMIT :limit",
        {"now": now, "limit": limit + len(in_flight)},
    )
    free = [row for row in rows if row[0] not in in_flight]
    if free and free[0][1]:
        return [free[0][0]]
    return [listing_id for listing_id, failures in free if not failures][:limit]


def set_aside(connection: sqlite3.Connection, blamed: Mapping[int, str], now: int) -> None:
    """Record listings that make each batch fail, with the reason: each is asked alone from now on.

    They wait longer each time.
    """
    connection.executemany(
        f"UPDATE listings SET batch_due = :now + {retry_wait('batch_failures')},"
        " batch_failures = batch_failures + 1, reason = :reason WHERE listing_id = :id",
        [{"now": now, "id": one, "reason": reason} for one, reason in blamed.items()],
    )


def is_set_aside(connection: sqlite3.Connection, listing_id: int) -> bool:
    """Whether a listing made a batch fail and is asked alone."""
    row = connection.execute(
        "SELECT batch_failures FROM listings WHERE listing_id = ?", (listing_id,)
    ).fetchone()
    return row is not None and row[0] > 0


_BATCHED = """
WITH told (shop, taxonomy, now_state, price, made, due, at, id) AS (VALUES {})
UPDATE listings SET
    shop_id = coalesce(told.shop, shop_id),
    taxonomy_id = coalesce(told.taxonomy, taxonomy_id),
    state = coalesce(told.now_state, state),
    price_usd = coalesce(told.price, price_usd),
    created = coalesce(told.made, created),
    batch_due = told.due, batched_at = told.at,
    batch_tries = 0, batch_failures = 0, reason = NULL
FROM told WHERE listing_id = told.id
"""


def record_batch(
    connection: sqlite3.Connection, batched: Sequence[Batched], now: int, next_due: int
) -> None:
    """Record what batch gave; listings that are still active are due again at `next_due`.

    `image_queue.add_images` records their images in the same transaction.
    """
    due = due_slice(next_due)
    rows = [
        (
            one.shop_id,
            one.taxonomy_id,
            one.state,
            one.price_usd,
            one.created,
            due if one.state in {"active", None} else None,
            now,
            one.listing_id,
        )
        for one in batched
    ]
    ids = json.dumps([one.listing_id for one in batched])
    known = {row[0]: row[1] for row in connection.execute(_KNOWN, (ids,))}
    with counted_by_set(connection) as changes:
        for one in batched:
            if one.state is not None and one.listing_id in known:
                changes[_counter(known[one.listing_id])] -= 1
                changes[_counter(one.state)] += 1
                known[one.listing_id] = one.state
        for some in in_groups(rows):
            told = list(chain.from_iterable(some))
            connection.execute(_BATCHED.format(values(len(some), len(some[0]))), told)
        changes["shops"] += add_shops(connection, (one.shop_id for one in batched), now)


def read_before(
    connection: sqlite3.Connection, listing_ids: Sequence[int], at: int
) -> frozenset[int]:
    """Those of some listings that are known and that batch last gave before a time, or never."""
    rows = connection.execute(
        "SELECT listing_id FROM listings WHERE ifnull(batched_at, 0) < ?"
        " AND listing_id IN (SELECT value FROM json_each(?))",
        (at, json.dumps(listing_ids)),
    )
    return frozenset(row[0] for row in rows)


def record_absent(
    connection: sqlite3.Connection, listing_ids: Iterable[int], now: int, broken: str | None
) -> int:
    """Record ids that a batch answer left out.

    An id that an active list named within a day is requested once more before it counts as gone,
    and again in a week: one odd answer must not lose a listing. Where the answer had a broken
    result (`broken` says which), absence proves nothing: it is requested again, then tomorrow.

    Returns:
        how many are due only tomorrow.
    """
    waiting = 0
    for listing_id in listing_ids:
        tries, last_listed = connection.execute(
            "SELECT batch_tries + 1, last_listed FROM listings WHERE listing_id = ?", (listing_id,)
        ).fetchone()
        listed_lately = last_listed is not None and last_listed > now - DAY_S
        state: str | None = None
        due: int | None = now
        if tries < (BELIEVED_AFTER if broken else ABSENT_BELIEVED_AFTER if listed_lately else 0):
            pass
        elif broken:
            due = now + RETRY_BROKEN_S
            waiting += 1
        else:
            state, due = GONE, now + RETRY_GONE_S if listed_lately else None
        connection.execute(
            "UPDATE listings SET batch_tries = ?, state = coalesce(?, state), batch_due = ?,"
            " batch_failures = 0, reason = ? WHERE listing_id = ?",
            (tries, state, due, broken or "absent from batch", listing_id),
        )
    return waiting


def postpone_batch(
    connection: sqlite3.Connection, listing_ids: Iterable[int], due: int, reason: str
) -> None:
    """A batch call failed: its listings are due again at `due`, with the reason."""
    connection.executemany(
        "UPDATE listings SET batch_due = ?, reason = ? WHERE listing_id = ?",
        [(due, reason, listing_id) for listing_id in listing_ids],
    )


def restore_batches(connection: sqlite3.Connection, since: float) -> None:
    """Make due now what was postponed since then, as Etsy was broken."""
    connection.execute(
        "UPDATE listings SET batch_due = :since, batch_failures = 0, reason = NULL"
        " WHERE reason IS NOT NULL AND batch_tries = 0 AND batch_due > :since",
        {"since": int(since)},
    )


def want_unseen(connection: sqlite3.Connection, pass_id: int, now: int) -> int:
    """After a complete pass: make active listings that it did not see due for batch.

    Returns:
        how many.
    """
    return connection.execute(
        "UPDATE listings SET batch_due = ?, batch_tries = 0 WHERE state = 'active'"
        " AND pass_id IS NOT ? AND last_listed IS NOT NULL"
        " AND last_listed < (SELECT started_at FROM passes WHERE pass_id = ?)",
        (now, pass_id, pass_id),
    ).rowcount


def want_unlisted(connection: sqlite3.Connection, shop_id: int, since: int, now: int) -> None:
    """After a whole shop list: make active listings that it did not name due for batch."""
    connection.execute(
        "UPDATE listings SET batch_due = ?, batch_tries = 0 WHERE shop_id = ? AND state = 'active'"
        " AND (last_listed IS NULL OR last_listed < ?)",
        (now, shop_id, since),
    )


def take_into_pass(
    connection: sqlite3.Connection,
    pass_id: int,
    started_at: int,
    taxonomy_ids: Collection[int],
    low: float | None,
    high: float | None,
) -> int:
    """Add to a pass the listings of a price interval that lists named since it began.

    Returns:
        how many listings the pass has in that interval now.
    """
    where = (
        " price_usd >= coalesce(?2, -1e18) AND price_usd <= coalesce(?3, 1e18)"
        " AND taxonomy_id IN (SELECT value FROM json_each(?4))"
    )
    interval = (low, high, json.dumps(sorted(taxonomy_ids)))
    connection.execute(
        f"UPDATE listings SET pass_id = ?1 WHERE last_listed >= ?5 AND {where}",
        (pass_id, *interval, started_at),
    )
    row = connection.execute(
        f"SELECT count(*) FROM listings WHERE pass_id = ?1 AND {where}", (pass_id, *interval)
    ).fetchone()
    return int(row[0])


def known_prices(
    connection: sqlite3.Connection,
    taxonomy_ids: Collection[int],
    low: float | None,
    high: float | None,
    limit: int,
) -> list[float]:
    """A sample of the dollar prices of active listings in a price interval, to split it."""
    rows = connection.execute(
        "SELECT price_usd FROM listings WHERE state = 'active' AND price_usd IS NOT NULL"
        " AND price_usd >= coalesce(?, -1e18) AND price_usd <= coalesce(?, 1e18)"
        " AND taxonomy_id IN (SELECT value FROM json_each(?)) ORDER BY random() LIMIT ?",
        (low, high, json.dumps(sorted(taxonomy_ids)), limit),
    )
    return [row[0] for row in rows]
