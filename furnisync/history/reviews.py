"""Reviews: appended page by page, none twice. The watermark moves only after a complete walk.

The watermark of a shop means: every review up to that second is stored. It moves when a walk is
complete, to the newest second that the walk began with; the page, the walk's next step and the
watermark are one transaction. Edits are ignored: the first form of a review stays.
"""

import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from furnisync.history.fields.pseudonyms import FIELD as BUYER
from furnisync.history.fields.pseudonyms import Buyers
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Object, Oddity, as_id
from furnisync.history.purge import purged_ids
from furnisync.history.review_paging import ReviewAsk, Step, plan_next
from furnisync.history.rows import append_oddities, insert_rows
from furnisync.limits import retry_wait


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """An answer of getReviewsByShop.

    Attributes:
        ask: the query, from `next_review_ask` or `append_review_page`.
        results: the reviews, in the answer's order.
        counted: the answer's `count`.
    """

    ask: ReviewAsk
    results: Sequence[Object]
    counted: int | None


@dataclass(frozen=True, slots=True)
class ReviewTrouble:
    """The faults in the last tries of a shop's reviews.

    Attributes:
        failures: consecutive ones, without a page between them.
        reason: of the last one.
        unsent: number of reviews that the answers count and never send.
        has_some: whether the shop's own `review_count`, of the last year, is above 0.
    """

    failures: int
    reason: str | None
    unsent: int
    has_some: bool


@dataclass(frozen=True, slots=True)
class AppendedReviews:
    """The result of a page.

    Attributes:
        new: number of reviews that were not known.
        next_ask: the next query; None: the walk is complete.
    """

    new: int
    next_ask: ReviewAsk | None


def next_review_ask(connection: sqlite3.Connection, shop_id: int, now_s: float) -> ReviewAsk:
    """Begin the review walk of a shop, or continue the interrupted one."""
    connection.execute(
        "INSERT INTO sync_state (shop_id) VALUES (?) ON CONFLICT DO NOTHING", (shop_id,)
    )
    connection.execute(
        """UPDATE sync_state SET walk_started = ?, walk_newest = NULL, walk_max_created = NULL,
            walk_offset = 0, signals_walking = signals
        WHERE shop_id = ? AND walk_started IS NULL""",
        (int(now_s), shop_id),
    )
    return _present_ask(connection, shop_id)


def _present_ask(connection: sqlite3.Connection, shop_id: int) -> ReviewAsk:
    row = connection.execute(
        "SELECT reviews_watermark, walk_max_created, walk_offset FROM sync_state"
        " WHERE shop_id = ? AND walk_started IS NOT NULL",
        (shop_id,),
    ).fetchone()
    if row is None:
        raise LookupError(f"no walk over the reviews of shop {shop_id} is under way")
    return ReviewAsk(row[0], row[1], row[2])


def review_trouble(connection: sqlite3.Connection, shop_id: int) -> ReviewTrouble:
    """The faults in the current walk of a shop."""
    row = connection.execute(
        "SELECT reviews_failures, reviews_reason, reviews_unsent,"
        " ifnull(json_extract(signals, '$[0]') > 0, 0) FROM sync_state WHERE shop_id = ?",
        (shop_id,),
    ).fetchone()
    return ReviewTrouble(row[0], row[1], row[2], has_some=bool(row[3]))


def keep_doubtful_page(
    connection: sqlite3.Connection,
    selection: Selection,
    shop_id: int,
    page: ReviewPage,
    *,
    now_s: float,
) -> int:
    """Append the reviews of a doubtful page; the walk does not advance.

    Returns:
        number of reviews that were not known.

    Raises:
        LookupError: there is no open walk.
    """
    _present_ask(connection, shop_id)
    began = _walk_began(connection, shop_id)
    return append_reviews(
        connection, selection, shop_id, page.results, now_s=now_s, twins_before_s=began
    )


def _walk_began(connection: sqlite3.Connection, shop_id: int) -> int:
    row = connection.execute("SELECT walk_started FROM sync_state WHERE shop_id = ?", (shop_id,))
    return int(row.fetchone()[0])


def append_review_page(
    connection: sqlite3.Connection,
    selection: Selection,
    shop_id: int,
    page: ReviewPage,
    *,
    now_s: float,
    unsent: int = 0,
) -> AppendedReviews:
    """Append the new reviews of a page and advance the walk by one step.

    Args:
        connection: inside a transaction.
        selection: the stored fields.
        shop_id: the shop of the reviews.
        page: the answer.
        now_s: unix time, the rows' `snapshot_timestamp`.
        unsent: number of reviews of this page that Etsy counts and, as is finally believed, never
            sends.

    Raises:
        LookupError: there is no open walk.
        ValueError: `page.ask` is not the next query of the walk; nothing is appended.
    """
    if page.ask != _present_ask(connection, shop_id):
        raise ValueError(f"{page.ask} is not the present step of the walk over shop {shop_id}")
    began = _walk_began(connection, shop_id)
    new = append_reviews(
        connection, selection, shop_id, page.results, now_s=now_s, twins_before_s=began
    )
    created = created_times(page.results)
    step = plan_next(page.ask, created, page.counted, unsent=unsent)
    newest = max((time for time in created if time is not None), default=None)
    _step_walk(connection, shop_id, step, newest, unsent)
    if step.next_ask is None:
        _complete_walk(connection, shop_id)
    return AppendedReviews(new, step.next_ask)


