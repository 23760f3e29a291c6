"""The progress of a pass over all furniture: passes, price intervals, pages."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

Part = Literal["whole", "oldest", "newest"]
Order = Literal["created", "updated", "score"]

SWEEP_SINCE = "sweep_since"
"""Key of `meta`: set when a pass over several intervals ends, until later changes were read."""


class Interval(msgspec.Struct, frozen=True):
    """A list to read: a price interval of a taxonomy node, or the list of one shop.

    Prices are US dollars, None is an open end. With a `part` other than whole the list is longer
    than the reach and cannot be split: this reads as far as the reach, from the oldest or the
    newest on, or from an end of another order.
    """

    interval_id: int
    pass_id: int | None
    taxonomy_id: int | None
    shop_id: int | None
    low: float | None
    high: float | None
    part: Part
    sort_on: Order = "created"


class PageRow(msgspec.Struct, frozen=True):
    """A page that arrived.

    Attributes:
        start: its offset.
        sent: number of results in the answer.
        count: length of the list, as the answer gives it.
        items: (listing_id, created) in the answer's order.
        tries: how often it was read.
        wave: pages of one wave were requested at once, those of a later one after them.
    """

    start: int
    sent: int
    count: int | None
    items: tuple[tuple[int, int | None], ...]
    tries: int = 1
    wave: int = 1


class PassRow(msgspec.Struct, frozen=True):
    """A pass; times in unix seconds."""

    pass_id: int
    plan: str
    started_at: int
    finished_at: int | None
    complete: int | None


COLUMNS = ("interval_id", "pass_id", "taxonomy_id", "shop_id", "low", "high", "part", "sort_on")
_INTERVAL = ", ".join(COLUMNS)

Bounds = tuple[int | None, float | None, float | None]
"""taxonomy_id, low, high."""


def begin_pass(
    connection: sqlite3.Connection, plan: str, bounds: Iterable[Bounds], now: int
) -> int:
    """Begin a pass over these intervals; an unfinished one before it is ended.

    Returns:
        its pass_id.
    """
    connection.execute(
        "UPDATE passes SET finished_at = ?, complete = 0 WHERE finished_at IS NULL", (now,)
    )
    _delete_old_pages(connection)
    pass_id = connection.execute(
        "INSERT INTO passes (plan, started_at) VALUES (?, ?)", (plan, now)
    ).lastrowid
    assert pass_id is not None
    _add_intervals(connection, bounds, _Origin(pass_id=pass_id))
    return pass_id


def _delete_old_pages(connection: sqlite3.Connection) -> None:
    """Delete the pages of finished passes: nothing needs them."""
    connection.execute(
        "DELETE FROM pages WHERE interval_id IN (SELECT interval_id FROM intervals"
        " JOIN passes USING (pass_id) WHERE passes.finished_at IS NOT NULL)"
    )


class _Origin(msgspec.Struct, frozen=True):
    """What new intervals have in common: their pass or shop, and the interval that was split."""

    pass_id: int | None = None
    shop_id: int | None = None
    parent: int | None = None
    part: Part = "whole"
    sort_on: Order = "created"


def _add_intervals(
    connection: sqlite3.Connection, bounds: Iterable[Bounds], origin: _Origin
) -> None:
    connection.executemany(
        "INSERT INTO intervals"
        " (taxonomy_id, low, high, state, pass_id, shop_id, parent, part, sort_on)"
        " VALUES (?, ?, ?, 'pending', ?, ?, ?, ?, ?)",
        [(*one, *msgspec.structs.astuple(origin)) for one in bounds],
    )


def begin_shop(connection: sqlite3.Connection, shop_id: int) -> list[Interval]:
    """The lists of a shop to read: those that an earlier run left, else its whole list."""
    rows = connection.execute(
        f"SELECT {_INTERVAL} FROM intervals WHERE shop_id = ? AND state IN ('pending', 'failed')",
        (shop_id,),
    ).fetchall()
    if not rows:
        _add_intervals(connection, [(None, None, None)], _Origin(shop_id=shop_id))
        return begin_shop(connection, shop_id)
    return [Interval(*row) for row in rows]


def end_shop(connection: sqlite3.Connection, shop_id: int) -> None:
    """A shop was read whole: delete its lists."""
    connection.execute(
        "DELETE FROM pages WHERE interval_id IN"
        " (SELECT interval_id FROM intervals WHERE shop_id = ?)",
        (shop_id,),
    )
    connection.execute("DELETE FROM intervals WHERE shop_id = ?", (shop_id,))


def open_pass(connection: sqlite3.Connection) -> PassRow | None:
    """The unfinished pass, None where there is none."""
    return _pass(connection, "finished_at IS NULL")


def last_complete_pass(connection: sqlite3.Connection) -> PassRow | None:
    """The newest pass that read everything."""
    return _pass(connection, "complete = 1")


def last_pass(connection: sqlite3.Connection) -> PassRow | None:
    """The newest pass, finished or not."""
    return _pass(connection, "1")


def _pass(connection: sqlite3.Connection, where: str) -> PassRow | None:
    row = connection.execute(
        "SELECT pass_id, plan, started_at, finished_at, complete FROM passes"
        f" WHERE {where} ORDER BY pass_id DESC LIMIT 1"
    ).fetchone()
    return None if row is None else PassRow(*row)


def pending_intervals(connection: sqlite3.Connection, pass_id: int) -> list[Interval]:
    """Intervals that can be read now, in the order in which they were planned.

    The newest part of an oversize interval waits for its oldest, which says how far it must go.
    """
    rows = connection.execute(
        f"SELECT {_INTERVAL} FROM intervals AS one WHERE pass_id = ? AND state = 'pending'"
        " AND (part <> 'newest' OR NOT EXISTS (SELECT 1 FROM intervals AS other"
        "  WHERE other.parent = one.parent AND other.sort_on = one.sort_on"
        "  AND other.part = 'oldest' AND other.state <> 'done')) ORDER BY interval_id",
        (pass_id,),
    )
    return [Interval(*row) for row in rows]


def load_pages(connection: sqlite3.Connection, interval_id: int) -> list[PageRow]:
    """The stored pages of an interval, by offset."""
    rows = connection.execute(
        "SELECT start, sent, count, items, tries, wave FROM pages"
        " WHERE interval_id = ? ORDER BY start",
        (interval_id,),
    )
    return [
        PageRow(start, sent, count, tuple((i, c) for i, c in json.loads(items)), tries, wave)
        for start, sent, count, items, tries, wave in rows
    ]


def load_ground(
    connection: sqlite3.Connection, interval: Interval
) -> frozenset[tuple[int, int | None]]:
    """(listing_id, created) of the oldest part of an oversize interval, for its newest part.

    Those of its newest second are left out: listings of one second have no fixed order.
    """
    rows = connection.execute(
        "SELECT items FROM pages WHERE interval_id = (SELECT other.interval_id"
        " FROM intervals AS other JOIN intervals AS one ON other.parent = one.parent"
        " WHERE one.interval_id = ? AND other.part = 'oldest' AND other.sort_on = one.sort_on"
        " AND other.state = 'done')",
        (interval.interval_id,),
    )
    items = [(i, c) for (text,) in rows for i, c in json.loads(text) if c is not None]
    newest = max((created for _, created in items), default=0)
    return frozenset(one for one in items if one[1] < newest)


def save_page(connection: sqlite3.Connection, interval_id: int, page: PageRow, now: int) -> None:
    """Store a page; it replaces one at the same offset.

    The length that it gives is also that of the oversize interval that the list is a part of.
    """
    connection.execute(
        "INSERT INTO pages (interval_id, start, sent, count, items, wave, fetched_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET sent = excluded.sent,"
        " count = excluded.count, items = excluded.items, fetched_at = excluded.fetched_at,"
        " wave = excluded.wave, tries = tries + 1",
        (interval_id, page.start, page.sent, page.count, json.dumps(page.items), page.wave, now),
    )
    connection.execute(
        "UPDATE intervals SET count = coalesce(?1, count) WHERE interval_id = ?2 OR interval_id ="
        " (SELECT parent FROM intervals WHERE interval_id = ?2 AND part <> 'whole')",
        (page.count, interval_id),
    )


def forget_pages(connection: sqlite3.Connection, interval_id: int) -> None:
    """Restart a list: its pages no longer fit together."""
    connection.execute("DELETE FROM pages WHERE interval_id = ?", (interval_id,))


def split_interval(
    connection: sqlite3.Connection,
    interval: Interval,
    bounds: Sequence[Bounds],
    part: Part,
    reason: str,
    sort_on: Order = "created",
) -> None:
    """Replace an interval by others."""
    origin = _Origin(interval.pass_id, interval.shop_id, interval.interval_id, part, sort_on)
    _add_intervals(connection, bounds, origin)
    connection.execute(
        "UPDATE intervals SET state = 'split', reason = ? WHERE interval_id = ?",
        (reason, interval.interval_id),
    )


def mark_interval_done(
    connection: sqlite3.Connection, interval_id: int, count: int | None, now: int
) -> int:
    """Record that every page arrived; `count` is the length that they agree on, if any.

    Returns:
        number of distinct listings.
    """
    row = connection.execute(
        "UPDATE intervals SET state = 'done', done_at = ?, reason = NULL,"
        f" count = coalesce(?, count), found = ({_FOUND}) WHERE interval_id = ? RETURNING found",
        (now, count, interval_id, interval_id),
    ).fetchone()
    return int(row[0])


_FOUND = (
    "SELECT count(DISTINCT json_extract(item.value, '$[0]'))"
    " FROM pages, json_each(pages.items) AS item WHERE pages.interval_id = ?"
)


def mark_interval_failed(
    connection: sqlite3.Connection, interval_id: int, reason: str, now: int
) -> None:
    """Record why an interval could not be read whole; the next round tries it again."""
    connection.execute(
        "UPDATE intervals SET state = 'failed', done_at = ?, reason = ?, found ="
        f" ({_FOUND}) WHERE interval_id = ?",
        (now, reason, interval_id, interval_id),
    )


def retry_failed(connection: sqlite3.Connection, pass_id: int) -> int:
    """Make the failed intervals of a pass pending again; their pages stay.

    Returns:
        how many.
    """
    return connection.execute(
        "UPDATE intervals SET state = 'pending' WHERE pass_id = ? AND state = 'failed'", (pass_id,)
    ).rowcount


def count_unread(connection: sqlite3.Connection, pass_id: int) -> int:
    """Intervals of a pass that are pending or failed."""
    row = connection.execute(
        "SELECT count(*) FROM intervals WHERE pass_id = ? AND state IN ('pending', 'failed')",
        (pass_id,),
    ).fetchone()
    return int(row[0])


def finish_pass(connection: sqlite3.Connection, pass_id: int, now: int) -> bool:
    """End a pass if nothing of it is pending or failed.

    Returns:
        whether it ended, complete.
    """
    if count_unread(connection, pass_id):
        return False
    connection.execute(
        "UPDATE passes SET finished_at = ?, complete = 1 WHERE pass_id = ?", (now, pass_id)
    )
    return True


def count_intervals(connection: sqlite3.Connection, pass_id: int) -> int:
    """How many lists a pass reads, without those that were split."""
    row = connection.execute(
        "SELECT count(*) FROM intervals WHERE pass_id = ? AND state <> 'split'", (pass_id,)
    ).fetchone()
    return int(row[0])
