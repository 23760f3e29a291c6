"""The coverage certificate: what a pass should read, what it read, and what it did not.

An interval is complete when every page of it arrived and, where it is longer than a query shows,
its two ends met or its parts together showed as many listings as Etsy counted. Nothing else is
complete.
"""

import sqlite3
from collections.abc import Iterator
from typing import Literal

import msgspec

from furnisync.catalog import frontier, oversize
from furnisync.catalog.schema import get_meta

Completeness = Literal["complete", "partly out of reach", "failed", "not read yet"]


class IntervalCoverage(msgspec.Struct, frozen=True):
    """One price interval of a pass; prices in US dollars, None is an open end, times unix seconds.

    Attributes:
        count: how many listings Etsy last said there are; None where it was never asked.
        found: distinct listings that came.
        short: how many fewer came than Etsy counted; `count` is an estimate, so a complete
            interval may be short, and the certificate says by how much.
    """

    taxonomy_id: int
    taxonomy: str | None
    low: float | None
    high: float | None
    count: int | None
    found: int
    short: int
    at: int | None
    verdict: Completeness
    reason: str | None


class ShopCoverage(msgspec.Struct, frozen=True):
    """A shop: its known active furniture listings, and all its active listings by its own count.

    `listing_active_count` counts all that the shop sells, furniture or not; it is None where data
    sync has not read the shop.
    """

    shop_id: int
    furniture: int
    listing_active_count: int | None
    synced_at: int | None
    reason: str | None


class Coverage(msgspec.Struct, frozen=True):
    """The certificate of the newest pass."""

    pass_id: int
    started_at: int
    finished_at: int | None
    complete: bool
    intervals: tuple[IntervalCoverage, ...]
    listings_found: int
    listings_counted: int
    out_of_reach: int
    swept: bool
    """What changed while it ran was read afterwards, or did not need to be."""

    def total(self) -> str:
        """A summary in one line."""
        done = sum(one.verdict == "complete" for one in self.intervals)
        words = (
            f"{done:,} of {len(self.intervals):,} price intervals complete;"
            f" {self.listings_found:,} listings found"
        )
        if self.complete and self.listings_found != self.listings_counted:
            words += f" (Etsy's estimate was {self.listings_counted:,})"
        else:
            words += f" of {self.listings_counted:,} counted"
        if self.out_of_reach:
            words += f"; {self.out_of_reach:,} out of reach of any query"
        if not self.swept:
            words += "; what changed meanwhile is not read yet"
        return ("Complete: " if self.complete else "NOT complete: ") + words


_ROWS = f"""
SELECT intervals.taxonomy_id, taxonomy.name, low, high, count, done_at, state, reason,
    CASE WHEN found IS NOT NULL THEN found ELSE (
        SELECT count(DISTINCT json_extract(item.value, '$[0]'))
        FROM pages, json_each(pages.items) AS item
        WHERE pages.interval_id = intervals.interval_id) END AS so_far,
    found IS NOT NULL AS counted, proven
FROM intervals LEFT JOIN taxonomy USING (taxonomy_id)
WHERE pass_id = ? AND part = 'whole'
    AND (state <> 'split' OR {oversize.IS_OVERSIZE.format("intervals")})
    AND NOT EXISTS (SELECT 1 FROM intervals AS above
        WHERE above.interval_id = intervals.parent AND {oversize.IS_OVERSIZE.format("above")})
ORDER BY intervals.taxonomy_id, coalesce(low, -1), coalesce(high, 1e18)
"""


def read_coverage(connection: sqlite3.Connection) -> Coverage | None:
    """The certificate of the newest pass; None where there was none."""
    newest = frontier.last_pass(connection)
    if newest is None:
        return None
    intervals = tuple(_interval(row) for row in connection.execute(_ROWS, (newest.pass_id,)))
    found = connection.execute(
        "SELECT count(*) FROM listings WHERE pass_id = ?", (newest.pass_id,)
    ).fetchone()[0]
    swept = get_meta(connection, frontier.SWEEP_SINCE) is None
    out_of_reach = sum(one.short for one in intervals if one.verdict == "partly out of reach")
    return Coverage(
        pass_id=newest.pass_id,
        started_at=newest.started_at,
        finished_at=newest.finished_at,
        complete=bool(newest.complete)
        and swept
        and all(one.verdict == "complete" for one in intervals),
        intervals=intervals,
        listings_found=found,
        listings_counted=sum(one.count or 0 for one in intervals),
        out_of_reach=out_of_reach,
        swept=swept,
    )


def _interval(row: sqlite3.Row) -> IntervalCoverage:
    short = max(0, (row["count"] or 0) - row["so_far"])
    lacking = short > 0 and row["state"] == "split" and not row["proven"]
    return IntervalCoverage(
        taxonomy_id=row["taxonomy_id"],
        taxonomy=row["name"],
        low=row["low"],
        high=row["high"],
        count=row["count"],
        found=row["so_far"],
        short=short,
        at=row["done_at"],
        verdict=_completeness(row["state"], lacking=lacking, counted=bool(row["counted"])),
        reason=row["reason"],
    )


def _completeness(state: str, *, lacking: bool, counted: bool) -> Completeness:
    if state == "failed":
        return "failed"
    if state == "pending" or not counted:
        return "not read yet"
    return "partly out of reach" if lacking else "complete"


def read_shops(
    connection: sqlite3.Connection, active_counts: dict[int, int | None]
) -> Iterator[ShopCoverage]:
    """Every known shop, most furniture first; `active_counts` is `listing_active_count` by shop."""
    rows = connection.execute(
        "SELECT shops.shop_id, count(listings.listing_id) AS furniture, synced_at, shops.reason"
        " FROM shops LEFT JOIN listings ON listings.shop_id = shops.shop_id"
        " AND listings.state = 'active' GROUP BY shops.shop_id ORDER BY furniture DESC"
    )
    for row in rows:
        yield ShopCoverage(
            shop_id=row["shop_id"],
            furniture=row["furniture"],
            listing_active_count=active_counts.get(row["shop_id"]),
            synced_at=row["synced_at"],
            reason=row["reason"],
        )
