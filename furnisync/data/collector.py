"""Fetches what is due: shop lists, batches pooled over shops, shops, reviews; a worker a call.

    due shops --> list pages --> ids staged --> full batches --> rows staged --> appended, by shop
                                                        (a shop that did not come: getShop)
    due reviews --> pages, newest first --> appended at once

Each worker asks `_next_call` what is worth the next call, does it and commits what it brought. All
progress is in the history's file, so this class remembers only what is in hand right now.
"""

import asyncio
import logging
import math
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from furnisync.clock import Clock
from furnisync.config import DataSettings
from furnisync.data.answers import ask_until_believed, doubt_listings, doubt_reviews
from furnisync.data.list_walk import REACH, ask_at, next_position
from furnisync.data.source import ShopSource
from furnisync.database import Writer
from furnisync.errors import NotFound, Terminal, Transient, UserError
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.objects import WholePage
from furnisync.history import arrivals, claims, drift, due, reviews, snapshots, staging
from furnisync.history.fields import as_id
from furnisync.history.selection import Selection

log = logging.getLogger("furnisync.data")

Call = Callable[[], Awaitable[None]]

OPEN_SYNCS_MAX = 400
"""So many shops may be half here; each holds little, and batches fill up from all of them."""
REFILL = 100
REST_WAITS_S = 600.0
"""While reviews are read, a batch that is not full waits this long for more ids."""
RETRY_S = 3600.0
"""What failed is tried again after this."""


class Collected(msgspec.Struct):
    """Counts of one round."""

    shops: int = 0
    listings: int = 0
    reviews: int = 0
    gone: int = 0
    failed: int = 0


