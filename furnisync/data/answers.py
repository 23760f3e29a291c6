"""Which answers can be believed, and what is done about the others.

An answer can be well formed and still false: a batch that leaves out what is there, a page with a
review in place of another, objects without their fields. What is stored of it would stay, so a
doubtful answer is asked for again. Etsy may really be so, and asking for ever would burn the quota:

| what is doubtful                       | and comes so again and again                            |
| -------------------------------------- | ------------------------------------------------------- |
| objects came without their fields      | they are taken as they are                              |
| a batch without any listing            | they are gone                                           |
| no review where one was seen before    | there is none any more                                  |
| fewer reviews than counted, or doubles | the walk waits; the third time in a row it is believed  |
| a batch with doubles, what is broken   | only what came is taken, the rest waits                 |
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from furnisync.etsy.objects import WholePage
from furnisync.history.fields import as_id
from furnisync.history.walk import ReviewAsk

T = TypeVar("T")

TRIES = 3
LISTING_ALWAYS = ("title", "url", "quantity", "price")
"""A listing without any of these came without its fields."""
SHOP_ALWAYS = ("shop_name", "url", "create_date", "update_date")
REVIEW_ALWAYS = ("rating", "review", "language", "buyer_user_id")


class Doubt(msgspec.Struct, frozen=True):
    """Why an answer is asked for again.

    Attributes:
        reason: in words.
        usable: what came may be taken where asking again brings nothing better.
        missing: so many results did not come that the answer counts.
    """

    reason: str
    usable: bool = False
    missing: int = 0


async def ask_until_believed(
    ask: Callable[[], Awaitable[T]], doubt_of: Callable[[T], Doubt | None]
) -> tuple[T, Doubt | None]:
    """Ask until an answer leaves no doubt, some times at most.

    Returns:
        The last answer and its doubt, which is only `usable` where every answer was so.
    """
    doubts = []
    for _ in range(TRIES):
        answer = await ask()
        doubt = doubt_of(answer)
        if doubt is None:
            return answer, None
        doubts.append(doubt)
    lasting = all(one.reason == doubts[-1].reason for one in doubts)
    return answer, msgspec.structs.replace(doubts[-1], usable=doubts[-1].usable and lasting)


def doubt_listings(page: WholePage) -> Doubt | None:
    """What is wrong with an answer of batch."""
    ids = [as_id(one.get("listing_id")) for one in page.results]
    if not ids and not page.broken:
        return Doubt("none of the listings came", usable=True)
    if page.broken or None in ids:
        return Doubt("broken listings in the answer")
    if len(set(ids)) < len(ids):
        return Doubt("the answer has a listing twice, perhaps in place of another")
    if _any_bare(page.results, LISTING_ALWAYS):
        return Doubt("listings came without their fields", usable=True)
    shops = (one.get("shop") for one in page.results)
    if _any_bare((shop for shop in shops if isinstance(shop, dict)), SHOP_ALWAYS):
        return Doubt("shops came without their fields", usable=True)
    return None


def doubt_shop(shop: dict[str, Any]) -> Doubt | None:
    """What is wrong with an answer of getShop."""
    if _any_bare([shop], SHOP_ALWAYS):
        return Doubt("the shop came without its fields", usable=True)
    return None


def doubt_reviews(page: WholePage, ask: ReviewAsk, *, unsent: int = 0) -> Doubt | None:
    """What is wrong with a page of reviews.

    Args:
        page: the answer.
        ask: what was asked.
        unsent: so many of the shop's reviews are known to be counted and never sent.
    """
    if page.broken or any(_unfit(one.get("listing_id")) for one in page.results):
        return Doubt("broken reviews in the answer")
    ids = Counter(one.get("transaction_id") for one in page.results)
    del ids[None]
    if any(number > 1 for number in ids.values()):
        return Doubt("the answer has a review twice, perhaps in place of another")
    missing = min(ask.limit, (page.count or 0) - ask.offset) - len(page.results)
    if missing > unsent:
        return Doubt("fewer reviews came than the answer counts", missing=missing)
    if not page.results and not ask.offset and (ask.min_created, ask.max_created) != (None, None):
        # Both bounds are seconds of reviews that were seen, and inclusive.
        return Doubt("a review that was seen did not come again", usable=True)
    if _any_bare(page.results, REVIEW_ALWAYS):
        return Doubt("reviews came without their fields", usable=True)
    return None


def _any_bare(objects: Iterable[dict[str, Any]], names: tuple[str, ...]) -> bool:
    """Whether an object has none of these."""
    return any(all(one.get(name) is None for name in names) for one in objects)


def _unfit(sent: object) -> bool:
    return sent is not None and as_id(sent) is None
