"""Serves what is due, each worker a call: whole shops and reviews by turns.

    due shops --> list pages --> ids staged --> full batches --> rows staged --> appended, by shop
                                                        (a shop that did not come: getShop)
    due reviews --> pages, newest first --> appended at once

Each worker asks `_next_call` what is worth the next call, does it and commits what it brought. All
progress is in the history's file, so these classes remember only what is in hand right now.
"""

import asyncio
import logging
import math

from furnisync.collect.context import Call, Collected, Round
from furnisync.collect.review_sync import ReviewWalks
from furnisync.collect.shop_source import ShopSource
from furnisync.collect.shop_sync import ShopSyncs
from furnisync.history import schema_drift

log = logging.getLogger("furnisync.collect")


class Collector:
    """Serves all due shops and reviews once, or for `until`; make a new one for each round."""

    def __init__(self, this: Round, *, source: ShopSource, furniture_only: bool) -> None:
        """Make a collector; `source` tells what image sync knows of a shop."""
        self._round = this
        self._shops = ShopSyncs(this, source, furniture_only=furniture_only)
        self._reviews = ReviewWalks(this)
        self._running = 0
        self._ended = 0
        self._until = math.inf
        self._choosing = asyncio.Lock()
        self._progress = asyncio.Condition()
        self.cut_short = False

    async def run(self, workers: int, until: float = math.inf) -> Collected:
        """Serve everything that is due.

        Args:
            workers: so many calls are in flight at most.
            until: on the monotonic clock: no call is begun after it; `cut_short` tells.

        Raises:
            UserError: the key was refused.
        """
        self._until = until
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
        """Wait until a call ends that ran when there was nothing to choose.

        Args:
            ended: how many calls had ended when the choice was made.

        Returns:
            False where none ran: then all is done.
        """
        async with self._progress:
            while self._ended == ended:
                if self._running == 0:
                    return False
                await self._progress.wait()
            return True

    async def _next_call(self) -> Call | None:
        """The most worthwhile call now, None where each waits for what is in flight."""
        if self._round.clock.monotonic() >= self._until:
            self.cut_short = True
            return None
        idle = self._running == 0
        if self._shops_turn():
            return await self._shops.next_call(idle=idle) or await self._reviews.next_call()
        return await self._reviews.next_call() or await self._shops.next_call(idle=idle)

    def _shops_turn(self) -> bool:
        """Reviews get their share of the calls while shops are waiting too.

        Calls are counted, not turns: where image sync knows a shop's listings, to begin and to
        finish it costs none.
        """
        share = self._round.settings.reviews_share_percent / 100
        calls = self._shops.calls + self._reviews.calls + 1
        return share < 1 and self._reviews.calls >= calls * share
