"""Reads one list completely: fetches pages as `paging` says and commits each with its rows."""

import asyncio
import logging
import math
import sqlite3
from collections.abc import Hashable
from typing import Literal

import msgspec

from furnisync.catalog import frontier, listings
from furnisync.catalog.frontier import Interval, PageRow
from furnisync.catalog.listings import Listed
from furnisync.clock import Clock
from furnisync.crawl.furniture_filter import FurnitureFilter
from furnisync.crawl.paging import counted_length, next_of_order, next_reads, observed_paging
from furnisync.errors import NotFound, Terminal, Transient
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.group_search import MEMBER_FAULTS
from furnisync.etsy.models import Listing, Page
from furnisync.etsy.page_search import read_around
from furnisync.limits import ETSY_PAGING
from furnisync.sqlite.writer import Writer

log = logging.getLogger("furnisync.discover")

ENOUGH_PRICES = 10
"""So many in a page show whether the search applied its price filter."""

Ended = Literal["complete", "over_reach", "failed"]


class Reading(msgspec.Struct, frozen=True):
    """The result of reading a list.

    Attributes:
        count: number of its listings by Etsy; the maximum of all pages, unless the
            list was read completely.
        prices: of listings seen, if the list exceeds the reach.
    """

    ended: Ended
    reason: str | None = None
    count: int | None = None
    prices: tuple[float, ...] = ()


class ListReader:
    """Reads price intervals and shop lists; continues a list that an earlier run began."""

    def __init__(
        self,
        client: EtsyClient,
        writer: Writer,
        clock: Clock,
        furniture: FurnitureFilter,
        pages_at_once: int,
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._furniture = furniture
        self._slots = asyncio.Semaphore(pages_at_once)
        self.arrived = asyncio.Event()
        """Set whenever a page was committed, for tasks that wait for new listings."""

    async def read(self, interval: Interval) -> Reading:
        """Read a list until every page arrived or failed finally.

        Raises:
            UserError: the key was refused.
            NotFound: the shop no longer exists.
        """
        prices: list[float] = []
        ground = await self._writer.run(frontier.load_ground, interval)
        while True:
            pages = await self._writer.run(frontier.load_pages, interval.interval_id)
            decision = (
                next_reads(pages, interval.part, ground, observed_paging(pages))
                if interval.sort_on == "created"
                else next_of_order(pages)
            )
            count = max((page.count for page in pages if page.count is not None), default=None)
            if decision.complete:
                return Reading("complete", count=counted_length(pages))
            if decision.over_reach:
                return Reading("over_reach", count=count, prices=tuple(prices))
            if decision.stuck:
                await self._writer.run(frontier.forget_pages, interval.interval_id)
                return Reading("failed", decision.stuck, count)
            wave = 1 + max((page.wave for page in pages), default=0)
            reads = await asyncio.gather(
                *(self._read_page(interval, start, wave, prices) for start in decision.starts)
            )
            reasons = [reason for reason in reads if reason]
            if reasons:
                return Reading("failed", f"{len(reasons)} pages: {reasons[0]}", count)

    async def read_first(self, interval: Interval) -> Reading:
        """Read a list's first page unless it is stored; returns whether the list is in reach.

        Raises:
            UserError: the key was refused.
        """
        prices: list[float] = []
        pages = await self._writer.run(frontier.load_pages, interval.interval_id)
        reason = None
        if not pages:
            reason = await self._read_page(interval, 0, 1, prices)
            pages = await self._writer.run(frontier.load_pages, interval.interval_id)
        count = max((page.count for page in pages if page.count is not None), default=None)
        if next_reads(pages, interval.part).over_reach:
            return Reading("over_reach", count=count, prices=tuple(prices))
        return Reading("failed" if reason else "complete", reason, count)

    async def _read_page(
        self, interval: Interval, start: int, wave: int, prices: list[float]
    ) -> str | None:
        """Fetch and commit one page; returns the reason if it failed."""
        async with self._slots:
            try:
                page = await self._fetch_somehow(interval, start)
            except NotFound:
                raise
            except (Transient, Terminal) as error:
                return str(error)
            if _ignores_prices(page, interval):
                return "Etsy's search ignores its price filter"
            prices += [one.price_usd for one in page.items if one.price_usd is not None]
            await self._writer.run(self._record_page, interval, start, wave, page)
            self.arrived.set()
            if page.broken:
                log.warning(
                    "%d results of a page could not be read: %s", len(page.broken), page.broken[0]
                )
            return None

    async def _fetch_somehow(self, interval: Interval, start: int) -> Page[Listing]:
        """Fetch a page; one that always fails is read around the results that make it fail."""
        size = ETSY_PAGING.page_size
        try:
            return await self._fetch(interval, start, size)
        except MEMBER_FAULTS:
            if self._client.upstreams.outages:
                raise
            item = (interval.interval_id, start)
            parts, missing = await read_around(
                start, size, lambda offset, limit: self._fetch(interval, offset, limit, item)
            )
        counts = [part.count for part in parts if part.count is not None]
        items = [one for part in parts for one in part.items]
        broken = [*missing, *(one for part in parts for one in part.broken)]
        sent = len(missing) + sum(part.sent for part in parts)
        return Page(max(counts, default=None), items, broken, sent)

    async def _fetch(
        self, interval: Interval, start: int, limit: int, part_of: Hashable = None
    ) -> Page[Listing]:
        if interval.shop_id is not None:
            return await self._client.shop_listings_active(
                interval.shop_id,
                offset=start,
                limit=limit,
                sort_order="desc" if interval.part == "newest" else "asc",
                part_of=part_of,
            )
        return await self._client.listings_active(
            taxonomy_id=interval.taxonomy_id,
            prices=(interval.low, interval.high),
            sort_on=interval.sort_on,
            sort_order="desc" if interval.part == "newest" else "asc",
            offset=start,
            limit=limit,
            part_of=part_of,
        )

    def _record_page(
        self,
        connection: sqlite3.Connection,
        interval: Interval,
        start: int,
        wave: int,
        page: Page[Listing],
    ) -> None:
        """One transaction: the listings of a page and the progress."""
        now = int(self._clock.now())
        items = tuple((one.listing_id, one.created) for one in page.items)
        row = PageRow(start, page.sent, page.count, items, wave=wave)
        frontier.save_page(connection, interval.interval_id, row, now)
        if interval.shop_id is not None:
            wanted = self._furniture.of_shop(page.items)
        else:
            wanted = self._furniture.of_search(connection, page.items, now)
        listings.add_listed(connection, [as_listed(one) for one in wanted], now, interval.pass_id)


def _ignores_prices(page: Page[Listing], interval: Interval) -> bool:
    """Whether most listings cost less or more than what was searched, and not by a rounding."""
    low, high = 0.99 * (interval.low or 0.0), 1.01 * (interval.high or math.inf)
    prices = [one.price_usd for one in page.items if one.price_usd is not None]
    outside = sum(not low <= price <= high for price in prices)
    return len(prices) >= ENOUGH_PRICES and outside > len(prices) / 2


def as_listed(listing: Listing) -> Listed:
    """The fields of a listing in a list that the catalog stores."""
    return Listed(
        listing.listing_id,
        listing.shop_id,
        listing.taxonomy_id,
        listing.price_usd,
        listing.created,
    )
