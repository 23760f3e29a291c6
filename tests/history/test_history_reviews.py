import pytest
from history_world import DAY, T0, new_history, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.history.fields.selection import Selection
from furnisync.history.review_paging import ReviewAsk, plan_next
from furnisync.history.reviews import (
    ReviewPage,
    append_review_page,
    append_reviews,
    mark_reviews_failed,
    next_review_ask,
)
from furnisync.limits import ETSY_PAGING

SELECTION = Selection.of()


def review(number, created, **changes):
    return {
        "shop_id": 1,
        "listing_id": 10,
        "transaction_id": number,
        "buyer_user_id": 77,
        "rating": 5,
        "review": f"Lovely {number}",
        "language": "en",
        "create_timestamp": created,
        **changes,
    }


class Etsy:
    """getReviewsByShop over a list of reviews, newest first, with Etsy's offset cap."""

    def __init__(self, reviews=()):
        self.reviews = []
        self.asked = []
        self.add(*reviews)

    def add(self, *reviews):
        self.reviews += reviews
        self.reviews.sort(key=lambda item: (-item["create_timestamp"], -item["transaction_id"]))

    def answer(self, ask):
        assert ask.offset <= ETSY_PAGING.offset_cap
        assert ask.limit == 100
        self.asked.append(ask)
        found = [
            item
            for item in self.reviews
            if (ask.min_created is None or item["create_timestamp"] >= ask.min_created)
            and (ask.max_created is None or item["create_timestamp"] <= ask.max_created)
        ]
        return ReviewPage(ask, found[ask.offset : ask.offset + 100], len(found))


def walk(history, etsy, now, pages=None):
    """Walk until complete, or interrupted after so many pages; returns pages asked."""
    ask = next_review_ask(history, 1, now)
    for number in range(10_000):
        if number == pages:
            return number
        ask = append_review_page(history, SELECTION, 1, etsy.answer(ask), now_s=now).next_ask
        if ask is None:
            return number + 1
    raise AssertionError


def stored(history):
    return sorted(row[0] for row in rows(history, "SELECT transaction_id FROM reviews"))


def truth(etsy):
    return sorted(item["transaction_id"] for item in etsy.reviews)


def watermark(history):
    return rows(history, "SELECT reviews_watermark FROM sync_state")[0][0]


def test_first_walk_then_nothing_new_costs_one_call(history):
    etsy = Etsy(review(n, T0 + n) for n in range(1000))
    assert walk(history, etsy, T0 + DAY) <= 11
    assert stored(history) == truth(etsy)
    assert watermark(history) == T0 + 999
    assert walk(history, etsy, T0 + 15 * DAY) == 1
    assert stored(history) == truth(etsy)


def test_exactly_one_hundred_reviews_cost_one_call(history):
    assert walk(history, Etsy(review(n, T0 + n) for n in range(100)), T0 + DAY) == 1


def test_same_second_as_the_watermark_is_looked_at_again(history):
    etsy = Etsy([review(1, T0), review(2, T0)])
    walk(history, etsy, T0)
    etsy.add(review(3, T0))
    walk(history, etsy, T0 + DAY)
    assert stored(history) == [1, 2, 3]


