"""Which answers are credible, and how often the others are requested again: the only policy.

An answer can be well formed and still false: a batch that leaves out existing listings, a page with
a duplicate in place of another review, objects without their fields. False data would stay, so a
doubtful answer is requested again. But it may be true, and endless requests would waste the quota:
after `BELIEVED_AFTER` answers (3) with the same fault it is believed, or the missing part waits.

| what is doubtful                       | what happens if it repeats                              |
| -------------------------------------- | ------------------------------------------------------- |
| not JSON, no `results`, an error with  | the call fails                                          |
| status 200                             |                                                         |
| a batch with fewer listings than its   | the same listings three times are all that there are,   |
| own `count`                            | unless `count` was seen to leave out what is gone       |
| objects without their fields           | they are stored as they are                             |
| a batch without any listing, or with   | the missing listings are gone                           |
| fewer than requested and no `count`    |                                                         |
| a batch with duplicates or broken      | only valid listings are stored, the rest waits          |
| objects                                |                                                         |
| no review where one was seen before    | it was deleted                                          |
| fewer reviews than counted, duplicates,| what arrived is kept, the review walk waits; the third  |
| broken ones, none of a shop with some  | time it is believed (broken pages are not kept before); |
|                                        | if the next page has what lacks, the server's pages are |
|                                        | smaller than we ask for, and nothing is doubtful        |
| a list page that is short of its count | it is read `BELIEVED_AFTER` times (`crawl/paging.py`)   |
| or repeats listings                    |                                                         |
| a listing of an active list that batch | requested `ABSENT_BELIEVED_AFTER` times (2), then gone  |
| leaves out                             | and requested again in a week (`catalog/listings.py`)   |

The retry ladder, from the inside out, and its worst case in calls for one answer:

| rung                       | where                    | at most                                  |
| -------------------------- | ------------------------ | ---------------------------------------- |
| a fault, a malformed body  | `EtsyClient._get`        | `[api] attempts` (5), with back-off, and |
|                            |                          | a ping if nothing else was answered      |
| the API, or a kind of its  | `Upstreams`              | a single call after each wait, which     |
| calls, is broken           |                          | grows to 5 minutes                       |
| 429 of the key             | `Sender.send`            | 20 waits of `retry-after`, in the ledger |
| 401, 403, 429 of one item  | `Sender.send`            | 3, and a ping for each                   |
| a doubtful answer          | `ask_until_believed`     | `BELIEVED_AFTER` (3)                     |
| a batch that fails for one | `search_group`           | 9, once; that one is asked alone then    |
| of its members             |                          |                                          |
| a failed item              | the caller               | once an hour at first, then more rarely, |
|                            |                          | once a week (`limits.retry_wait`)        |

So a faulty answer costs at most 5 x 3 = 15 calls at first and in the first hour. A doubtful list
page, which the crawl reads again by its own rule, also costs 5 x 3.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from furnisync.errors import DoubtfulAnswer
from furnisync.etsy.models import Id, Listing, Page, WholePage, decode_page, decode_whole_page
from furnisync.limits import BELIEVED_AFTER

T = TypeVar("T")

LISTING_ALWAYS = ("title", "url", "quantity", "price")
"""A listing with none of these has no fields."""
SHOP_ALWAYS = ("shop_name", "url", "create_date", "update_date")
REVIEW_ALWAYS = ("rating", "review", "language", "buyer_user_id")


class ReviewQuery(Protocol):
    """A query of getReviewsByShop; see `history.review_paging.ReviewAsk`."""

    @property
    def min_created(self) -> int | None: ...  # noqa: D102 -- unix seconds
    @property
    def max_created(self) -> int | None: ...  # noqa: D102 -- unix seconds
    @property
    def offset(self) -> int: ...  # noqa: D102 -- reviews to skip
    @property
    def limit(self) -> int: ...  # noqa: D102 -- reviews of a page


class Doubt(msgspec.Struct, frozen=True):
    """Why an answer is requested again.

    Attributes:
        reason: in words.
        usable: the answer may be stored if a repeat is no better.
        sound: the results are right, but incomplete.
        missing: number of results that the answer counts and does not contain.
    """

    reason: str
    usable: bool = False
    sound: bool = False
    missing: int = 0


async def ask_until_believed(
    ask: Callable[[], Awaitable[T]], doubt_of: Callable[[T], Doubt | None]
) -> tuple[T, Doubt | None]:
    """Request until an answer is not doubtful, `BELIEVED_AFTER` times at most.

    Returns:
        The last answer and its doubt, which is only `usable` if every answer was.
    """
    doubts = []
    for _ in range(BELIEVED_AFTER):
        answer = await ask()
        doubt = doubt_of(answer)
        if doubt is None:
            return answer, None
        doubts.append(doubt)
    lasting = all(one.reason == doubts[-1].reason for one in doubts)
    return answer, msgspec.structs.replace(doubts[-1], usable=doubts[-1].usable and lasting)


def doubt_listings(page: WholePage, asked: int) -> Doubt | None:
    """What is wrong with an answer of batch to `asked` ids."""
    ids = [_as_id(one.get("listing_id")) for one in page.results]
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
            _any_bare(page.results, LISTING_ALWAYS),
            Doubt("listings came without their fields", usable=True),
        ),
        (
            _any_bare(shops, SHOP_ALWAYS),
            Doubt("shops came without their fields", usable=True),
        ),
        (
            not ids or (page.count is None and len(ids) < asked),
            Doubt("fewer listings came than were requested", usable=True),
        ),
    )


def with_fields(listings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but those that came without their fields or their shop's: right in any answer."""
    return [
        one
        for one in listings
        if not _is_bare(one, LISTING_ALWAYS)
        and not (isinstance(shop := one.get("shop"), dict) and _is_bare(shop, SHOP_ALWAYS))
    ]


