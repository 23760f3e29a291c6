"""`retention_days`: what a sync purges by itself, once a day, through its own writer.

A listing is deleted only if a complete pass since has not seen it either: it may not have been read
yet.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from furnisync.catalog import purge as catalog_rows
from furnisync.clock import DAY_S
from furnisync.config import HomeFiles
from furnisync.errors import NotHere, Terminal, Transient, UserError
from furnisync.history import purge as history_rows
from furnisync.ops.purge.pages import Run, drop_staged, purge_listings, purge_rows
from furnisync.quota.clock_check import ClockCheck
from furnisync.sqlite.database import overwrite_free_pages
from furnisync.sqlite.writer import Writer

T = TypeVar("T")

log = logging.getLogger("furnisync")


class Retention:
    """Purges by age while a sync runs, in small transactions."""

    def __init__(self, files: HomeFiles, days: float) -> None:
        """Create it for a run; 0 `days` keep everything."""
        self._files = files
        self._days = days
        self._done_mono = float("-inf")

    async def _before(self, clock: ClockCheck) -> int | None:
        """The time before which data is too old (unix seconds); None if there is nothing to do now.

        A clock that is years ahead makes everything old, so it must be known to be right.
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
            log.warning("retention_days: nothing is purged: no answer has a Date to compare with")
            return None
        return int(now - self._days * DAY_S)

    async def purge_catalog(self, writer: Writer, clock: ClockCheck) -> None:
        """For image sync: delete listings with their images and files."""
        before = await self._before(clock)
        if before is None:
            return
        before = min(before, await writer.run(catalog_rows.last_complete_start))
        reach = catalog_rows.Reach("age", before, resting=True)
        listings = 0
        try:
            async for gone in _in_threads(purge_listings(_by(writer), self._files, reach, before)):
                listings = gone.listings
        except NotHere as error:
            log.warning("retention_days: nothing is purged: %s", error)
            self._done_mono = float("-inf")  # again in the next round
        if listings:
            await _overwrite_deleted(writer)
            log.info(
                "retention_days: %d listings and their images purged, not shown for %g days",
                listings,
                self._days,
            )

    async def purge_history(self, writer: Writer, clock: ClockCheck) -> None:
        """For data sync: delete rows of the history."""
        before = await self._before(clock)
        if before is None:
            return
        reach = history_rows.Reach("age", (before,))
        await writer.run(drop_staged, reach)
        rows = 0
        async for _, number in _in_threads(purge_rows(_by(writer), reach)):
            rows += number
        if rows:
            await _overwrite_deleted(writer)
            log.info("retention_days: %d rows older than %g days purged", rows, self._days)


def _by(writer: Writer) -> Run:
    """Run work by a writer and wait for it; for use in threads."""
    return lambda work, *args: writer.submit(work, *args).result()


async def _in_threads(pages: Iterator[T]) -> AsyncIterator[T]:
    """Take each step in a thread; a cancelled run ends after the step that it is in."""
    while (page := await asyncio.to_thread(next, pages, None)) is not None:
        yield page


async def _overwrite_deleted(writer: Writer) -> None:
    while await writer.run(overwrite_free_pages):
        pass
