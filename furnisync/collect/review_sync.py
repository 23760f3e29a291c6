"""Review walks of due shops, one page a call."""

import logging
from collections import deque
from collections.abc import Hashable

from furnisync.clock import DAY_S
from furnisync.collect.context import REFILL, Call, Round
from furnisync.errors import NotFound, Terminal, Transient
from furnisync.etsy.credibility import (
    Doubt,
    ask_until_believed,
    doubt_reviews,
    missing_reviews,
)
from furnisync.etsy.group_search import MEMBER_FAULTS
from furnisync.etsy.models import WholePage
from furnisync.etsy.page_search import read_around
from furnisync.history import reviews, schedule
from furnisync.history.review_paging import ReviewAsk, ask_further, is_cut
from furnisync.limits import BELIEVED_AFTER

log = logging.getLogger("furnisync.collect")


class ReviewWalks:
    """The shops whose reviews are being read."""

    def __init__(self, this: Round) -> None:
        self._round = this
        self._due: deque[int] = deque()
        self._walking: set[int] = set()
        self._ahead: dict[int, tuple[ReviewAsk, WholePage]] = {}
        self.calls = 0

    async def next_call(self) -> Call | None:
        """The call for the next page of a walk; None if no reviews are due."""
        if not self._due:
            found = await self._round.writer.run(
                schedule.due_reviews,
                self._round.clock.now(),
                self._round.settings,
                limit=REFILL + len(self._walking),
                top=self._round.top,
            )
            self._due.extend(one.shop_id for one in found if one.shop_id not in self._walking)
            self._walking.update(self._due)
        if not self._due:
            return None
        shop_id = self._due.popleft()
        self.calls += 1  # now, because others choose before this call is made
        return lambda: self._read_page(shop_id)

    async def _read_page(self, shop_id: int) -> None:
        """Read one page of a shop's reviews and queue the rest of the walk."""
        this = self._round
        try:
            ask = await this.writer.run(reviews.next_review_ask, shop_id, await this.now())
            trouble = await this.writer.run(reviews.review_trouble, shop_id)
            page, doubt = await self._fetch_believed(shop_id, ask, trouble)
            now_s = await this.now()
        except NotFound:
            # The shop is gone, or its reviews are hidden: its next sync shows which.
            wait_s = this.settings.sync_days * DAY_S
            await this.writer.run(reviews.postpone_reviews, shop_id, this.clock.now() + wait_s)
            self._walking.discard(shop_id)
            return
        except (Transient, Terminal) as error:
            await self._fail(shop_id, str(error))
            return
        answer = reviews.ReviewPage(ask, page.results, page.count)
        if doubt is not None and not (doubt.usable or _lasts(doubt, trouble)):
            if doubt.sound:
                this.collected.reviews += await this.writer.run(
                    reviews.keep_doubtful_page, this.selection, shop_id, answer, now_s=now_s
                )
            await self._fail(shop_id, doubt.reason)
            return
        this.watch.look("reviews", page.results)
        missing = 0 if shop_id in self._ahead else missing_reviews(page, ask)
        appended = await this.writer.run(
            reviews.append_review_page,
            this.selection,
            shop_id,
            answer,
            now_s=now_s,
            unsent=missing,
        )
        this.collected.reviews += appended.new
        if appended.next_ask is None:
            self._walking.discard(shop_id)
        else:
            self._due.appendleft(shop_id)

    async def _fetch_believed(
        self, shop_id: int, ask: ReviewAsk, trouble: reviews.ReviewTrouble
    ) -> tuple[WholePage, Doubt | None]:
        """A page and what is doubtful about it; one of a server with smaller pages is not."""
        first = [await self._fetch(shop_id, ask)]

        def doubt_of(page: WholePage) -> Doubt | None:
            return doubt_reviews(page, ask, unsent=trouble.unsent, some=trouble.has_some)

        doubt = doubt_of(first[0])
        if doubt is not None and doubt.missing and await self._is_cut(shop_id, ask, first[0]):
            return first[0], None

        async def fetch() -> WholePage:
            return first.pop() if first else await self._fetch(shop_id, ask)

        return await ask_until_believed(fetch, doubt_of)

    async def _is_cut(self, shop_id: int, ask: ReviewAsk, page: WholePage) -> bool:
        """Whether the next page, which is kept for the next step, has all that this one lacks."""
        created = reviews.created_times(page.results)
        further = ask_further(ask, created)
        if further is None:
            return False
        following = await self._fetch(shop_id, further)
        if not is_cut(ask, created, page.count, following.count):
            return False
        self._ahead[shop_id] = (further, following)
        return True

    async def _fetch(self, shop_id: int, ask: ReviewAsk) -> WholePage:
        """Fetch a page; one that always fails is read around the reviews that make it fail."""

        async def fetch(offset: int, limit: int, part_of: Hashable = None) -> WholePage:
            return await self._round.client.shop_reviews(
                shop_id,
                min_created=ask.min_created,
                max_created=ask.max_created,
                limit=limit,
                offset=offset,
                part_of=part_of,
            )

        asked, page = self._ahead.pop(shop_id, (None, None))
        if page is not None and asked == ask:
            return page
        try:
            return await fetch(ask.offset, ask.limit)
        except MEMBER_FAULTS:
            if ask.limit == 1 or self._round.client.upstreams.outages:
                raise
            item = (shop_id, ask)
            parts, missing = await read_around(
                ask.offset, ask.limit, lambda offset, limit: fetch(offset, limit, item)
            )
        counts = [part.count for part in parts if part.count is not None]
        results = [one for part in parts for one in part.results]
        broken = len(missing) + sum(part.broken for part in parts)
        return WholePage(max(counts, default=None), results, broken)

    async def _fail(self, shop_id: int, reason: str) -> None:
        log.warning("reviews of shop %d wait: %s", shop_id, reason)
        now_s = self._round.clock.now()
        await self._round.writer.run(reviews.mark_reviews_failed, shop_id, reason, now_s)
        self._walking.discard(shop_id)
        self._round.collected.failed += 1


def _lasts(doubt: Doubt, trouble: reviews.ReviewTrouble) -> bool:
    """Whether the same fault occurred in earlier tries of this walk."""
    return trouble.failures >= BELIEVED_AFTER - 1 and trouble.reason == doubt.reason
