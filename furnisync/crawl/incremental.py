"""Incremental looks: listings created or changed since a time, newest first, down to known ones.

The progress is stored after each page, so that a killed look continues there.
"""

import logging
import sqlite3
from collections.abc import Collection
from typing import Literal

import msgspec

from furnisync.catalog import frontier, listings
from furnisync.catalog.frontier import SWEEP_SINCE
from furnisync.catalog.schema import get_meta, set_meta
from furnisync.clock import Clock
from furnisync.crawl.furniture_filter import FurnitureFilter
from furnisync.crawl.list_reader import as_listed
from furnisync.errors import Terminal, Transient
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.models import Listing, Page
from furnisync.limits import BELIEVED_AFTER, ETSY_PAGING, Paging
from furnisync.sqlite.writer import Writer

log = logging.getLogger("furnisync.discover")

INDEX_LAG_S = 600
"""A listing may enter the search index this long after it was created or changed."""
LOOKED_AT = "looked_at"
SWEEPS_MOST = 4

SortField = Literal["created", "updated"]
LookEnd = Literal["reached", "beyond", "failed"]
"""Known listings were reached; more are new than all queries show; a page failed."""


Place = tuple[int, int | None]
"""The next offset in a node's list, -1 if it is done, and the oldest time seen."""
NOWHERE: Place = (0, None)


class Look(msgspec.Struct):
    """The progress of a look.

    Attributes:
        until: listings before this are known, unix seconds.
        began: when it began, unix seconds.
        nodes: its place in the list of each taxonomy node.
    """

    until: int
    began: int
    nodes: dict[int, Place] = msgspec.field(default_factory=dict)


_look = msgspec.json.Decoder(Look)


