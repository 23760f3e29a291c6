"""Newest-first looks: what was created or changed since a time, read until known ground."""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Literal

from furnisync.catalog import crawl, listings
from furnisync.catalog.crawl import LIMIT, STRIDE
from furnisync.catalog.schema import get_meta, set_meta
from furnisync.clock import Clock
from furnisync.database import Writer
from furnisync.errors import Terminal, Transient, UserError
from furnisync.etsy.client import EtsyClient, SortOn
from furnisync.etsy.objects import Listing, Page
from furnisync.etsy.taxonomy import Tree
from furnisync.images.reading import as_listed
from furnisync.images.walk import OFFSET_CAP

log = logging.getLogger("furnisync.discover")

INDEX_LAG_S = 600
"""A listing may enter the search index this long after it was created or changed."""
LOOKED_AT = "looked_at"
SWEEP_SINCE = "sweep_since"
"""Set with the end of a pass over several intervals, until what changed meanwhile was read."""

Reached = Literal["known ground", "a broken page", "the end of what a query shows"]


class Looker:
    """Finds what is new without reading all of it."""

    def __init__(
        self, client: EtsyClient, writer: Writer, clock: Clock, tree: Tree, roots: Sequence[int]
    ) -> None:
        """Make a looker over the nodes `roots` of the taxonomy."""
        self._client = client
        self._writer = writer
        self._clock = clock
        self._tree = tree
        self._roots = roots

    async def look(self) -> int:
        """Read the newest listings of each root until those that the last look already knew.

        Where a page fails, or more is new than a query shows, the next look reaches back as far as
        this one would have, and the log says so.

        Returns:
            how many listings were not known before.
        """
        began = int(self._clock.now())
        since = await self._writer.run(known_since)
        if since is None:
            return 0
        before = await self._writer.run(_count_listings)
        reached = [
            await self._read_back(root, "created", since - INDEX_LAG_S) for root in self._roots
        ]
        if all(end == "known ground" for end in reached):
            await self._writer.run(set_meta, LOOKED_AT, str(began))
        return await self._writer.run(_count_listings) - before

    async def sweep_changed(self) -> bool:
        """After a pass over several intervals: read what changed while it ran.

        A listing whose price moved from an interval that was still to be read into one that had
        been read was in neither; it is among the changed.

        Returns:
            False where a page failed: the sweep is still to be done.
        """
        told = await self._writer.run(get_meta, SWEEP_SINCE)
        if told is None:
            return True
        for root in self._roots:
            end = await self._read_back(root, "updated", int(told) - INDEX_LAG_S)
            if end == "a broken page":
                return False
            if end != "known ground":
                log.warning(
                    "taxonomy %d: not all that changed during the pass could be looked at;"
                    " a listing that was new and changed its price meanwhile may be missing until"
                    " the next pass",
                    root,
                )
        await self._writer.run(set_meta, SWEEP_SINCE, None)
        return True

    async def _read_back(self, root: int, sort_on: SortOn, until: int) -> Reached:
        """Read pages, newest first, to the first that reaches back to `until`.

        Where the reach ends before that, the child nodes are read instead: each shows as many.
        """
        moment: Callable[[Listing], int | None] = (
            (lambda one: one.created) if sort_on == "created" else (lambda one: one.updated)
        )
        for start in range(0, OFFSET_CAP + 1, STRIDE):
            try:
                page = await self._client.listings_active(
                    taxonomy_id=root, sort_on=sort_on, sort_order="desc", offset=start
                )
            except UserError:
                raise
            except (Transient, Terminal) as error:
                log.warning("a look at what is new broke off at listing %d: %s", start, error)
                return "a broken page"
            await self._writer.run(self._commit, page)
            times = [at for at in map(moment, page.items) if at is not None]
            if page.sent < LIMIT or (times and min(times) < until):
                return "known ground"
        reached = [
            await self._read_back(child, sort_on, until) for child in self._tree.children(root)
        ]
        if "a broken page" in reached:
            return "a broken page"
        if set(reached) == {"known ground"}:
            return "known ground"
        return "the end of what a query shows"

    def _commit(self, connection: sqlite3.Connection, page: Page[Listing]) -> None:
        listings.add_listed(
            connection, [as_listed(one) for one in page.items], int(self._clock.now())
        )


def known_since(connection: sqlite3.Connection) -> int | None:
    """Up to when new listings are known (unix seconds): the last look or complete pass."""
    looked_at = get_meta(connection, LOOKED_AT)
    done = crawl.last_complete_pass(connection)
    known = [int(looked_at)] if looked_at is not None else []
    if done is not None:
        known.append(done.started_at)
    return max(known, default=None)


def _count_listings(connection: sqlite3.Connection) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(value), 0) FROM counters WHERE name LIKE 'listings.%'"
    ).fetchone()
    return int(row[0])
