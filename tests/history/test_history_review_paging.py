"""The paging rule of reviews, on pages of a few reviews."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.history.review_paging import ReviewAsk, Step, is_cut, plan_next
from furnisync.limits import ETSY_PAGING, Paging

SMALL_PAGES = Paging(page_size=3, offset_cap=6)
FULL = [9, 8, 7]


def plan(ask: ReviewAsk, created, told) -> Step:
    return plan_next(ask, created, told, SMALL_PAGES)


def test_the_next_page_begins_at_the_oldest_second_seen():
    assert plan(ReviewAsk(), FULL, 10) == Step(ReviewAsk(None, 7))
    assert plan(ReviewAsk(5, 9), FULL, 10) == Step(ReviewAsk(5, 7))
    assert plan(ReviewAsk(5, 9, 3), FULL, 10) == Step(ReviewAsk(5, 7))


def test_a_page_within_one_second_is_followed_by_the_next_offset():
    assert plan(ReviewAsk(2, 7), [7, 7, 7], 20) == Step(ReviewAsk(2, 7, 3))
    assert plan(ReviewAsk(2, 7, 3), [7, 7, 7], 20) == Step(ReviewAsk(2, 7, 6))


def test_a_second_that_exceeds_the_reach_is_left_and_reported():
    assert plan(ReviewAsk(2, 7, 6), [7, 7, 7], 20) == Step(ReviewAsk(2, 6), out_of_reach=True)
    assert plan(ReviewAsk(6, 7, 6), [7, 7, 7], 20) == Step(ReviewAsk(6, 6), out_of_reach=True)
    assert plan(ReviewAsk(7, 7, 6), [7, 7, 7], 20) == Step(None, out_of_reach=True)
    assert plan(ReviewAsk(None, 7, 6), [7, 7, 7], 20) == Step(ReviewAsk(None, 6), out_of_reach=True)


def test_reviews_without_a_time_are_paged_by_offset_as_far_as_that_goes():
    assert plan(ReviewAsk(), [None] * 3, 20) == Step(ReviewAsk(None, None, 3))
    assert plan(ReviewAsk(None, None, 6), [None] * 3, 20) == Step(None, out_of_reach=True)
    assert plan(ReviewAsk(), [None, 8, None], 20) == Step(ReviewAsk(None, 8))


@pytest.mark.parametrize(
    ("ask", "created", "told"),
    [
        (ReviewAsk(), [], 20),  # nothing came, whatever the count
        (ReviewAsk(8), FULL, 20),  # older than the watermark
        (ReviewAsk(), FULL, 3),
        (ReviewAsk(None, 9, 3), FULL, 6),
        (ReviewAsk(), FULL[:2], 2),
        (ReviewAsk(), FULL[:2], 1),  # a count below what came says nothing, and the page is short
        (ReviewAsk(), FULL[:2], None),
    ],
)
def test_the_end(ask, created, told):
    assert plan(ask, created, told) == Step(None)


@pytest.mark.parametrize(
    ("ask", "created", "told"),
    [
        (ReviewAsk(7), FULL, 20),  # the watermark's own second may have more
        (ReviewAsk(), FULL, None),
        (ReviewAsk(), FULL, 2),  # a count below what came says nothing, and the page is full
        (ReviewAsk(), FULL, 4),
        (ReviewAsk(None, 9, 3), FULL, 7),
        (ReviewAsk(None, 9, 3), FULL, 5),
        (ReviewAsk(), FULL[:2], 4),  # short, but more is told
        (ReviewAsk(), FULL[:2], 3),  # a server may have smaller pages
        (ReviewAsk(8), [None] * 3, 20),
    ],
)
def test_not_yet_the_end(ask, created, told):
    assert plan(ask, created, told).next_ask is not None


def test_what_never_comes_is_not_waited_for():
    assert plan_next(ReviewAsk(), FULL[:2], 3, SMALL_PAGES, unsent=1) == Step(None)
    assert plan_next(ReviewAsk(), [], 3, SMALL_PAGES, unsent=1) == Step(None)
    assert plan_next(ReviewAsk(), FULL[:2], 4, SMALL_PAGES, unsent=1) == Step(ReviewAsk(None, 8))


def test_a_short_page_is_cut_where_the_next_one_counts_the_rest():
    assert is_cut(ReviewAsk(), [9, 8, 8], 10, 9)  # both of second 8 are counted again
    assert is_cut(ReviewAsk(None, 9, 2), [9, 8], 10, 7)
    assert not is_cut(ReviewAsk(), [9, 8, 8], 10, 8)  # one was left out in between
    assert not is_cut(ReviewAsk(), [9, 8], None, 8)
    assert not is_cut(ReviewAsk(), [9, 8], 10, None)


def test_without_other_limits_those_of_etsy_hold():
    assert ReviewAsk().limit == ETSY_PAGING.page_size == 100
    assert plan_next(ReviewAsk(), [5] * 100, 200) == Step(ReviewAsk(None, 5))
    assert plan_next(ReviewAsk(None, 5), [5] * 100, 20_000) == Step(ReviewAsk(None, 5, 100))
    assert plan_next(ReviewAsk(None, 5, 12_000), [5] * 100, 20_000).out_of_reach


seconds = st.lists(st.integers(0, 12), max_size=40)


@settings(max_examples=300, deadline=None)
@given(seconds, st.none() | st.integers(0, 12), st.sampled_from(["right", "absent", "low", "cut"]))
def test_a_walk_sees_all_within_reach_down_to_the_watermark(created, watermark, told):
    created = sorted(created, reverse=True)
    ask, seen, out_of_reach = ReviewAsk(watermark), set(), False
    size = 2 if told == "cut" else SMALL_PAGES.page_size  # of the server
    for _ in range(2 * len(created) + 2):
        assert ask.offset <= SMALL_PAGES.offset_cap
        below = len([at for at in created if ask.max_created is not None and at > ask.max_created])
        listed = [
            place
            for place, at in enumerate(created)
            if place >= below and (watermark is None or at >= watermark)
        ]
        page = listed[ask.offset : ask.offset + size]
        seen.update(page)
        count = {"absent": None, "low": 0}.get(told, len(listed))
        step = plan(ask, [created[place] for place in page], count)
        out_of_reach |= step.out_of_reach
        if step.next_ask is None:
            break
        ask = step.next_ask
    else:
        raise AssertionError("no end")
    for place, at in enumerate(created):
        if watermark is None or at >= watermark:
            within = place - created.index(at) < SMALL_PAGES.offset_cap + size
            assert (place in seen) or not within
            assert within or out_of_reach
