"""The review walk of a shop, newest first, as pure functions.

Etsy lists reviews by `create_timestamp`, newest first, and accepts `max_created` (inclusive).
Paging by offset would skip a review whenever an earlier one is deleted between two pages, and ends
at offset 12,000. So the walk requests each page from the oldest second that it has seen:

    max_created=None  offset=0      the newest 100
    max_created=t     offset=0      t is the oldest second of the previous page
    max_created=t     offset=100..  if a whole page has second t
    max_created=t-1   offset=0      if more than 12,100 have second t (the rest is out of reach)

Only the reviews of the second at which a page ends are read twice: about one a page.
The walk is complete when it reaches a review older than the watermark, or the end of the list. An
interrupted walk continues at its next page. Reviews that were added since it began are
newer than the watermark that it sets, and the next walk finds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from furnisync.limits import ETSY_PAGING, Paging


@dataclass(frozen=True, slots=True)
class ReviewAsk:
    """Parameters of the next call of getReviewsByShop; None: leave the parameter out.

    Attributes:
        min_created: the watermark; all reviews of this second are read again.
        max_created: the oldest second seen in this walk.
        offset: within these two bounds.
        limit: always 100, because a call costs the same.
    """

    min_created: int | None = None
    max_created: int | None = None
    offset: int = 0
    limit: int = ETSY_PAGING.page_size


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a walk.

    Attributes:
        next_ask: None: the walk is complete.
        out_of_reach: the page was the last that Etsy serves of its second, and not the end.
    """

    next_ask: ReviewAsk | None
    out_of_reach: bool = False


def plan_next(
    ask: ReviewAsk,
    created: Sequence[int | None],
    counted: int | None,
    paging: Paging = ETSY_PAGING,
    *,
    unsent: int = 0,
) -> Step:
    """What to request after a page.

    Args:
        ask: the query of the page.
        created: `create_timestamp` of its reviews, in order; None where it is missing.
        counted: the answer's `count`.
        paging: limits of the API.
        unsent: number of reviews that the answer counts and that never come.
    """
    got = len(created)
    oldest = oldest_of(created)
    if ask.min_created is not None and oldest is not None and oldest < ask.min_created:
        return Step(None)  # below the watermark
    if not got or _is_end(ask.offset, got, unsent, counted, paging):
        return Step(None)
    if (further := ask_further(ask, created)) is not None:
        return Step(further)
    if ask.offset + got <= paging.offset_cap:
        return Step(ReviewAsk(ask.min_created, ask.max_created, ask.offset + got))
    below = None if ask.max_created is None else ask.max_created - 1
    if below is None or (ask.min_created is not None and below < ask.min_created):
        return Step(None, out_of_reach=True)
    return Step(ReviewAsk(ask.min_created, below), out_of_reach=True)


def oldest_of(created: Sequence[int | None]) -> int | None:
    """The oldest second of a page; None if it has none."""
    return min((time for time in created if time is not None), default=None)


def ask_further(ask: ReviewAsk, created: Sequence[int | None]) -> ReviewAsk | None:
    """The query from the oldest second of a page on; None if it is that of the page itself."""
    oldest = oldest_of(created)
    if oldest is None or (ask.max_created is not None and oldest >= ask.max_created):
        return None
    return ReviewAsk(ask.min_created, oldest)


def is_cut(
    ask: ReviewAsk, created: Sequence[int | None], counted: int | None, counted_further: int | None
) -> bool:
    """Whether a page that is short of its count lacks only its end, as if pages were smaller.

    Args:
        ask: the query of the page.
        created: `create_timestamp` of its reviews; None where it is missing.
        counted: the answer's `count`.
        counted_further: `count` of the answer to `ask_further`, which counts the page's oldest
            second again.
    """
    if counted is None or counted_further is None:
        return False
    newer = len(created) - created.count(oldest_of(created))
    return counted_further == counted - ask.offset - newer


def _is_end(offset: int, got: int, unsent: int, counted: int | None, paging: Paging) -> bool:
    """Whether a page is the last of its list.

    A short page alone is not the end while `count` is higher, since a server may have smaller pages
    than we ask for; a `count` below the number of results is ignored.
    """
    if counted is None or counted < offset + got:
        return got < paging.page_size
    return counted <= offset + got + unsent
