"""Batch calls: 100 listings of any shops at once, with all their images."""

import asyncio
import logging
import math
import sqlite3
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path

from furnisync.catalog import image_queue, listings
from furnisync.catalog.image_queue import Shown, Which
from furnisync.catalog.listings import Batched, ImageRow
from furnisync.clock import DAY_S, Clock
from furnisync.config import Settings
from furnisync.errors import NotFound, Terminal, Transient
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.excerpts import as_answer, listings_without_images
from furnisync.etsy.group_search import MEMBER_FAULTS, SearchResult, search_group
from furnisync.etsy.models import (
    ACTIVE,
    Image,
    Listing,
    Page,
    decode_page,
)
from furnisync.limits import ETSY_PAGING
from furnisync.outbox import Answer, Outbox, load_cursor, read_answers, save_cursor
from furnisync.sqlite.writer import Writer

log = logging.getLogger("furnisync.discover")

RETRY_S = 3600
"""Listings of a batch call that failed finally wait this long."""
BATCHES_AT_ONCE = 16
TAKE_EVERY_S = 5.0
TAKE_MOST = 50


class BatchReader:
    """Requests all listings that are due in the catalog, in full batches while more are coming."""

    def __init__(
        self,
        client: EtsyClient,
        writer: Writer,
        clock: Clock,
        settings: Settings,
        inbox: Path,
        *,
        restricted: bool = False,
    ) -> None:
        """Make a reader; `inbox` is data sync's outbox."""
        self._client = client
        self._writer = writer
        self._clock = clock
        self._size = settings.images.size
        self._which: Which = settings.images.which
        self._refresh_s = settings.crawl.refresh_days * DAY_S
        self._inbox = inbox
        self._taken_mono = -math.inf
        self._claim = partial(listings.claim_batch, restricted=restricted)
        self._in_flight: set[int] = set()
        self.outbox: Outbox | None = None
        """Where answers are left for data sync."""
        self.failed = 0
        """Listings whose batch call failed, or returned nothing useful, in this run."""

    async def pump(self, arrived: asyncio.Event, finished: asyncio.Event) -> None:
        """Request everything that is due until nothing is and `finished` is set.

        Args:
            arrived: set by readers when new listings were committed.
            finished: set once no more will come, so that a batch need not be full.

        Raises:
            UserError: the key was refused.
        """
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                arrived.clear()
                last_round = finished.is_set()
                await self._start_due(running, also_partial=last_round)
                if not running and last_round:
                    return
                events = (arrived,) if last_round else (arrived, finished)
                running = await _first_of(running, events)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _take_answers(self) -> None:
        """Record what data sync's answers say of listings that we know: that costs no call."""
        now_mono = self._clock.monotonic()
        if now_mono - self._taken_mono < TAKE_EVERY_S:
            return
        self._taken_mono = now_mono
        while True:
            after = await self._writer.run(load_cursor)
            answers = await asyncio.to_thread(read_answers, self._inbox, after, TAKE_MOST)
            for answer in answers:
                await self._writer.run(self._take_answer, answer)
            if len(answers) < TAKE_MOST:
                return

    def _take_answer(self, connection: sqlite3.Connection, answer: Answer) -> None:
        page = decode_page(as_answer(answer.listings), Listing)
        older = listings.read_before(connection, [one.listing_id for one in page.items], answer.at)
        items = [one for one in page.items if one.listing_id in older and _is_complete(one)]
        self._record(connection, items, answer.at)
        save_cursor(connection, answer.cursor)

    async def _start_due(self, running: set[asyncio.Task[None]], *, also_partial: bool) -> None:
        await self._take_answers()
        while len(running) < BATCHES_AT_ONCE:
            ids = await self._writer.run(
                self._claim,
                int(self._clock.now()),
                self._in_flight,
                ETSY_PAGING.page_size,
            )
            alone = len(ids) == 1 and await self._writer.run(listings.is_set_aside, ids[0])
            full = len(ids) == ETSY_PAGING.page_size
            if not ids or not (full or also_partial or alone):
                return
            self._in_flight.update(ids)
            running.add(asyncio.create_task(self._read_batch(ids)))

    async def _read_batch(self, ids: list[int]) -> None:
        try:
            await self._read(ids)
        except MEMBER_FAULTS as error:
            if self._client.upstreams.outages:
                await self._postpone(ids, str(error))
            else:
                await self._find_cause(ids, error)
        except (Transient, Terminal) as error:
            await self._postpone(ids, str(error))
        finally:
            self._in_flight.difference_update(ids)

    async def _read(self, ids: Sequence[int], part_of: Hashable = None) -> None:
        try:
            page = await self._client.listings_batch(ids, part_of=part_of)
        except NotFound:
            page = Page(0, [], [], 0)
        if self.outbox is not None and page.items:
            now = int(self._clock.now())
            await self.outbox.put(now, listings_without_images(page.body))
        self.failed += await self._writer.run(self._record_answer, ids, page)

    async def _find_cause(self, ids: list[int], error: Exception) -> None:
        """A batch failed while others succeed: set aside the listings that make it fail."""
        if len(ids) == 1:
            found = SearchResult({ids[0]: str(error)})
        else:
            group = tuple(ids)
            found = await search_group(ids, lambda part: self._read(part, part_of=group))
        if found.unread:
            await self._postpone(found.unread, str(error))
        for listing_id, reason in found.blamed.items():
            log.warning("listing %d makes its batch fail and is set aside: %s", listing_id, reason)
        self.failed += len(found.blamed)
        await self._writer.run(listings.set_aside, found.blamed, int(self._clock.now()))

    async def _postpone(self, ids: Sequence[int], reason: str) -> None:
        log.warning("%d listings wait an hour for batch: %s", len(ids), reason)
        self.failed += len(ids)
        due = int(self._clock.now()) + RETRY_S
        await self._writer.run(listings.postpone_batch, ids, due, reason)

    def _record_answer(
        self, connection: sqlite3.Connection, ids: Sequence[int], page: Page[Listing]
    ) -> int:
        """One transaction: states, images, and which ids the answer left out.

        Returns:
            number of listings that the answer left unclear and that wait until tomorrow.
        """
        now = int(self._clock.now())
        asked = set(ids)
        named = [one for one in page.items if one.listing_id in asked]
        complete = [one for one in named if _is_complete(one)]
        self._record(connection, complete, now)
        absent = asked - {one.listing_id for one in complete}
        broken = f"broken answer: {page.broken[0]}" if page.broken else None
        if len(complete) < len(named):
            broken = "broken answer: a listing without its images"
        return listings.record_absent(connection, sorted(absent), now, broken)

    def _record(self, connection: sqlite3.Connection, items: Sequence[Listing], at: int) -> None:
        batched = [self._as_batched(one) for one in items]
        listings.record_batch(connection, batched, at, at + int(self._refresh_s))
        shown = [Shown(one.listing_id, one.images, one.whole) for one in batched]
        image_queue.add_images(connection, shown, self._which, at)

    def _as_batched(self, listing: Listing) -> Batched:
        images = _image_rows(listing, self._size)
        return Batched(
            listing.listing_id,
            listing.shop_id,
            listing.taxonomy_id,
            listing.state,
            listing.price_usd,
            listing.created,
            images,
            # A listing always shows an image: an answer without any says nothing.
            whole=bool(images) and len(images) == len(listing.images or ()),
        )


