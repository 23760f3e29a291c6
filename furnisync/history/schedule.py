"""Which shops are due, in which order, and how far behind the cadence the history is.

| order | data of a shop                      | reviews of a shop                                  |
| ----- | ----------------------------------- | -------------------------------------------------- |
| 1     | never synced, most listings first   | walk interrupted                                   |
| 2     | last sync too old, oldest first     | never walked, most listings first                  |
| 3     | gone, after its long wait           | signals changed since the last walk, oldest first  |
| 4     |                                     | signals unchanged: after `reviews_quiet_days`      |

A time in the future is invalid: `history/clock_repair.py` makes its shop due before a round starts.
A shop with an open sync is not due: `open_syncs` has it. Only shops that were synced once
have reviews due. Every order is an index, so the first result is fast at any size.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from furnisync.clock import DAY_S, WRONG_S
from furnisync.config import DataSettings


@dataclass(frozen=True, slots=True)
class DueShop:
    """A shop that is due.

    Attributes:
        overdue_s: seconds since it became due; None if it was never requested.
    """

    shop_id: int
    furniture_listings: int
    overdue_s: int | None


def register_shops(connection: sqlite3.Connection, shops: Iterable[tuple[int, int]]) -> None:
    """Store shops and their numbers of furniture listings, as image sync knows them."""
    connection.executemany(
        """INSERT INTO sync_state (shop_id, furniture_listings) VALUES (?, ?)
        ON CONFLICT DO UPDATE SET furniture_listings = excluded.furniture_listings
        WHERE furniture_listings != excluded.furniture_listings""",
        shops,
    )


_IDLE: Final = """
    AND (not_before IS NULL OR not_before <= :now)
    AND NOT EXISTS (SELECT 1 FROM work_shops w WHERE w.shop_id = sync_state.shop_id)"""
_AMONG_TOP: Final = """
    AND shop_id IN (
        SELECT shop_id FROM sync_state ORDER BY furniture_listings DESC, shop_id LIMIT :top)"""
_SYNC_ORDER: Final = (
    f"""SELECT shop_id, furniture_listings, NULL FROM sync_state INDEXED BY sync_state_new
    WHERE status = 'new' {_IDLE} {{top}}
    ORDER BY furniture_listings DESC, shop_id LIMIT :limit""",
    f"""SELECT shop_id, furniture_listings, :synced_before - last_sync
    FROM sync_state INDEXED BY sync_state_last
    WHERE status = 'ok' AND last_sync < :synced_before {_IDLE} {{top}}
    ORDER BY last_sync, shop_id LIMIT :limit""",
    f"""SELECT shop_id, furniture_listings, :now - not_before
    FROM sync_state INDEXED BY sync_state_gone
    WHERE status = 'gone' {_IDLE} {{top}}
    ORDER BY not_before, shop_id LIMIT :limit""",
)


def due_shops(
    connection: sqlite3.Connection,
    now_s: float,
    settings: DataSettings,
    *,
    limit: int = 500,
    top: int | None = None,
) -> list[DueShop]:
    """The shops to sync next, in order; call again once these have begun.

    Args:
        connection: any connection to the history, a reader too.
        now_s: unix time.
        settings: how often a shop is synced.
        limit: maximum number of shops.
        top: only among this many shops, those with most furniture listings.
    """
    parameters = {
        "now": int(now_s),
        "synced_before": int(now_s - settings.sync_days * DAY_S),
        "top": top,
    }
    return _collect(connection, _SYNC_ORDER, parameters, limit, top)


def restore_tries(connection: sqlite3.Connection, since_s: float) -> None:
    """Undo what was counted as a failure of a shop or its reviews since then: Etsy was broken."""
    connection.execute(
        """UPDATE sync_state SET not_before = NULL, failures = failures - 1,
            reason = CASE WHEN failures > 1 THEN reason END
        WHERE failures > 0 AND last_asked >= ?""",
        (int(since_s),),
    )
    # When reviews failed is not stored. One that failed before comes a little early.
    connection.execute(
        """UPDATE sync_state SET reviews_not_before = NULL, reviews_failures = reviews_failures - 1,
            reviews_reason = CASE WHEN reviews_failures > 1 THEN reviews_reason END
        WHERE reviews_failures > 0 AND reviews_not_before >= ?""",
        (int(since_s),),
    )


def forget_waits(connection: sqlite3.Connection) -> None:
    """Retry failed shops at once: a person has restarted the program."""
    connection.execute("UPDATE sync_state SET not_before = NULL WHERE failures > 0")
    connection.execute("UPDATE sync_state SET reviews_not_before = NULL WHERE reviews_failures > 0")


_FAILING: Final = """
SELECT EXISTS (
    SELECT 1 FROM sync_state
    WHERE status != 'gone' AND (failures > 0 OR reviews_failures > 0) {top})"""


def is_failing(connection: sqlite3.Connection, top: int | None = None) -> bool:
    """Whether the last try of any shop, or of its reviews, failed."""
    sql = _FAILING.format(top="" if top is None else _AMONG_TOP)
    return bool(connection.execute(sql, {} if top is None else {"top": top}).fetchone()[0])


_REST: Final = "AND (reviews_not_before IS NULL OR reviews_not_before <= :now)"
_REVIEW_ORDER: Final = (
    f"""SELECT shop_id, furniture_listings, :now - walk_started
    FROM sync_state INDEXED BY sync_state_walking
    WHERE status = 'ok' AND walk_started IS NOT NULL {_REST} {{top}}
    ORDER BY walk_started, shop_id LIMIT :limit""",
    f"""SELECT shop_id, furniture_listings, NULL FROM sync_state INDEXED BY sync_state_unwalked
    WHERE status = 'ok' AND walk_started IS NULL AND reviews_walked IS NULL {_REST} {{top}}
    ORDER BY furniture_listings DESC, shop_id LIMIT :limit""",
    f"""SELECT shop_id, furniture_listings, :walked_before - reviews_walked
    FROM sync_state INDEXED BY sync_state_moved
    WHERE status = 'ok' AND walk_started IS NULL AND (signals = signals_walked) IS NOT TRUE
        AND reviews_walked < :walked_before {_REST} {{top}}
    ORDER BY reviews_walked, shop_id LIMIT :limit""",
    f"""SELECT shop_id, furniture_listings, :quiet_before - reviews_walked
    FROM sync_state INDEXED BY sync_state_quiet
    WHERE status = 'ok' AND walk_started IS NULL AND signals = signals_walked
        AND reviews_walked < :quiet_before {_REST} {{top}}
    ORDER BY reviews_walked, shop_id LIMIT :limit""",
)


def due_reviews(
    connection: sqlite3.Connection,
    now_s: float,
    settings: DataSettings,
    *,
    limit: int = 500,
    top: int | None = None,
) -> list[DueShop]:
    """The shops whose reviews to read next, in order; arguments as in `due_shops`."""
    parameters = {
        "now": int(now_s),
        "walked_before": int(now_s - settings.reviews_days * DAY_S),
        "quiet_before": int(
            now_s - max(settings.reviews_quiet_days, settings.reviews_days) * DAY_S
        ),
        "top": top,
    }
    return _collect(connection, _REVIEW_ORDER, parameters, limit, top)


def _collect(
    connection: sqlite3.Connection,
    queries: tuple[str, ...],
    parameters: dict[str, int | None],
    limit: int,
    top: int | None,
) -> list[DueShop]:
    found: list[DueShop] = []
    for query in queries:
        if len(found) < limit:
            sql = query.format(top="" if top is None else _AMONG_TOP)
            rows = connection.execute(sql, {**parameters, "limit": limit - len(found)})
            found += [DueShop(*row) for row in rows]
    return found


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind the cadence the history is, for `status`.

    Attributes:
        shops: known shops.
        never_synced: shops without any snapshot.
        due: shops whose last sync is older than the cadence, or has a time in the future.
        under_way: shops that are partly stored.
        gone: shops that Etsy no longer knows.
        failing: shops whose last try failed.
        most_overdue_s: seconds by which the most overdue shop is late; 0 if none is.
        reviews_never_walked: synced shops without a complete walk, interrupted ones included.
        reviews_due: shops whose signals changed and whose last walk is older than the cadence.
        reviews_quiet: shops whose signals did not change, so that their reviews wait longest.
        ahead: due shops whose last sync has a time in the future.
        new_calls: calls that the shops without any snapshot take at least.
        calls_per_day: estimate of the quota that would keep the cadence, including reviews.
    """

    shops: int
    never_synced: int
    due: int
    under_way: int
    gone: int
    failing: int
    most_overdue_s: int
    reviews_never_walked: int
    reviews_due: int
    reviews_quiet: int
    ahead: int
    calls_per_day: float
    new_calls: int


