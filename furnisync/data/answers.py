"""Which answers can be believed: what a batch leaves out counts as gone, so it must be whole."""

from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from furnisync.etsy.objects import WholePage
from furnisync.history.fields import as_id

TRIES = 3
ALWAYS_SENT = ("title", "url", "quantity", "price")
"""A listing without any of these came without its fields."""


class Doubt(msgspec.Struct, frozen=True):
    """Why an answer is asked for again.

    Attributes:
        reason: in words.
        usable: what came may be taken where asking again brings nothing better.
    """

    reason: str
    usable: bool = False


async def ask_until_believed(
    ask: Callable[[], Awaitable[WholePage]], doubt_of: Callable[[WholePage], Doubt | None]
) -> tuple[WholePage, Doubt | None]:
    """Ask until an answer leaves no doubt, some times at most; the last one and its doubt."""
    page = await ask()
    for _ in range(TRIES - 1):
        if doubt_of(page) is None:
            break
        page = await ask()
    return page, doubt_of(page)


def doubt_listings(page: WholePage) -> Doubt | None:
    """What is wrong with an answer of batch."""
    ids = [as_id(one.get("listing_id")) for one in page.results]
    if page.broken or None in ids:
        return Doubt("broken listings in the answer")
    if len(set(ids)) < len(ids):
        return Doubt("the answer has a listing twice, perhaps in place of another")
    if any(all(one.get(name) is None for name in ALWAYS_SENT) for one in page.results):
        return Doubt("listings came without their fields", usable=True)
    return None


def doubt_reviews(page: WholePage, offset: int, limit: int) -> Doubt | None:
    """What is wrong with a page of reviews."""
    if page.broken or any(_unfit(one, "listing_id") for one in page.results):
        return Doubt("broken reviews in the answer")
    ids = Counter(one.get("transaction_id") for one in page.results)
    del ids[None]
    if any(number > 1 for number in ids.values()):
        return Doubt("the answer has a review twice, perhaps in place of another", usable=True)
    if len(page.results) < min(limit, (page.count or 0) - offset):
        return Doubt("fewer reviews came than the answer counts", usable=True)
    if any(one.get("rating") is None for one in page.results):
        return Doubt("reviews came without their rating", usable=True)
    return None


def _unfit(sent: dict[str, object], name: str) -> bool:
    return sent.get(name) is not None and as_id(sent[name]) is None