def test_fifteen_thousand_reviews_go_past_the_offset_cap(history):
    etsy = Etsy(review(n, T0 + n // 3) for n in range(15_000))
    assert walk(history, etsy, T0 + DAY) <= 156  # 150 is the floor
    assert len(stored(history)) == 15_000
    assert max(ask.offset for ask in etsy.asked) == 0


@pytest.mark.slow
def test_second_with_more_than_one_query_shows_is_told(history):
    etsy = Etsy(review(n, T0) for n in range(12_150))
    etsy.add(*(review(20_000 + n, T0 - 1 - n) for n in range(150)))
    walk(history, etsy, T0 + DAY)
    assert len(stored(history)) == 12_100 + 150
    assert rows(history, "SELECT reviews_out_of_reach FROM sync_state") == [(1,)]
    assert watermark(history) == T0


def test_interrupted_walk_keeps_what_came_and_goes_on_there(history):
    etsy = Etsy(review(n, T0 + n) for n in range(1000))
    walk(history, etsy, T0 + DAY, pages=4)
    assert len(stored(history)) == 397
    assert watermark(history) is None
    mark_reviews_failed(history, 1, "503 from Etsy", T0 + DAY)
    etsy.add(*(review(2000 + n, T0 + 2000 + n) for n in range(250)))
    walk(history, etsy, T0 + 2 * DAY)
    assert watermark(history) == T0 + 999
    assert len(etsy.asked) == len(set(etsy.asked))
    assert rows(history, "SELECT reviews_walked, reviews_reason FROM sync_state") == [
        (T0 + DAY, None)
    ]
    walk(history, etsy, T0 + 2 * DAY)
    assert stored(history) == truth(etsy)
    assert watermark(history) == T0 + 2249


def test_review_deleted_during_the_walk_hides_no_other(history):
    etsy = Etsy(review(n, T0 + n) for n in range(500))
    walk(history, etsy, T0 + DAY, pages=2)
    etsy.reviews = [item for item in etsy.reviews if item["transaction_id"] < 450]
    walk(history, etsy, T0 + DAY)
    assert stored(history) == list(range(500))


def test_edits_are_ignored(history):
    etsy = Etsy([review(1, T0)])
    walk(history, etsy, T0)
    etsy.reviews = [review(1, T0, review="Broke.", rating=1, update_timestamp=T0 + DAY)]
    walk(history, etsy, T0 + DAY)
    assert rows(history, "SELECT review, rating FROM reviews") == [("Lovely 1", 5)]


def test_without_transaction_identity_is_shop_listing_buyer_second_and_text(history):
    plain = {"listing_id": 10, "rating": 5, "create_timestamp": T0}
    sent = [
        {**plain},
        {**plain, "review": ""},
        {**plain, "review": "a\x00b"},
        {**plain, "review": "a\x00c"},
        {**plain, "buyer_user_id": 7},
        {**plain, "listing_id": None},
        {**plain, "create_timestamp": T0 + 1},
        {**plain, "review": "🪑 schön"},
    ]
    assert append_reviews(history, SELECTION, 1, sent + sent, now_s=T0) == len(sent)
    assert append_reviews(history, SELECTION, 1, sent, now_s=T0 + 1) == 0
    assert append_reviews(history, SELECTION, 2, sent, now_s=T0 + 1) == len(sent)
    found = rows(history, "SELECT review FROM reviews WHERE shop_id = 1 ORDER BY rowid")
    assert found == [(item.get("review"),) for item in sent]


def test_a_page_that_is_not_the_present_step_changes_nothing(history):
    etsy = Etsy(review(n, T0 + n) for n in range(300))
    first = next_review_ask(history, 1, T0)
    page = etsy.answer(first)
    append_review_page(history, SELECTION, 1, page, now_s=T0)
    try:
        append_review_page(history, SELECTION, 1, page, now_s=T0)
    except ValueError:
        pass
    else:
        raise AssertionError
    assert len(stored(history)) == 100


def test_reviews_without_any_time_do_not_stop_the_walk(history):
    etsy = Etsy([review(1, T0)])
    ask = next_review_ask(history, 1, T0)
    page = ReviewPage(ask, [review(n, None) for n in range(100)], 250)
    step = append_review_page(history, SELECTION, 1, page, now_s=T0)
    assert step.next_ask == ReviewAsk(None, None, 100)
    assert len(stored(history)) == 100
    assert etsy.asked == []


def test_a_short_page_is_no_end_while_more_is_told():
    assert plan_next(ReviewAsk(), [5, 4], 250).next_ask == ReviewAsk(None, 4)
    assert plan_next(ReviewAsk(), [5, 4], 2).next_ask is None
    assert plan_next(ReviewAsk(), [5] * 100, 0).next_ask is not None
    assert plan_next(ReviewAsk(), [], 250).next_ask is None


events = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(1, 400), st.integers(0, 30)),
        st.tuples(st.just("run"), st.none() | st.integers(0, 4)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(events)
def test_any_course_of_arrivals_and_interruptions_ends_with_the_truth(tmp_path_factory, course):
    """Reviews arrive in bursts that share seconds; runs are cut at any page."""
    history = new_history(tmp_path_factory.mktemp("walk"))
    etsy, now, number = Etsy(), T0, 0
    for kind, *values in course:
        now += 10
        if kind == "run":
            before = watermark(history) if etsy.asked else None
            walk(history, etsy, now, pages=values[0])
            assert before is None or watermark(history) >= before
            continue
        size, seconds = values
        arrived = []
        for index in range(size):
            number += 1
            arrived.append(review(number, now + min(index, seconds)))
        etsy.add(*arrived)
        now += seconds
    asked_before = len(etsy.asked)
    walk(history, etsy, now + 10)
    walk(history, etsy, now + 20)
    assert stored(history) == truth(etsy)
    walk_asks = etsy.asked[asked_before:]
    assert len(walk_asks) <= number // 50 + 4
    assert rows(history, "SELECT walk_started FROM sync_state") == [(None,)]
    history.close()
