"""(A), (B): reads all furniture listings of known shops that are due."""

import asyncio
import logging
import sqlite3

from furnisync.catalog import frontier, listings, shops
from furnisync.catalog.frontier import Bounds, Interval
from furnisync.clock import Clock
from furnisync.crawl.list_reader import ListReader
from furnisync.errors import NotFound
from furnisync.sqlite.writer import Writer

log = logging.getLogger("furnisync.discover")

SHOPS_AT_ONCE = 32
WHOLE_LIST: list[Bounds] = [(None, None, None)]


class ShopReader:
    """Reads the lists of shops; a shop with a missing page stays due, with the reason."""

    def __init__(self, reader: ListReader, writer: Writer, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self.failed = 0
        """Shops that could not be read completely in this run."""

    async def read_due(self, before: float) -> None:
        """Read every shop that was last synced before that time (unix seconds), or never."""
        last_id = 0
        while True:
            shop_ids = await self._writer.run(shops.due_shops, int(before), last_id, SHOPS_AT_ONCE)
            if not shop_ids:
                return
            await asyncio.gather(*map(self._read_shop, shop_ids))
            last_id = shop_ids[-1]

    async def _read_shop(self, shop_id: int) -> None:
        began = int(self._clock.now())
        try:
            reason = await self._read_lists(shop_id)
        except NotFound:
            await self._writer.run(self._end, shop_id, began, "gone (404)")
            return
        if reason is None:
            await self._writer.run(self._end, shop_id, began, None)
        else:
            self.failed += 1
            log.warning("shop %d could not be read completely: %s", shop_id, reason)
            await self._writer.run(shops.mark_shop_synced, shop_id, None, reason)

    async def _read_lists(self, shop_id: int) -> str | None:
        """Read the shop's list, in two parts if it exceeds the reach; returns why it failed."""
        for interval in await self._writer.run(frontier.begin_shop, shop_id):
            reading = await self._reader.read(interval)
            if reading.ended == "over_reach":
                await self._writer.run(self._split, interval)
                return await self._read_lists(shop_id)
            if reading.ended == "failed":
                return reading.reason or "unknown"
        return None

    def _split(self, connection: sqlite3.Connection, interval: Interval) -> None:
        reason = "more listings than a query shows, read from both ends"
        frontier.split_interval(connection, interval, WHOLE_LIST, "oldest", reason)
        frontier.split_interval(connection, interval, WHOLE_LIST, "newest", reason)

    def _end(
        self, connection: sqlite3.Connection, shop_id: int, began: int, reason: str | None
    ) -> None:
        """The shop was read completely, or is gone; its missing listings are requested by batch."""
        frontier.end_shop(connection, shop_id)
        shops.mark_shop_synced(connection, shop_id, began, reason)
        listings.want_unlisted(connection, shop_id, began, int(self._clock.now()))
