"""The syncs of due shops: lists, batches combined over shops, and missing shop objects."""

import logging
import sqlite3
from collections import deque
from collections.abc import Awaitable, Hashable, Sequence
from typing import TypeVar

import msgspec

from furnisync.clock import DAY_S
from furnisync.collect.context import REFILL, Call, Round
from furnisync.collect.shop_paging import ask_at, next_position
from furnisync.collect.shop_source import ShopSource
from furnisync.errors import DoubtfulAnswer, NotFound, Terminal, Transient
from furnisync.etsy.credibility import (
    ask_until_believed,
    doubt_listings,
    doubt_shop,
    with_fields,
)
from furnisync.etsy.excerpts import listings_for_discovery
from furnisync.etsy.group_search import MEMBER_FAULTS, SearchResult, search_group
from furnisync.etsy.models import WholePage
from furnisync.history import arrivals, claims, schedule, snapshots, staging
from furnisync.history.fields.values import as_id
from furnisync.history.set_aside import set_aside
from furnisync.limits import ETSY_PAGING

log = logging.getLogger("furnisync.collect")

T = TypeVar("T")

OPEN_SYNCS_MAX = 400
"""Maximum of shops in progress; each needs little memory, and batches fill up from all of them."""
FRESH_PART = 4
"""Rows from image sync's answers are reused up to this part of the days between two syncs."""
REST_WAITS_S = 600.0
"""While reviews are read, a batch that is not full waits this long for more ids."""


