"""The stages of image sync side by side: rounds of discovery, the download worker, the reporter.

They run until the work is done, one breaks, or the run is told to stop.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from furnisync.catalog import image_queue
from furnisync.catalog.clock_repair import repair_times, times_ahead
from furnisync.clock import Clock
from furnisync.crawl.discovery import Discovery
from furnisync.errors import GaveUp, Terminal, Transient, UpstreamDown, UserError
from furnisync.etsy.client import EtsyClient
from furnisync.images.folder_gate import FolderGate
from furnisync.images.recheck import recheck_recent
from furnisync.images.worker import DownloadWorker
from furnisync.quota.clock_check import ClockCheck
from furnisync.sqlite.writer import Writer

__all__ = ["Stages", "Upkeep"]

log = logging.getLogger("furnisync.images")

Upkeep = Callable[[Writer, ClockCheck], Awaitable[None]]

RETRY_ROUND_S = 600.0
"""Slow mode tries again after this what a round could not do."""
WAIT_FOR_IMAGES_S = 60
"""A run that ends waits for retries of images that are due this soon, not for later ones."""
STOP_CALLS_S = 4.0


@dataclass(frozen=True)
class Stages:
    """What works together in one run of image sync.

    Attributes:
        writer: of the catalog.
        clock: of this machine; the client's is compared with Etsy's.
        refresh_s: seconds after which batch reads a listing again.
        ends: the run ends when its work is done.
        restricted: the run is restricted to `run_scope`.
        cdn_patience_s: how long a run waits for an image server that is broken.
        upkeep: runs before each round.
        stopping: is set when the run is told to stop.
    """

    writer: Writer
    client: EtsyClient
    discovery: Discovery
    gate: FolderGate
    worker: DownloadWorker
    clock: Clock
    refresh_s: int
    ends: bool
    restricted: bool
    cdn_patience_s: float
    upkeep: Upkeep | None
    stopping: asyncio.Event

    async def run(self, report: Callable[[], Awaitable[None]], *, clean: bool) -> bool:
        """Run the stages until the work is done, one breaks, or the run is told to stop.

        Args:
            report: the reporter, which runs until it is cancelled.
            clean: the last run ended cleanly, so that no files need a check.

        Returns:
            whether all work was done.

        Raises:
            UserError: it will not pass by itself.
        """
        begin = asyncio.create_task(self._begin_downloads(clean=clean))
        work = asyncio.create_task(self._run_rounds(begin))
        reporting = asyncio.ensure_future(report())
        stop = asyncio.create_task(self.stopping.wait())
        lag = asyncio.create_task(self.worker.lag.watch())
        tasks = (work, reporting, stop, begin, lag)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if done == {begin}:
                begin.result()
                await asyncio.wait((work, reporting, stop), return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                self.worker.stop()
                await self.client.drain(STOP_CALLS_S)
                return False
            if reporting.done():
                reporting.result()
            return work.result()
        except GaveUp as error:
            log.error("%s", error)  # noqa: TRY400 -- not the code
            return False
        finally:
            self.writer.hurry()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.worker.stop()
            if self.worker.is_alive():
                await asyncio.to_thread(self.worker.join)

    def _next_image_due(self, connection: sqlite3.Connection) -> int | None:
        return image_queue.next_image_due(connection, restricted=self.restricted)

    async def _begin_downloads(self, *, clean: bool) -> None:
        if not clean:
            gate, stopping = self.gate, self.stopping
            await asyncio.to_thread(
                recheck_recent, self.writer, gate.store, self.clock, gate.is_here, stopping.is_set
            )
        self.worker.start()

    async def _run_rounds(self, begin: asyncio.Task[None]) -> bool:
        while True:
            if self.upkeep is not None:
                await self.upkeep(self.writer, self.client.clock)
            await self._repair_times()
            complete = await self._run_round()
            if self.ends:
                await begin
                return await self._wait_for_images() and complete
            pause_s = await self.discovery.seconds_to_next() if complete else RETRY_ROUND_S
            await asyncio.sleep(pause_s)

    async def _repair_times(self) -> None:
        """Repair times that a clock wrote while it was ahead; wait where ours is behind now."""
        if not await self.writer.run(times_ahead, int(self.clock.now()), self.refresh_s):
            return
        try:
            now = await self.client.clock.trusted_now()
        except UserError:
            raise
        except (Transient, Terminal) as error:
            log.warning("times ahead of now are not repaired yet: %s", error)
            return
        if await self.writer.run(times_ahead, int(now), self.refresh_s):
            log.warning("the catalog had times ahead of now, which a wrong clock wrote: repaired")
            await self.writer.run(repair_times, int(now), self.refresh_s)

    async def _run_round(self) -> bool:
        """One round; a failure that may pass fails only this round.

        Raises:
            UserError: it will not pass by itself.
        """
        try:
            return await self.discovery.run_round()
        except BaseExceptionGroup as errors:
            error = _most_serious(errors)
            if not isinstance(error, Transient | Terminal | UpstreamDown):
                raise error from None
            log.error("this round could not be finished: %s", error)  # noqa: TRY400 -- not the code
            return False

    async def _wait_for_images(self) -> bool:
        """Wait until every image that is due, or will be within a minute, was tried.

        Returns:
            whether all were; False where the image folder is away.
        """
        self.discovery.doing = "downloading the last images"
        self.worker.wake()
        while self.worker.error is None:
            due = await self.writer.run(self._next_image_due)
            pause = self.worker.paused
            if pause is not None and pause.kind == "away" and not self.worker.busy:
                log.error("the run does not wait for the image folder: %s", pause.reason)
                return False
            if not self.worker.busy and (due is None or due > self.clock.now() + WAIT_FOR_IMAGES_S):
                return True
            outage = self.worker.outage
            if outage is not None and self.worker.outage_lasts_s >= self.cdn_patience_s:
                log.error("the run ends as %s is still broken: %s", outage.upstream, outage.reason)
                return False
            await asyncio.sleep(0.1)
        raise self.worker.error


def _most_serious(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group to act on: one that only the user can repair before all others."""
    serious = errors.subgroup(UserError) or errors.subgroup(GaveUp) or errors
    first = serious.exceptions[0]
    return _most_serious(first) if isinstance(first, BaseExceptionGroup) else first