def _is_complete(listing: Listing) -> bool:
    """Whether batch gave its images, or it has ended and needs none."""
    return listing.images is not None or listing.state not in {ACTIVE, None}


async def _first_of(
    running: set[asyncio.Task[None]], events: Sequence[asyncio.Event]
) -> set[asyncio.Task[None]]:
    """Wait for a task to end or an event to be set; returns the tasks still running.

    Raises:
        the error of a task that ended.
    """
    if any(event.is_set() for event in events):
        return running
    waits = {asyncio.create_task(event.wait()) for event in events}
    try:
        done, _ = await asyncio.wait({*running, *waits}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    for task in done & running:
        task.result()
    return running - done


def _image_rows(listing: Listing, size: str) -> list[ImageRow]:
    """The listing's images by rank, each with the URL for the size."""
    shown = listing.images or []
    images = [image for image in shown if image is not None]
    if len(images) < len(shown):
        log.warning("listing %d has %d broken images", listing.listing_id, len(shown) - len(images))
    rows = {}
    for place, image in enumerate(images, start=1):
        url = _url(image, size)
        if url is None:
            log.warning(
                "listing %d: image %d has no url", listing.listing_id, image.listing_image_id
            )
            continue
        rank = place if image.rank is None else image.rank
        rows[image.listing_image_id] = ImageRow(image.listing_image_id, rank, url)
    return sorted(rows.values(), key=lambda row: row.rank)


def _url(image: Image, size: str) -> str | None:
    """The URL of the size if Etsy sends it, else one from which it can be derived."""
    given = {
        "75x75": image.url_75x75,
        "170x135": image.url_170x135,
        "570xN": image.url_570xN,
        "fullxfull": image.url_fullxfull,
    }
    return given.get(size) or next(
        (
            url
            for url in (
                image.url_fullxfull,
                image.url_570xN,
                image.url_170x135,
                image.url_75x75,
            )
            if url
        ),
        None,
    )