class Collector:
    """Serves all due shops and reviews once, or for `until`; make a new one for each round."""

    def __init__(
        self,
        client: EtsyClient,
        writer: Writer,
        clock: Clock,
        settings: DataSettings,
        selection: Selection,
        cadence: due.Cadence,
        *,
        top: int | None,
        source: ShopSource,
        furniture_only: bool,
    ) -> None:
        """Make a collector; `source` tells what image sync knows of a shop."""
        self._client = client
        self._writer = writer
        self._clock = clock
        self._settings = settings
        self._selection = selection
        self._cadence = cadence
        self._top = top
        self._source = source
        self._furniture_only = furniture_only
        self._claims = claims.Claims()
        self._due_shops: deque[int] = deque()
        self._due_reviews: deque[int] = deque()
        self._lists: deque[int] = deque()
        self._finished: deque[int] = deque()
        self._in_hand: set[int] = set()
        self._walking: set[int] = set()
        self._shop_calls = 0
        self._review_calls = 0
        self._open = 0
        self._running = 0
        self._ended = 0
        self._until = math.inf
        self._choosing = asyncio.Lock()
        self._progress = asyncio.Condition()
        self.watch = drift.FieldWatch()
        """May be replaced before `run` by that of an earlier round."""
        self.collected = Collected()
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
        await self._take_up()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())
        for change in await self._writer.run(
            drift.record_drift, self.watch, self._selection, self._clock.now()
        ):
            log.warning("%s", change)
        return self.collected

    async def _take_up(self) -> None:
        """Go on with the shops that a run before left half done, unless that is too long ago."""
        oldest = self._clock.now() - self._settings.sync_days * snapshots.DAY_S
        await self._writer.run(staging.drop_stale_syncs, oldest)
        for sync in await self._writer.run(staging.open_syncs):
            self._in_hand.add(sync.shop_id)
            self._open += 1
            self._sort_in(sync)

    def _sort_in(self, sync: staging.ShopSync) -> None:
        """Put a shop where its next step is waited for."""
        if sync.list_offset is not None:
            self._lists.append(sync.shop_id)
        elif sync.open_ids == 0:
            self._finished.append(sync.shop_id)

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

    # -- what the next call is for -------------------------------------------------------------

    async def _next_call(self) -> Call | None:
        """The most worthwhile call now, None where each waits for what is in flight."""
        if self._clock.monotonic() >= self._until:
            self.cut_short = True
            return None
        shops = self._settings.reviews_share_percent < 100 and self._shops_turn()
        first, second = (
            (self._shop_call, self._review_call) if shops else (self._review_call, self._shop_call)
        )
        return await first() or await second()

    def _shops_turn(self) -> bool:
        """Reviews get their share of the calls while shops are waiting too.

        Calls are counted, not turns: where image sync knows a shop's listings, to begin and to
        finish it costs none.
        """
        calls = self._shop_calls + self._review_calls + 1
        return self._review_calls >= calls * self._settings.reviews_share_percent / 100

    async def _shop_call(self) -> Call | None:
        if self._finished:
            shop_id = self._finished.popleft()
            return lambda: self._finish(shop_id)
        if claim := await self._writer.run(self._claims.take, full_only=True):
            return lambda: self._read_batch(claim)
        if self._lists:
            shop_id = self._lists.popleft()
            return lambda: self._read_list_page(shop_id)
        if self._open < OPEN_SYNCS_MAX and (begun := await self._begin_next()):
            return begun
        if await self._rest_may_go() and (rest := await self._writer.run(self._claims.take)):
            return lambda: self._read_batch(rest)
        return None

    async def _rest_may_go(self) -> bool:
        """Whether a batch goes that is not full: nothing fills it, or its first shop waits long."""
        if self._running == 0:
            return True
        oldest = await self._writer.run(staging.oldest_wanted)
        return oldest is not None and oldest < self._clock.now() - REST_WAITS_S

    async def _begin_next(self) -> Call | None:
        if not self._due_shops:
            found = await self._writer.run(
                due.due_shops,
                self._clock.now(),
                self._cadence,
                limit=REFILL + len(self._in_hand),
                top=self._top,
            )
            self._due_shops.extend(one.shop_id for one in found if one.shop_id not in self._in_hand)
        if not self._due_shops:
            return None
        shop_id = self._due_shops.popleft()
        self._in_hand.add(shop_id)
        self._open += 1
        return lambda: self._begin(shop_id)

    async def _review_call(self) -> Call | None:
        if not self._due_reviews:
            found = await self._writer.run(
                due.due_reviews,
                self._clock.now(),
                self._cadence,
                limit=REFILL + len(self._walking),
                top=self._top,
            )
            self._due_reviews.extend(
                one.shop_id for one in found if one.shop_id not in self._walking
            )
            self._walking.update(self._due_reviews)
        if not self._due_reviews:
            return None
        shop_id = self._due_reviews.popleft()
        self._review_calls += 1
        return lambda: self._read_reviews(shop_id)

    # -- the calls -----------------------------------------------------------------------------

    async def _begin(self, shop_id: int) -> None:
        """Begin a shop; its first list page is asked for in the same breath."""

        def begin(connection: sqlite3.Connection) -> staging.ShopSync:
            known = self._source.listings_of(shop_id) if self._furniture_only else None
            sync = staging.begin_shop_sync(
                connection,
                shop_id,
                self._clock.now(),
                static_days=self._settings.static_days,
                ids=known,
            )
            if known is None:
                return sync
            ended = self._source.listings_of(shop_id, active=False)
            return staging.stage_ended(connection, shop_id, ended)

        sync = await self._writer.run(begin)
        if sync.list_offset is None:
            self._sort_in(sync)
        else:
            await self._read_list_page(shop_id)

    async def _read_list_page(self, shop_id: int) -> None:
        sync = await self._writer.run(staging.shop_sync, shop_id)
        position = sync.list_offset or 0
        ask = ask_at(position)
        self._shop_calls += 1
        try:
            page = await self._client.shop_listings_active(
                shop_id, offset=ask.offset, sort_order=ask.sort_order
            )
        except NotFound:
            await self._end_gone(shop_id)
            return
        except UserError:
            raise
        except (Transient, Terminal) as error:
            await self._fail(shop_id, str(error))
            return
        ids = [one.listing_id for one in page.items]

        def stage(connection: sqlite3.Connection) -> staging.ShopSync:
            staging.stage_ids(connection, shop_id, ids)
            found = staging.count_staged(connection, shop_id)
            following = next_position(position, page.sent, page.count, found)
            known: Sequence[int] = ()
            if following is None and not 0 < (page.count or 0) <= found:
                # The search shows less than there is, or hides the shop: what image sync knows of
                # it is looked up besides.
                known = self._source.listings_of(shop_id)
            return staging.stage_list_page(
                connection, shop_id, known, told=page.count, next_offset=following
            )

        self._sort_in(await self._writer.run(stage))

    async def _read_batch(self, claim: claims.Claim) -> None:
        try:
            page, doubt = await ask_until_believed(
                lambda: self._fetch_batch(claim.ids), doubt_listings
            )
        except UserError:
            raise
        except (Transient, Terminal) as error:
            await self._leave(claim, str(error))
            return
        if doubt is not None and not doubt.usable:
            # Absence does not mean 'gone' here: only what came is taken.
            came = {as_id(one.get("listing_id")) for one in page.results}
            claim, rest = claim.split(came)
            await self._leave(rest, doubt.reason)
        self.watch.look("listings", page.results)
        shops = (one.get("shop") for one in page.results)
        self.watch.look("shops", [shop for shop in shops if isinstance(shop, dict)])
        ready = await self._writer.run(
            arrivals.stage_batch, self._selection, claim, page.results, now_s=self._clock.now()
        )
        self._claims.give_back(claim)
        self._finished.extend(ready)

    async def _fetch_batch(self, ids: Sequence[int]) -> WholePage:
        self._shop_calls += 1
        try:
            return await self._client.whole_listings(ids)
        except NotFound:
            return WholePage(0, [])

    async def _leave(self, claim: claims.Claim, reason: str) -> None:
        """Leave a batch that failed for good to the next round: it is not given back."""
        self.collected.failed += 1
        log.warning("a batch of %d listings waits: %s", len(claim.ids), reason)

        def mark(connection: sqlite3.Connection) -> None:
            for shop_id in claims.shops_of(connection, claim):
                snapshots.mark_sync_failed(
                    connection, shop_id, reason, self._clock.now(), retry_s=RETRY_S
                )

        await self._writer.run(mark)

    async def _finish(self, shop_id: int) -> None:
        """Append a shop of which everything is here; ask for the shop itself if it did not come."""
        sync = await self._writer.run(staging.shop_sync, shop_id)
        if sync.wants_shop:
            self._shop_calls += 1
            try:
                shop = await self._client.shop(shop_id)
            except NotFound:
                await self._end_gone(shop_id)
                return
            except UserError:
                raise
            except (Transient, Terminal) as error:
                await self._fail(shop_id, str(error))
                return
            await self._writer.run(arrivals.stage_shop, self._selection, shop_id, shop)
        appended = await self._writer.run(snapshots.append_shop_sync, shop_id)
        missed = (sync.told or 0) - appended.active
        if missed > 0 and (sync.told or 0) > REACH:
            log.warning(
                "shop %d: %s of its %s active listings are out of the search's reach",
                shop_id, f"{missed:,}", f"{sync.told:,}",
            )  # fmt: skip
        self._close(shop_id)
        self.collected.shops += 1
        self.collected.listings += appended.listing_dynamic

    async def _read_reviews(self, shop_id: int) -> None:
        """One page of a shop's reviews; the rest of the walk queues up again."""
        ask = await self._writer.run(reviews.next_review_ask, shop_id, self._clock.now())
        try:
            page, doubt = await ask_until_believed(
                lambda: self._client.shop_reviews(
                    shop_id,
                    min_created=ask.min_created,
                    max_created=ask.max_created,
                    limit=ask.limit,
                    offset=ask.offset,
                ),
                lambda page: doubt_reviews(page, ask.offset, ask.limit),
            )
        except UserError:
            raise
        except NotFound:
            # The shop is gone, or its reviews are hidden: its next sync tells.
            wait_s = self._settings.sync_days * snapshots.DAY_S
            await self._writer.run(reviews.postpone_reviews, shop_id, self._clock.now() + wait_s)
            self._walking.discard(shop_id)
            return
        except (Transient, Terminal) as error:
            await self._fail_reviews(shop_id, str(error))
            return
        if doubt is not None and not doubt.usable:
            await self._fail_reviews(shop_id, doubt.reason)
            return
        self.watch.look("reviews", page.results)
        appended = await self._writer.run(
            reviews.append_review_page,
            self._selection,
            shop_id,
            reviews.ReviewPage(ask, page.results, page.count),
            now_s=self._clock.now(),
        )
        self.collected.reviews += appended.new
        if appended.next_ask is None:
            self._walking.discard(shop_id)
        else:
            self._due_reviews.appendleft(shop_id)

    async def _fail_reviews(self, shop_id: int, reason: str) -> None:
        log.warning("reviews of shop %d wait: %s", shop_id, reason)
        await self._writer.run(
            reviews.mark_reviews_failed, shop_id, reason, self._clock.now(), retry_s=RETRY_S
        )
        self._walking.discard(shop_id)
        self.collected.failed += 1

    async def _end_gone(self, shop_id: int) -> None:
        await self._writer.run(
            snapshots.mark_shop_gone,
            shop_id,
            self._clock.now(),
            gone_days=self._settings.gone_days,
        )
        self._close(shop_id)
        self.collected.gone += 1

    async def _fail(self, shop_id: int, reason: str) -> None:
        log.warning("shop %d waits: %s", shop_id, reason)
        await self._writer.run(
            snapshots.mark_sync_failed, shop_id, reason, self._clock.now(), retry_s=RETRY_S
        )
        self.collected.failed += 1
        self._open -= 1

    def _close(self, shop_id: int) -> None:
        self._in_hand.discard(shop_id)
        self._open -= 1
