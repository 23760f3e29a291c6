"""Which answers can be believed, and what is done about the others.

An answer can be well formed and still false: a batch that leaves out what is there, a page with a
review in place of another, objects without their fields. What is stored of it would stay, so a
doubtful answer is asked for again. Etsy may really be so, and asking for ever would burn the quota:

| what is doubtful                       | and comes so again and again                            |
| -------------------------------------- | ------------------------------------------------------- |
| objects came without their fields      | they are taken as they are                              |
| a batch without any listing, or with   |                                                         |
| less than was asked and no `count`     | what did not come is gone                               |
| no review where one was seen before    | there is none any more                                  |
| fewer reviews than counted, doubles,   | what came is kept, the walk waits; the third time in a  |
| broken ones, none of a shop that tells | row it is believed and goes on (of broken ones nothing  |
| of some                                | is kept before)                                         |
| a batch with doubles or broken ones    | only what came is taken, the rest waits                 |
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec

from furnisync.etsy.models import WholePage
from furnisync.history.fields import as_id
from furnisync.history.review_paging import ReviewAsk

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
        sound: what came is right, though it is not all.
        missing: so many results did not come that the answer counts.
    """

    reason: str
    usable: bool = False
    sound: bool = False
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


def doubt_listings(page: WholePage, asked: int) -> Doubt | None:
    """What is wrong with an answer of batch to which so many ids were given."""
    ids = [as_id(one.get("listing_id")) for one in page.results]
    shops = [shop for one in page.results if isinstance(shop := one.get("shop"), dict)]
    return _first(
        (
            page.broken > 0 or None in ids,
            Doubt("broken listings in the answer"),
        ),
        (
            len(set(ids)) < len(ids),
            Doubt("the answer has a listing twice, perhaps in place of another"),
        ),
        (
            not ids or (page.count is None and len(ids) < asked),
            Doubt("fewer listings came than were asked for", usable=True),
        ),
        (
            _any_bare(page.results, LISTING_ALWAYS),
            Doubt("listings came without their fields", usable=True),
        ),
        (
            _any_bare(shops, SHOP_ALWAYS),
            Doubt("shops came without their fields", usable=True),
        ),
    )


def doubt_shop(shop: dict[str, Any], shop_id: int) -> Doubt | None:
    """What is wrong with an answer of getShop for a shop."""
    return _first(
        (
            as_id(shop.get("shop_id")) != shop_id,
            Doubt("another shop came, or none"),
        ),
        (
            _any_bare([shop], SHOP_ALWAYS),
            Doubt("the shop came without its fields", usable=True),
        ),
    )


def doubt_reviews(
    page: WholePage, ask: ReviewAsk, *, unsent: int = 0, some: bool = False
) -> Doubt | None:
    """What is wrong with a page of reviews.

    Args:
        page: the answer.
        ask: what was asked.
        unsent: so many of the shop's reviews are known to be counted and never sent.
        some: the shop's own `review_count` says that there are some.
    """
    ids = Counter(one.get("transaction_id") for one in page.results)
    del ids[None]
    missing = min(ask.limit, (page.count or 0) - ask.offset) - len(page.results)
    bounded = (ask.min_created, ask.max_created) != (None, None)
    return _first(
        (
            page.broken > 0 or any(_unfit(one.get("listing_id")) for one in page.results),
            Doubt("broken reviews in the answer"),
        ),
        (
            any(number > 1 for number in ids.values()),
            Doubt("the answer has a review twice, perhaps in place of another", sound=True),
        ),
        (
            missing > unsent,
            Doubt("fewer reviews came than the answer counts", sound=True, missing=missing),
        ),
        (
            # Both bounds are seconds of reviews that were seen, and inclusive.
            bounded and not page.results and not ask.offset,
            Doubt("a review that was seen did not come again", usable=True),
        ),
        (
            some and not page.results and ask == ReviewAsk(),
            Doubt("no review came of a shop that tells of some"),
        ),
        (
            _any_bare(page.results, REVIEW_ALWAYS),
            Doubt("reviews came without their fields", usable=True),
        ),
    )


def _first(*checks: tuple[bool, Doubt]) -> Doubt | None:
    return next((doubt for wrong, doubt in checks if wrong), None)


def _any_bare(objects: Iterable[dict[str, Any]], names: tuple[str, ...]) -> bool:
    """Whether an object has none of these."""
    return any(all(one.get(name) is None for name in names) for one in objects)


def _unfit(sent: object) -> bool:
    return sent is not None and as_id(sent) is None
