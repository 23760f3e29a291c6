"""Oversize intervals: more listings at one price than the reach, read in parts."""

import sqlite3

import msgspec

from furnisync.catalog.frontier import COLUMNS, Interval, load_ground, load_pages

IS_OVERSIZE = (
    "({0}.state = 'split' AND EXISTS (SELECT 1 FROM intervals AS part"
    " WHERE part.parent = {0}.interval_id"
    " AND (part.part <> 'whole' OR part.taxonomy_id <> {0}.taxonomy_id)))"
)
"""Whether an interval cannot be split: it was read in parts, which are not intervals themselves."""


def interval_counts(
    connection: sqlite3.Connection, pass_id: int, *, read_whole: bool
) -> dict[int, dict[tuple[float | None, float | None], int]]:
    """Listings of each interval as a pass counted them, by taxonomy and (low, high).

    With `read_whole`, only intervals of which every page arrived.
    """
    rows = connection.execute(
        "SELECT taxonomy_id, low, high, count FROM intervals AS one"
        " WHERE pass_id = ? AND part = 'whole' AND count IS NOT NULL AND (state = 'done'"
        f" OR NOT ? AND (state <> 'split' OR {IS_OVERSIZE.format('one')}))",
        (pass_id, read_whole),
    )
    counts: dict[int, dict[tuple[float | None, float | None], int]] = {}
    for taxonomy_id, low, high, count in rows:
        counts.setdefault(taxonomy_id, {})[low, high] = count
    return counts


class OversizeInterval(msgspec.Struct, frozen=True):
    """An interval that was read in parts.

    Attributes:
        count: Etsy's last count.
        found: distinct listings that were read.
        proven: its two ends met, so that nothing lies between them, whatever `count` says.
        inner: a part of another oversize interval, where its missing listings count.
        by_children: its child nodes were read.
        tried: the (order, end) pairs that were read.
    """

    interval: Interval
    count: int
    found: int = 0
    proven: bool = False
    inner: bool = False
    by_children: bool = False
    tried: frozenset[tuple[str, str]] = frozenset()

    @property
    def out_of_reach(self) -> int:
        """How many listings were not read."""
        return 0 if self.proven else max(0, self.count - self.found)


def count_oversize(connection: sqlite3.Connection, pass_id: int) -> list[OversizeInterval]:
    """Count the distinct listings of each oversize interval of a pass, innermost first."""
    above = IS_OVERSIZE.format("above")
    rows = connection.execute(
        f"SELECT {', '.join('one.' + name for name in COLUMNS)}, one.count,"
        f" coalesce({above}, 0) FROM intervals AS one"
        " LEFT JOIN intervals AS above ON above.interval_id = one.parent"
        f" WHERE one.pass_id = ? AND {IS_OVERSIZE.format('one')} ORDER BY one.interval_id DESC",
        (pass_id,),
    ).fetchall()
    return [
        _count_one(connection, Interval(*row[:8]), row[8] or 0, inner=bool(row[9])) for row in rows
    ]


def _count_one(
    connection: sqlite3.Connection, interval: Interval, count: int, *, inner: bool
) -> OversizeInterval:
    found: int = connection.execute(_FOUND_BELOW, (interval.interval_id,)).fetchone()[0]
    parts = connection.execute(
        "SELECT DISTINCT sort_on, part FROM intervals WHERE parent = ?", (interval.interval_id,)
    )
    tried = frozenset((order, part) for order, part in parts)
    proven = _ends_met(connection, interval)
    found = connection.execute(
        "UPDATE intervals SET found = max(coalesce(found, 0), ?1), proven = ?2, done_at ="
        " (SELECT max(done_at) FROM intervals WHERE parent = ?3) WHERE interval_id = ?3"
        " RETURNING found",
        (found, proven, interval.interval_id),
    ).fetchone()[0]
    by_children = ("created", "whole") in tried
    return OversizeInterval(interval, count, found, proven, inner, by_children, tried)


_FOUND_BELOW = """
WITH RECURSIVE below(node) AS (
    VALUES (?) UNION SELECT interval_id FROM intervals JOIN below ON parent = node
)
SELECT count(DISTINCT json_extract(item.value, '$[0]'))
FROM below JOIN pages ON pages.interval_id = node, json_each(pages.items) AS item
"""


def _ends_met(connection: sqlite3.Connection, interval: Interval) -> bool:
    newest = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM intervals WHERE parent = ? AND part = 'newest'"
        " AND sort_on = 'created' AND state = 'done'",
        (interval.interval_id,),
    ).fetchone()
    if newest is None:
        return False
    ground = load_ground(connection, Interval(*newest))
    pages = load_pages(connection, newest[0])
    return any(item in ground for page in pages for item in page.items)


def add_found(connection: sqlite3.Connection, interval_id: int, found: int) -> None:
    """Record the number of listings of an oversize interval that other reads have brought."""
    connection.execute(
        "UPDATE intervals SET found = max(coalesce(found, 0), ?) WHERE interval_id = ?",
        (found, interval_id),
    )


def out_of_reach(connection: sqlite3.Connection, pass_id: int) -> int:
    """How many listings of a pass no query showed, by `count_oversize`."""
    row = connection.execute(
        "SELECT coalesce(sum(one.count - one.found), 0) FROM intervals AS one"
        " LEFT JOIN intervals AS above ON above.interval_id = one.parent"
        " WHERE one.pass_id = ? AND one.found < one.count AND one.proven = 0"
        f" AND {IS_OVERSIZE.format('one')} AND NOT coalesce({IS_OVERSIZE.format('above')}, 0)",
        (pass_id,),
    ).fetchone()
    return int(row[0])
