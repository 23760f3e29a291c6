"""Takes what image sync's batch answers hold, before calls of our own are chosen."""

import asyncio
import logging
import math

from furnisync.collect.context import Round
from furnisync.errors import Terminal, Transient
from furnisync.etsy.credibility import with_fields
from furnisync.history.outbox_rows import take_answer
from furnisync.outbox import load_cursor, read_answers

log = logging.getLogger("furnisync.collect")

TAKE_EVERY_S = 5.0
TAKE_AT_ONCE = 50


class Inbox:
    """Image sync's outbox, read by the history's cursor."""

    def __init__(self, this: Round) -> None:
        self._round = this
        self._taken_mono = -math.inf

    async def take_new(self) -> None:
        """Take what is new, now and then."""
        if self._round.clock.monotonic() - self._taken_mono >= TAKE_EVERY_S:
            await self.take()

    async def take(self) -> None:
        """Take all that is there."""
        this = self._round
        self._taken_mono = this.clock.monotonic()
        rows = 0
        while True:
            after = await this.writer.run(load_cursor)
            answers = await asyncio.to_thread(read_answers, this.inbox, after, TAKE_AT_ONCE)
            if not answers:
                break
            try:
                now_s = await this.now()
            except (Transient, Terminal):
                return  # with a clock that may be wrong nothing is written
            for answer in answers:
                listings = answer.objects()
                this.look(listings)
                rows += await this.writer.run(
                    take_answer,
                    this.selection,
                    answer,
                    with_fields(listings),
                    now_s=now_s,
                    static_days=this.settings.static_days,
                )
        if rows:
            this.collected.listings += rows
            log.info("%s listings came with the answers to image sync", f"{rows:,}")
