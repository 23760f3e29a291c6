"""Whose turn it is: shops and reviews share the calls as the settings say, from the first on."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from furnisync.clock import SystemClock
from furnisync.collect.collector import Collector
from furnisync.collect.context import Round
from furnisync.collect.shop_source import ShopSource
from furnisync.config import DataSettings, HomeFiles
from furnisync.history import schedule
from furnisync.history.fields.schema_drift import FieldWatch
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history
from furnisync.outbox import Outbox
from furnisync.sqlite.writer import Writer

WORKERS = 20


class SilentEtsy:
    """Notes what is asked and never answers."""

    def __init__(self):
        self.asked = Counter()
        self.clock = self  # the client's check of our clock, which agrees

    async def trusted_now(self):
        return SystemClock().now()

    async def shop_listings_active(self, *_, **__):
        await self._hang("shops")

    async def shop_reviews(self, *_, **__):
        await self._hang("reviews")

    async def _hang(self, kind):
        self.asked[kind] += 1
        await asyncio.Event().wait()


async def first_calls(folder, share):
    """What so many workers ask at once, where shops and reviews both wait."""
    files, clock, etsy, selection = HomeFiles(folder), SystemClock(), SilentEtsy(), Selection.of()
    history = open_history(files.history, selection)
    schedule.register_shops(history, ((shop_id, 3) for shop_id in range(1, 201)))
    history.execute("UPDATE sync_state SET status = 'ok', last_sync = 1")
    writer = Writer(history, "history")
    outbox = Outbox(files.outbox("data"), files.catalog)
    this = Round(
        etsy, writer, clock, DataSettings(reviews_share_percent=share), selection,
        top=None, watch=FieldWatch(), outbox=outbox, inbox=files.outbox("images"),
    )  # fmt: skip
    collector = Collector(this, source=ShopSource(files), furniture_only=False)
    work = asyncio.create_task(collector.run(WORKERS))
    while etsy.asked.total() < WORKERS:
        assert not work.done(), work
        await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    writer.close()
    outbox.close()
    return etsy.asked


@pytest.mark.parametrize(("share", "reviews"), [(30.0, 6), (0.0, 0), (100.0, 20), (50.0, 10)])
def test_calls_that_are_chosen_at_once_keep_the_shares(tmp_path, share, reviews):
    """A run that is stopped after a few calls, each time anew, would else read reviews only."""
    asked = asyncio.run(first_calls(tmp_path, share))
    assert abs(asked["reviews"] - reviews) <= 1, asked