def doubt_shop(shop: dict[str, Any], shop_id: int) -> Doubt | None:
    """What is wrong with an answer of getShop."""
    return _first(
        (
            _as_id(shop.get("shop_id")) != shop_id,
            Doubt("another shop came, or none"),
        ),
        (
            _any_bare([shop], SHOP_ALWAYS),
            Doubt("the shop came without its fields", usable=True),
        ),
    )


def doubt_reviews(
    page: WholePage, ask: ReviewQuery, *, unsent: int = 0, some: bool = False
) -> Doubt | None:
    """What is wrong with a page of reviews.

    Args:
        page: the answer.
        ask: the query.
        unsent: number of the shop's reviews that Etsy counts and never sends.
        some: whether the shop's own `review_count` is above 0.
    """
    ids = Counter(one.get("transaction_id") for one in page.results)
    del ids[None]
    missing = missing_reviews(page, ask)
    bare = _any_bare(page.results, REVIEW_ALWAYS)
    bounded = (ask.min_created, ask.max_created) != (None, None)
    return _first(
        (
            page.broken > 0 or any(_unfit(one.get("listing_id")) for one in page.results),
            Doubt("broken reviews in the answer"),
        ),
        (
            any(number > 1 for number in ids.values()),
            Doubt("the answer has a review twice, perhaps in place of another", sound=not bare),
        ),
        (
            missing > unsent,
            Doubt("fewer reviews came than the answer counts", sound=not bare, missing=missing),
        ),
        (
            # Both bounds are inclusive and are seconds of known reviews.
            bounded and not page.results and not ask.offset,
            Doubt("a review that was seen did not come again", usable=True),
        ),
        (
            some and not page.results and not bounded and not ask.offset,
            Doubt("no review came of a shop that has some"),
        ),
        (
            bare,
            Doubt("reviews came without their fields", usable=True),
        ),
    )


def missing_reviews(page: WholePage, ask: ReviewQuery) -> int:
    """How many reviews of a page its `count` promises beyond those that came, 0 or more."""
    return max(0, min(ask.limit, (page.count or 0) - ask.offset) - len(page.results))


def _first(*checks: tuple[bool, Doubt]) -> Doubt | None:
    return next((doubt for wrong, doubt in checks if wrong), None)


def _any_bare(objects: Iterable[dict[str, Any]], names: tuple[str, ...]) -> bool:
    """Whether any object has none of these fields."""
    return any(_is_bare(one, names) for one in objects)


def _is_bare(one: dict[str, Any], names: tuple[str, ...]) -> bool:
    return all(one.get(name) is None for name in names)


def _unfit(sent: object) -> bool:
    return sent is not None and _as_id(sent) is None


def _as_id(sent: object) -> int | None:
    try:
        return msgspec.convert(sent, Id, strict=False)
    except msgspec.ValidationError:
        return None


class CountMeaning:
    """Whether batch's `count` was seen to count only what was sent, which is not documented."""

    def __init__(self) -> None:
        self.counts_what_came = False


class BatchAnswers:
    """The answers to one batch; one that lacks or repeats listings is requested again.

    Absence means 'gone', so an incomplete answer must not count as complete. But if `count`
    counts the requested ids, one listing that is gone makes every answer look incomplete. So
    if the same listings are sent repeatedly, they are all that exist, unless an answer
    has shown before that `count` leaves out listings that are gone.
    """

    def __init__(self, asked: int, meaning: CountMeaning) -> None:
        self._asked = asked
        self._meaning = meaning
        self._lacking: Counter[frozenset[object]] = Counter()

    def decode(self, body: bytes) -> Page[Listing]:
        """Decode the fields that discovery needs."""
        page = decode_page(body, Listing)
        ids = [one.listing_id for one in page.items]
        self._doubt(page.count, page.sent, ids)
        if len(set(ids)) < len(ids):
            raise DoubtfulAnswer("an answer that repeats listings in place of others")
        return msgspec.structs.replace(page, body=body)

    def decode_whole(self, body: bytes) -> WholePage:
        """Decode all fields."""
        page = decode_whole_page(body)
        ids = [str(one.get("listing_id")) for one in page.results]
        self._doubt(page.count, len(page.results) + page.broken, ids)
        return msgspec.structs.replace(page, body=body)

    def _doubt(self, count: int | None, sent: int, ids: Sequence[object]) -> None:
        if count is None:
            return
        if 0 < sent == count < self._asked:
            self._meaning.counts_what_came = True
        if count <= sent:
            return
        came = frozenset(ids)
        self._lacking[came] += 1
        if self._meaning.counts_what_came or self._lacking[came] < BELIEVED_AFTER:
            raise DoubtfulAnswer(f"half an answer: {sent} of {count} listings")