def _step_walk(
    connection: sqlite3.Connection, shop_id: int, step: Step, newest: int | None, unsent: int
) -> None:
    connection.execute(
        """UPDATE sync_state SET
            walk_newest = nullif(max(ifnull(walk_newest, -1), ifnull(:newest, -1)), -1),
            reviews_out_of_reach = reviews_out_of_reach + :out_of_reach,
            reviews_unsent = max(reviews_unsent, :unsent),
            walk_max_created = :max_created, walk_offset = :offset,
            reviews_failures = 0, reviews_reason = NULL, reviews_not_before = NULL
        WHERE shop_id = :shop_id""",
        {
            "shop_id": shop_id,
            "newest": newest,
            "out_of_reach": step.out_of_reach,
            "unsent": unsent,
            "max_created": step.next_ask.max_created if step.next_ask else None,
            "offset": step.next_ask.offset if step.next_ask else None,
        },
    )


def _complete_walk(connection: sqlite3.Connection, shop_id: int) -> None:
    connection.execute(
        """UPDATE sync_state SET
            reviews_watermark = CASE
                WHEN walk_newest IS NULL THEN reviews_watermark
                ELSE max(walk_newest, ifnull(reviews_watermark, walk_newest)) END,
            reviews_walked = walk_started, signals_walked = signals_walking,
            walk_started = NULL, walk_newest = NULL, walk_max_created = NULL,
            walk_offset = NULL, signals_walking = NULL
        WHERE shop_id = ?""",
        (shop_id,),
    )


def append_reviews(
    connection: sqlite3.Connection,
    selection: Selection,
    shop_id: int,
    results: Sequence[Object],
    *,
    now_s: float,
    twins_before_s: float = math.inf,
) -> int:
    """Append the reviews that are not known yet, without a walk; returns how many.

    Reviews stored at `twins_before_s` or later are not twins: one walk shows no review twice.
    """
    at = int(now_s)
    dated = ((at, {"shop_id": shop_id, **review}) for review in results)
    return append_dated(connection, selection, dated, twins_before_s)


def append_dated(
    connection: sqlite3.Connection,
    selection: Selection,
    reviews: Iterable[tuple[int, Object]],
    twins_before_s: float = math.inf,
) -> int:
    """Append unknown reviews, each with its snapshot time; returns how many.

    This applies the setting for buyers' ids. Reviews of a purged buyer are skipped.
    """
    converter, buyers = selection.review, selection.buyers
    purged = purged_ids(connection, "buyer")
    new = 0
    for snapshot, review in reviews:
        buyer = as_id(review.get(BUYER))
        if purged and buyer is not None and buyers.hashed(buyer) in purged:
            continue
        if has_twin(connection, review, buyers, twins_before_s):
            continue
        oddities: list[Oddity] = []
        row = [snapshot, *converter.values(buyers.apply(review), oddities)]
        if insert_rows(connection, "reviews", converter.columns, [row]):
            new += 1
            key = as_id(review.get("transaction_id"))
            append_oddities(connection, "reviews", snapshot, [(key, oddities)])
    return new


def has_twin(
    connection: sqlite3.Connection, review: Object, buyers: Buyers, before_s: float = math.inf
) -> bool:
    """Whether a review was stored before a time under the other kind of identity.

    An older tool did not keep transaction ids. Its review and that of Etsy are the same
    if shop, listing, buyer and second agree. The text may have been edited since then, and the
    buyer's id may be stored in another form.
    """
    buyer, stored = as_id(review.get(BUYER)), as_id(buyers.apply(review).get(BUYER))
    forms = (stored,) if buyer is None else (stored, *buyers.forms(buyer))
    same_buyer = " OR ".join(["buyer_user_id IS ?"] * len(forms))
    other = "IS NULL" if as_id(review.get("transaction_id")) is not None else "IS NOT NULL"
    row = connection.execute(
        "SELECT 1 FROM reviews WHERE shop_id IS ? AND create_timestamp IS ? AND listing_id IS ?"
        f" AND ({same_buyer}) AND snapshot_timestamp < ? AND transaction_id {other}",
        (
            as_id(review.get("shop_id")),
            as_id(_created(review)),
            as_id(review.get("listing_id")),
            *forms,
            before_s,
        ),
    ).fetchone()
    return row is not None


def created_times(results: Iterable[Object]) -> list[int | None]:
    """When reviews were created (unix seconds); None where that is missing or no number."""
    return [as_id(_created(review)) for review in results]


def _created(review: Object) -> object:
    created = review.get("create_timestamp")
    return review.get("created_timestamp") if created is None else created


def mark_reviews_failed(
    connection: sqlite3.Connection, shop_id: int, reason: str, now_s: float
) -> None:
    """Interrupt a walk with a reason; it continues after a wait, longer each time."""
    connection.execute(
        f"""UPDATE sync_state SET reviews_failures = reviews_failures + 1, reviews_reason = ?1,
            reviews_not_before = ?2 + {retry_wait("reviews_failures")} WHERE shop_id = ?3""",
        (reason, int(now_s), shop_id),
    )


def postpone_reviews(connection: sqlite3.Connection, shop_id: int, until_s: float) -> None:
    """Postpone the reviews of a shop without counting a failure."""
    connection.execute(
        "UPDATE sync_state SET reviews_not_before = ? WHERE shop_id = ?", (int(until_s), shop_id)
    )