_LAG: Final = """
SELECT count(*),
    count(*) FILTER (WHERE status = 'new'),
    count(*) FILTER (WHERE status = 'ok' AND (last_sync < :synced_before OR last_sync > :ahead)),
    (SELECT count(*) FROM work_shops),
    count(*) FILTER (WHERE status = 'gone'),
    count(*) FILTER (WHERE status != 'gone' AND (failures > 0 OR reviews_failures > 0)),
    ifnull(max(:synced_before - min(last_sync) FILTER (WHERE status = 'ok'), 0), 0),
    count(*) FILTER (WHERE status = 'ok' AND reviews_walked IS NULL),
    count(*) FILTER (WHERE status = 'ok' AND (signals = signals_walked) IS NOT TRUE
        AND reviews_walked < :walked_before),
    count(*) FILTER (WHERE status = 'ok' AND signals = signals_walked),
    count(*) FILTER (WHERE status = 'ok' AND last_sync > :ahead),
    ifnull(sum((ifnull(listings_found, furniture_listings) + 99) / 100)
        FILTER (WHERE status != 'gone'), 0),
    ifnull(sum(ifnull(listings_found, furniture_listings)) FILTER (WHERE status != 'gone'), 0),
    ifnull(sum(1 + max(1, (furniture_listings + 99) / 100)) FILTER (WHERE status = 'new'), 0)
        + (ifnull(sum(furniture_listings) FILTER (WHERE status = 'new'), 0) + 99) / 100
FROM sync_state"""


def measure_lag(connection: sqlite3.Connection, now_s: float, settings: DataSettings) -> Lag:
    """Count what is behind; about 50 ms at 100,000 shops."""
    row = connection.execute(
        _LAG,
        {
            "synced_before": int(now_s - settings.sync_days * DAY_S),
            "walked_before": int(now_s - settings.reviews_days * DAY_S),
            "ahead": int(now_s + WRONG_S),
        },
    ).fetchone()
    pages, listings = row[11], row[12]
    live, quiet = row[0] - row[4], row[9]
    reviews = (live - quiet) / settings.reviews_days + quiet / settings.reviews_quiet_days
    calls = (pages + listings / 100) / settings.sync_days + reviews
    return Lag(*(*row[:11], calls, row[13]))