class ShopSyncs:
    """The shops that are being synced, each in the queue of its next step."""

    def __init__(self, this: Round, source: ShopSource, *, furniture_only: bool) -> None:
        """Begin with none; `source` is what image sync knows about shops."""
        self._round = this
        self._source = source
        self._furniture_only = furniture_only
        self._claims = claims.Claims()
        self._due: deque[int] = deque()
        self._lists: deque[int] = deque()
        self._finished: deque[int] = deque()
        self._in_hand: set[int] = set()
        self._open = 0
        self.calls = 0

    async def take_up(self) -> None:
        """Continue with shops that an earlier run left unfinished, unless that is too long ago."""
        this = self._round
        age_s = this.settings.sync_days * DAY_S
        syncs = await this.writer.run(staging.open_syncs)
        if any(one.snapshot_timestamp < this.clock.now() - age_s for one in syncs):
            try:
                now_s = await this.now()
            except (Transient, Terminal):
                now_s = this.clock.now()  # at worst some calls are spent again
            await this.writer.run(staging.drop_stale_syncs, now_s - age_s)
            syncs = await this.writer.run(staging.open_syncs)
        for sync in syncs:
            self._in_hand.add(sync.shop_id)
            self._open += 1
            self._sort_in(sync)

    def _sort_in(self, sync: staging.ShopSync) -> None:
        if sync.list_offset is not None:
            self._lists.append(sync.shop_id)
        elif sync.open_ids == 0:
            self._finished.append(sync.shop_id)

    # -- what the next call is for -------------------------------------------------------------

    async def next_call(self, *, idle: bool) -> Call | None:
        """The most useful call; None if all others wait for calls in flight.

        Args:
            idle: no call is in flight, so nothing will fill a batch that is not full.
        """
        if self._finished:
            shop_id = self._finished.popleft()
            return lambda: self._finish(shop_id)
        call = await self._costly_call(idle=idle)
        if call is not None:
            self.calls += 1  # now, because others choose before this call is made
        return call

    async def _costly_call(self, *, idle: bool) -> Call | None:
        take = self._round.writer.run
        if claim := await take(self._claims.take, full_only=True):
            return lambda: self._read_batch(claim)
        if self._lists:
            shop_id = self._lists.popleft()
            return lambda: self._read_list_page(shop_id)
        if self._open < OPEN_SYNCS_MAX and (begun := await self._begin_next()):
            return begun
        if (idle or await self._rest_waits_long()) and (rest := await take(self._claims.take)):
            return lambda: self._read_batch(rest)
        return None

    async def _rest_waits_long(self) -> bool:
        oldest = await self._round.writer.run(staging.oldest_wanted)
        return oldest is not None and oldest < self._round.clock.now() - REST_WAITS_S

    async def _begin_next(self) -> Call | None:
        if not self._due:
            found = await self._round.writer.run(
                schedule.due_shops,
                self._round.clock.now(),
                self._round.settings,
                limit=REFILL + len(self._in_hand),
                top=self._round.top,
            )
            self._due.extend(one.shop_id for one in found if one.shop_id not in self._in_hand)
        if not self._due:
            return None
        shop_id = self._due.popleft()
        self._in_hand.add(shop_id)
        self._open += 1
        return lambda: self._begin(shop_id)

    # -- the calls -----------------------------------------------------------------------------

    async def _begin(self, shop_id: int) -> None:
        """Begin a shop and request its first list page."""
        try:
            now_s = await self._round.now()
        except (Transient, Terminal) as error:
            await self._fail(shop_id, str(error))
            return

        def begin(connection: sqlite3.Connection) -> staging.ShopSync:
            known = self._source.listings_of(shop_id) if self._furniture_only else None
            sync = staging.begin_shop_sync(
                connection,
                shop_id,
                now_s,
                static_days=self._round.settings.static_days,
                fresh_days=self._round.settings.sync_days / FRESH_PART,
                ids=known,
            )
            if known is None:
                return sync
            ended = self._source.listings_of(shop_id, active=False)
            return staging.stage_ended(connection, shop_id, ended)

        sync = await self._round.writer.run(begin)
        if sync.list_offset is None:
            self.calls -= 1  # all ids are known: this one costs nothing
            self._sort_in(sync)
        else:
            await self._read_list_page(shop_id)

    async def _read_list_page(self, shop_id: int) -> None:
        sync = await self._round.writer.run(staging.shop_sync, shop_id)
        position = sync.list_offset or 0
        ask = ask_at(position)
        page = await self._answer(
            shop_id,
            self._round.client.shop_listings_active(
                shop_id, offset=ask.offset, sort_order=ask.sort_order
            ),
        )
        if page is None:
            return
        ids = [one.listing_id for one in page.items]

        def stage(connection: sqlite3.Connection) -> staging.ShopSync:
            staging.stage_ids(connection, shop_id, ids)
            found = staging.count_staged(connection, shop_id)
            following = next_position(position, page.sent, page.count, found)
            known: Sequence[int] = ()
            if following is None and not 0 < (page.count or 0) <= found:
                # The search shows fewer listings than exist, or hides the shop: add the listings
                # that image sync knows.
                known = self._source.listings_of(shop_id)
            return staging.stage_list_page(
                connection, shop_id, known, counted=page.count, next_offset=following
            )

        self._sort_in(await self._round.writer.run(stage))

    async def _read_batch(self, claim: claims.BatchClaim) -> None:
        this = self._round
        try:
            page, doubt = await ask_until_believed(
                lambda: self._fetch_batch(claim.ids),
                lambda page: doubt_listings(page, len(claim.ids)),
            )
            now_s = await this.now()
        except MEMBER_FAULTS as error:
            await self._find_cause(claim, error)
            return
        except (Transient, Terminal) as error:
            await self._leave(claim, str(error))
            return
        if doubt is not None and not doubt.usable:
            # Absence does not mean 'gone' here: only what came with its fields is stored.
            right = with_fields(page.results)
            claim, rest = claim.split({as_id(one.get("listing_id")) for one in right})
            page = msgspec.structs.replace(page, results=right)
            if rest.ids:
                await self._leave(rest, doubt.reason)
        await self._take(claim, page, now_s)

    async def _take(self, claim: claims.BatchClaim, page: WholePage, now_s: float) -> None:
        """Store an answer; shops that it completes are appended."""
        this = self._round
        this.look(page.results)
        taken = await this.writer.run(
            snapshots.take_batch, this.selection, claim, page.results, now_s=now_s
        )
        self._claims.give_back(claim)
        self._finished.extend(taken.wants_shop)
        for shop_id, appended in taken.appended.items():
            self._end(shop_id, appended)

    async def _find_cause(self, claim: claims.BatchClaim, error: Exception) -> None:
        """A batch failed while others succeed: sync the shops without what makes it fail."""
        this = self._round
        if this.client.upstreams.outages:
            await self._leave(claim, str(error))
            return

        async def read(ids: Sequence[int]) -> None:
            part, _ = claim.split(ids)
            page, doubt = await ask_until_believed(
                lambda: self._fetch_batch(ids, part_of=claim.ids),
                lambda page: doubt_listings(page, len(ids)),
            )
            if doubt is not None and not doubt.usable:
                raise DoubtfulAnswer(doubt.reason)
            await self._take(part, page, await this.now())

        if len(claim.ids) == 1:
            found = SearchResult({claim.ids[0]: str(error)})
        else:
            found = await search_group(claim.ids, read)
        if found.unread:
            await self._leave(claim.split(found.unread)[0], str(error))
        for listing_id, reason in found.blamed.items():
            log.warning("listing %d makes its batch fail and is set aside: %s", listing_id, reason)
        now_s = this.clock.now()
        self._finished.extend(await this.writer.run(set_aside, found.blamed, now_s))
        self._claims.give_back(claim.split(found.blamed)[0])

    async def _fetch_batch(self, ids: Sequence[int], part_of: Hashable = None) -> WholePage:
        try:
            page = await self._round.client.whole_listings(ids, part_of=part_of)
        except NotFound:
            return WholePage(0, [])
        if self._source.has_catalog():  # else image sync is not in use
            now = int(self._round.clock.now())
            await self._round.outbox.put(now, listings_for_discovery(page.body))
        return page

    async def _leave(self, claim: claims.BatchClaim, reason: str) -> None:
        """Leave a batch that failed finally to the next round: it is not given back."""
        self._round.collected.failed += 1
        log.warning("a batch of %d listings waits: %s", len(claim.ids), reason)
        now_s = self._round.clock.now()

        def mark(connection: sqlite3.Connection) -> None:
            for shop_id in claims.shops_of(connection, claim):
                snapshots.mark_sync_failed(connection, shop_id, reason, now_s)

        await self._round.writer.run(mark)

    async def _finish(self, shop_id: int) -> None:
        """Append a shop that is complete; request the shop object first if it is missing."""
        this = self._round
        sync = await this.writer.run(staging.shop_sync, shop_id)
        if sync.wants_shop:
            self.calls += 1
            believed = await self._answer(
                shop_id,
                ask_until_believed(
                    lambda: this.client.shop(shop_id), lambda shop: doubt_shop(shop, shop_id)
                ),
            )
            if believed is None:
                return
            shop, doubt = believed
            if doubt is not None and not doubt.usable:
                await self._fail(shop_id, doubt.reason)
                return
            await this.writer.run(arrivals.stage_shop, this.selection, shop_id, shop)
        self._end(shop_id, await this.writer.run(snapshots.append_shop_sync, shop_id))

    def _end(self, shop_id: int, appended: snapshots.Appended) -> None:
        if appended.counted > ETSY_PAGING.reach and appended.counted > appended.active:
            log.warning(
                "shop %d: %s of its %s active listings are beyond the reach of the search",
                shop_id, f"{appended.counted - appended.active:,}", f"{appended.counted:,}",
            )  # fmt: skip
        self._close(shop_id)
        self._round.collected.shops += 1
        self._round.collected.listings += appended.listing_dynamic

    async def _answer(self, shop_id: int, asked: Awaitable[T]) -> T | None:
        """Etsy's answer about a shop; None if there is none, which is recorded."""
        try:
            try:
                return await asked
            except NotFound:
                # One wrong 404 would set a shop aside for months: request the shop once more.
                self.calls += 1
                try:
                    await self._round.client.shop(shop_id)
                except NotFound:
                    await self._end_gone(shop_id, await self._round.now())
                    return None
            await self._fail(shop_id, "Etsy has the shop, but answered 404 (a temporary fault?)")
        except (Transient, Terminal) as error:
            await self._fail(shop_id, str(error))
        return None

    async def _end_gone(self, shop_id: int, now_s: float) -> None:
        this = self._round
        await this.writer.run(
            snapshots.mark_shop_gone, shop_id, now_s, gone_days=this.settings.gone_days
        )
        self._close(shop_id)
        this.collected.gone += 1

    async def _fail(self, shop_id: int, reason: str) -> None:
        log.warning("shop %d waits: %s", shop_id, reason)
        now_s = self._round.clock.now()
        await self._round.writer.run(snapshots.mark_sync_failed, shop_id, reason, now_s)
        self._round.collected.failed += 1
        self._open -= 1

    def _close(self, shop_id: int) -> None:
        self._in_hand.discard(shop_id)
        self._open -= 1
