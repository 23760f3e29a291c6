"""The walk over a shop's reviews, newest first, as pure functions.

Etsy lists reviews by `create_timestamp`, newest first, and takes `max_created` (inclusive). Paging
by offset would skip a review whenever one above it is deleted between two pages, and ends at offset
12,000. So the walk asks each page from the oldest second that it has seen:

    max_created=None  offset=0      the newest 100
    max_created=t     offset=0      t being the oldest second of the page before
    max_created=t     offset=100..  where a whole page bears second t
    max_created=t-1   offset=0      where more than 12,100 bear second t (the rest is out of reach)

What is read twice are the reviews of the second at which a page was cut, no more: about one a page.
The walk is complete where a review older than the watermark, or the end of the list, is seen. An
interrupted walk goes on at the page it would have asked next; what came in above it meanwhile is
newer than the watermark it leaves, and the next walk finds it there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from furnisync.limits import ETSY_PAGING, Paging


@dataclass(frozen=True, slots=True)
class ReviewAsk:
    """Parameters of the next call of getReviewsByShop; None: leave the parameter out.

    Attributes:
        min_created: the watermark; all of its own second are looked at again.
        max_created: the oldest second seen in this walk.
        offset: within what the two leave.
        limit: always 100: a call costs the same.
    """

    min_created: int | None = None
    max_created: int | None = None
    offset: int = 0
    limit: int = ETSY_PAGING.page_size


@dataclass(frozen=True, slots=True)
class Step:
    """What a page means for the walk.

    Attributes:
        next_ask: None: the walk is complete.
        out_of_reach: the page was the last one that Etsy serves of its second, and not the end.
    """

    next_ask: ReviewAsk | None
    out_of_reach: bool = False


def plan_next(
    ask: ReviewAsk,
    created: Sequence[int | None],
    told: int | None,
    paging: Paging = ETSY_PAGING,
) -> Step:
    """What to ask after a page.

    Args:
        ask: what was asked.
        created: `create_timestamp` of what came, in order; None where there is none.
        told: the answer's `count`.
        paging: limits of the API.
    """
    times = [time for time in created if time is not None]
    oldest = min(times, default=None)
    if _is_end(ask, len(created), oldest, told, paging):
        return Step(None)
    if oldest is not None and (ask.max_created is None or oldest < ask.max_created):
        return Step(ReviewAsk(ask.min_created, oldest))
    if ask.offset + paging.page_size <= paging.offset_cap:
        return Step(ReviewAsk(ask.min_created, ask.max_created, ask.offset + paging.page_size))
    below = None if ask.max_created is None else ask.max_created - 1
    if below is None or (ask.min_created is not None and below < ask.min_created):
        return Step(None, out_of_reach=True)
    return Step(ReviewAsk(ask.min_created, below), out_of_reach=True)


def _is_end(ask: ReviewAsk, got: int, oldest: int | None, told: int | None, paging: Paging) -> bool:
    """Nothing wanted lies behind this page.

    A short page alone is no end while `count` says that there is more; a `count` below what came
    says nothing.
    """
    if got == 0:
        return True
    if ask.min_created is not None and oldest is not None and oldest < ask.min_created:
        return True
    if told is None or told < ask.offset + got:
        return got < paging.page_size
    return told <= ask.offset + paging.page_size
