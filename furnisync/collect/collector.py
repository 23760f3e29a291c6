"""Collects what is due, one call for each worker: shops and reviews in turns.

    due shops --> list pages --> ids staged --> full batches --> rows staged --> appended, by shop
                                                        (a shop that is missing: getShop)
    due reviews --> pages, newest first --> appended at once

Each worker gets the most useful call from `_next_call`, makes it and commits the answer. All
progress is in the history's file, so these classes hold only what is in flight.
"""

import asyncio
import logging
import math

from furnisync.collect.context import Call, Collected, Round
from furnisync.collect.inbox import Inbox
from furnisync.collect.review_sync import ReviewWalks
from furnisync.collect.shop_source import ShopSource
from furnisync.collect.shop_sync import ShopSyncs
from furnisync.history.fields import schema_drift

log = logging.getLogger("furnisync.collect")


class Collector:
    """Collects all due shops and reviews once, or until a time; make a new one for each round."""

    def __init__(self, this: Round, *, source: ShopSource, furniture_only: bool) -> None:
        """Make a collector; `source` is what image sync knows about shops."""
        self._round = this
        self._shops = ShopSyncs(this, source, furniture_only=furniture_only)
        self._reviews = ReviewWalks(this)
        self._inbox = Inbox(this)
        self._running = 0
        self._ended = 0
        self._until = math.inf
        self._choosing = asyncio.Lock()
        self._progress = asyncio.Condition()
        self.cut_short = False

    async def run(self, workers: int, until: float = math.inf) -> Collected:
        """Collect everything that is due.

        Args:
            workers: maximum of calls in flight.
            until: monotonic time after which no call starts; then `cut_short` is set.

        Raises:
            UserError: the key was refused.
        """
        self._until = until
        await self._inbox.take()
        await self._shops.take_up()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())
        this = self._round
        for change in await this.writer.run(
            schema_drift.record_drift, this.watch, this.selection, this.clock.now()
        ):
            log.warning("%s", change)
        return this.collected

    async def _work(self) -> None:
        while True:
            async with self._choosing:
                ended = self._ended
                call = await self._next_call()
                if call is not None:
                    self._running += 1
            if call is None:
                if not await self._wait_for_progress(ended):
                    return
                continue
            try:
                await call()
            finally:
                self._running -= 1
                self._ended += 1
                async with self._progress:
                    self._progress.notify_all()

    async def _wait_for_progress(self, ended: int) -> bool:
        """Wait until a call ends that was in flight when there was nothing to choose.

        Args:
            ended: number of calls that had ended at the time of the choice.

        Returns:
            False if none was in flight: then all is done.
        """
        async with self._progress:
            while self._ended == ended:
                if self._running == 0:
                    return False
                await self._progress.wait()
            return True

    async def _next_call(self) -> Call | None:
        """The most useful call now, None if all others wait for calls in flight."""
        if self._round.clock.monotonic() >= self._until:
            self.cut_short = True
            return None
        idle = self._running == 0
        await self._inbox.take_new()
        if self._shops_turn():
            return await self._shops.next_call(idle=idle) or await self._reviews.next_call()
        return await self._reviews.next_call() or await self._shops.next_call(idle=idle)

    def _shops_turn(self) -> bool:
        """Whether it is the shops' turn; reviews get their share of the calls while shops are due.

        Calls are counted, not turns: if image sync knows a shop's listings, starting and
        finishing it costs none.
        """
        share = self._round.settings.reviews_share_percent / 100
        calls = self._shops.calls + self._reviews.calls + 1
        return share < 1 and self._reviews.calls >= calls * share
