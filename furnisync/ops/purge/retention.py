"""`retention_days`: what a run purges by itself, once a day, through its own writer.

A listing goes only if a complete pass since has not seen it either: what was merely not looked at
yet is not old.
"""

import asyncio
import logging
import sqlite3
import time

from furnisync.catalog import purge as catalog_rows
from furnisync.catalog.image_folder import why_away
from furnisync.clock import DAY_S
from furnisync.config import HomeFiles
from furnisync.errors import Terminal, Transient, UserError
from furnisync.history import purge as history_rows
from furnisync.history.staging import drop_sync
from furnisync.ops.purge.purge import FIRST, remove_files
from furnisync.quota.clock_check import ClockCheck
from furnisync.sqlite import Writer, overwrite_free_pages
from furnisync.store.folder import FolderStore

log = logging.getLogger("furnisync")


class Retention:
    """Purges by age while a sync runs, in small transactions."""

    def __init__(self, files: HomeFiles, days: float) -> None:
        """Make it for a run; `days` 0 keeps everything."""
        self._files = files
        self._days = days
        self._done_mono = float("-inf")

    async def _before(self, clock: ClockCheck) -> int | None:
        """The time before which things are too old; None where nothing is to be done now.

        A clock that is years ahead makes everything old: only one that is known to agree counts.
        """
        if not self._days or time.monotonic() - self._done_mono < DAY_S:
            return None
        try:
            now = await clock.trusted_now()
        except UserError:
            raise
        except (Transient, Terminal) as error:
            log.warning("retention_days: nothing is purged before Etsy answers: %s", error)
            return None
        self._done_mono = time.monotonic()
        if not clock.is_known_right:
            log.warning("retention_days: nothing is purged: no answer bears a Date to compare with")
            return None
        return int(now - self._days * DAY_S)

    async def purge_catalog(self, writer: Writer, clock: ClockCheck) -> None:
        """For image sync: listings with their images and files."""
        before = await self._before(clock)
        if before is None:
            return
        before = min(before, await writer.run(catalog_rows.last_complete_start))
        reach = catalog_rows.Reach("age", before, resting=True)
        store = FolderStore(self._files.images)
        if await self._is_away(writer):
            return
        listings, after = 0, FIRST
        while ids := await writer.run(catalog_rows.listings_page, reach, after):
            images = await writer.run(catalog_rows.images_of, ids)
            await asyncio.to_thread(remove_files, store, images)
            if await self._is_away(writer):
                return
            listings += await writer.run(catalog_rows.delete_listings, ids)
            after = ids[-1]
        if listings:
            await _forget_for_good(writer)
            log.info(
                "retention_days: %d listings and their images purged, not shown for %g days",
                listings,
                self._days,
            )

    async def _is_away(self, writer: Writer) -> bool:
        """Whether the image folder is away: rows are forgotten only together with their files."""
        why = await writer.run(why_away, self._files)
        if why is not None:
            log.warning("retention_days: nothing is purged: %s", why)
            self._done_mono = float("-inf")  # again in the next round
        return why is not None

    async def purge_history(self, writer: Writer, clock: ClockCheck) -> None:
        """For data sync: rows of the history."""
        before = await self._before(clock)
        if before is None:
            return
        reach = history_rows.Reach("age", (before,))

        def drop_old(connection: sqlite3.Connection) -> None:
            for sync_id in history_rows.open_syncs_of(connection, reach):
                drop_sync(connection, sync_id)

        await writer.run(drop_old)
        rows = 0
        for part in history_rows.parts_of(reach):
            after: int | None = FIRST
            while after is not None:
                number, after = await writer.run(history_rows.delete_page, reach, part, after)
                rows += number
        if rows:
            await _forget_for_good(writer)
            log.info("retention_days: %d rows older than %g days purged", rows, self._days)


async def _forget_for_good(writer: Writer) -> None:
    while await writer.run(overwrite_free_pages):
        pass