class IncrementalReader:
    """Finds new listings without reading all listings."""

    def __init__(
        self,
        client: EtsyClient,
        writer: Writer,
        clock: Clock,
        furniture: FurnitureFilter,
        paging: Paging = ETSY_PAGING,
    ) -> None:
        """Make a reader of the nodes of the crawl plan."""
        self._client = client
        self._writer = writer
        self._clock = clock
        self._furniture = furniture
        self._paging = paging

    async def look(self) -> LookEnd:
        """Read the newest listings of each root down to those that the last look knew.

        If a page fails, the next look reads as far back as this one would have.
        """
        since = await self._writer.run(known_since)
        if since is None:
            return "reached"
        before = await self._writer.run(_count_listings)
        walk, outcome = await self._walk("created", since)
        if outcome != "failed":
            await self._writer.run(set_meta, LOOKED_AT, str(walk.began))
        found = await self._writer.run(_count_listings) - before
        log.info("%d new listings since the last look", found)
        return outcome

    async def sweep_changed(self) -> LookEnd:
        """After a pass over several intervals: read what changed while it ran.

        A listing whose price moved from an unread interval into one that had been read was in
        neither; it is among the changed ones. A listing that changes again between two pages
        of the look moves from the later to the earlier page: so the look runs twice, and again
        while it finds unknown listings.
        """
        stored = await self._writer.run(get_meta, SWEEP_SINCE)
        if stored is None:
            return "reached"
        since = int(stored)
        outcome: LookEnd = "reached"
        for again in range(SWEEPS_MOST):
            before = await self._writer.run(_count_listings)
            walk, outcome = await self._walk("updated", since)
            found = await self._writer.run(_count_listings) - before
            if outcome != "reached" or (again and not found):
                break
            since = walk.began
        if outcome == "beyond":
            log.warning(
                "more has changed during the pass than a look can read; a listing that changed"
                " its price meanwhile may be missing until the next pass"
            )
        if outcome != "failed":
            await self._writer.run(set_meta, SWEEP_SINCE, None)
        return outcome

    async def _walk(self, moment: SortField, since: int) -> tuple[Look, LookEnd]:
        """Continue the look of an earlier run, or begin one."""
        until, key = since - INDEX_LAG_S, f"walk_{moment}"
        saved = await self._writer.run(get_meta, key)
        walk = Look(until, int(self._clock.now()))
        if saved is not None and (left := _look.decode(saved)).until == until:
            walk = left
        outcomes = [await self._read_back(walk, moment, root) for root in self._furniture.roots]
        if "failed" in outcomes:
            return walk, "failed"
        await self._writer.run(set_meta, key, None)
        return walk, "beyond" if "beyond" in outcomes else "reached"

    async def _read_back(self, walk: Look, moment: SortField, node: int) -> LookEnd:
        """Read pages, newest first, down to the first one with known listings.

        If the reach ends before that, the child nodes are read instead: each shows as many.
        """
        behind: Collection[int] = ()
        while 0 <= (start := walk.nodes.get(node, NOWHERE)[0]) <= self._paging.offset_cap:
            page = await self._fetch(moment, node, start)
            if page is None:
                return "failed"
            place = walk.nodes.get(node, NOWHERE)
            walk.nodes[node] = self._further(page, moment, walk.until, place, behind)
            behind = {one.listing_id for one in page.items}
            await self._writer.run(self._record_page, page, moment, walk)
        if start < 0:
            return "reached"
        children = self._furniture.tree.children(node)
        outcomes = [await self._read_back(walk, moment, child) for child in children]
        if "failed" in outcomes:
            return "failed"
        return "reached" if outcomes and "beyond" not in outcomes else "beyond"

    async def _fetch(self, moment: SortField, node: int, start: int) -> Page[Listing] | None:
        """Fetch a page; one that is shorter than its count says is requested again."""
        for _ in range(BELIEVED_AFTER):
            try:
                page = await self._client.listings_active(
                    taxonomy_id=node, sort_on=moment, sort_order="desc", offset=start
                )
            except (Transient, Terminal) as error:
                log.warning("a look for new listings stopped at listing %d: %s", start, error)
                return None
            if self._is_whole(page, start):
                break
        return page

    def _record_page(
        self,
        connection: sqlite3.Connection,
        page: Page[Listing],
        moment: SortField,
        walk: Look,
    ) -> None:
        """One transaction: the listings of a page and the progress."""
        now = int(self._clock.now())
        furniture = self._furniture.of_search(connection, page.items, now)
        listings.add_listed(connection, [as_listed(one) for one in furniture], now)
        set_meta(connection, f"walk_{moment}", msgspec.json.encode(walk).decode())

    def _is_whole(self, page: Page[Listing], start: int) -> bool:
        full = page.sent >= self._paging.page_size
        return full or page.count is None or start + page.sent >= page.count

    def _further(
        self,
        page: Page[Listing],
        moment: SortField,
        until: int,
        place: Place,
        behind: Collection[int],
    ) -> Place:
        """Where to continue after a page: behind it, or before it if it may have come too far.

        That is possible if listings before it have ended, and it neither shares one with the page
        before (`behind`) nor has one that is younger than the oldest seen.
        """
        start, oldest = place
        times = [at for one in page.items if (at := getattr(one, moment)) is not None]
        joins = any(one.listing_id in behind for one in page.items)
        if start and oldest is not None and times and max(times) <= oldest and not joins:
            return max(0, start - self._paging.page_size // 2), oldest
        oldest = min((*times, *(() if oldest is None else (oldest,))), default=None)
        at_end = page.sent < self._paging.page_size and self._is_whole(page, start)
        if at_end or (times and min(times) < until):
            return -1, oldest
        return start + self._paging.stride, oldest


def known_since(connection: sqlite3.Connection) -> int | None:
    """Up to when new listings are known (unix seconds): the last look or complete pass."""
    looked_at = get_meta(connection, LOOKED_AT)
    done = frontier.last_complete_pass(connection)
    known = [int(looked_at)] if looked_at is not None else []
    if done is not None:
        known.append(done.started_at)
    return max(known, default=None)


def _count_listings(connection: sqlite3.Connection) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(value), 0) FROM counters WHERE name LIKE 'listings.%'"
    ).fetchone()
    return int(row[0])
