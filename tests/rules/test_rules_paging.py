"""Each decision of the paging rule, on few and small pages."""

import pytest

from furnisync.catalog.frontier import PageRow
from furnisync.crawl.paging import (
    READS_MORE,
    READS_MOST,
    NextReads,
    counted_length,
    next_of_order,
    next_reads,
    page_grid,
)
from furnisync.limits import BELIEVED_AFTER, ETSY_PAGING, Paging

SMALL_PAGES = Paging(page_size=5, offset_cap=60)
REACH = 65


def page(start, numbers, count, *, sent=None, tries=1, wave=1):
    """A page of listings, each created in a second of its own."""
    items = tuple((number, number) for number in numbers)
    return PageRow(start, len(items) if sent is None else sent, count, items, tries, wave)


def pages_of(length, starts, *, count="right", waves=None):
    """Pages of a list that does not change."""
    told = length if count == "right" else count
    return [
        page(start, range(start, min(start + 5, length)), told, wave=(waves or {}).get(start, 1))
        for start in starts
    ]


def decide(pages, part="whole", ground=frozenset()) -> NextReads:
    return next_reads(pages, part, ground, SMALL_PAGES)


def test_reading_begins_at_the_first_page():
    assert decide([]) == NextReads(starts=(0,))
    assert decide(pages_of(20, [3])) == NextReads(starts=(0,))


@pytest.mark.parametrize("count", range(80))
def test_the_grid_shows_all_and_the_end(count):
    grid = page_grid(count, SMALL_PAGES)
    assert grid == [start for start in range(0, 61, 3) if start == 0 or start + 2 <= count]


def test_the_grid_of_etsy():
    assert page_grid(100) == [0, 98]
    assert page_grid(99) == [0]
    assert page_grid(50_000)[-2:] == [11_956, 12_000]


def test_the_last_page_waits_for_all_others():
    assert decide(pages_of(14, [0])).starts == (3, 6, 9)
    assert decide(pages_of(14, [0, 3, 9])).starts == (6,)
    assert decide(pages_of(14, [0, 3, 6, 9])).starts == (12,)
    waves = {12: 2}
    assert decide(pages_of(14, [0, 3, 6, 9, 12], waves=waves)) == NextReads(complete=True)


def test_the_page_where_listings_join_is_read_after_all_others():
    assert decide(pages_of(14, [0, 3, 6, 9, 12])).starts == (12,)
    late = pages_of(14, [0, 3, 6, 9, 12], waves={12: 2, 6: 3})
    assert decide(late).starts == (12,)
    assert decide(late, "newest").starts == (0,)
    first_last = pages_of(14, [0, 3, 6, 9, 12], waves={0: 2})
    assert decide(first_last, "newest") == NextReads(complete=True)


def test_a_list_over_the_reach_is_known_by_its_count():
    assert decide(pages_of(REACH + 1, [0])) == NextReads(over_reach=True)
    assert decide(pages_of(REACH, [0])).starts[0] == 3
    for part in ("oldest", "newest"):
        assert decide(pages_of(REACH + 1, [0]), part).starts == tuple(range(3, 60, 3))


def test_a_list_over_the_reach_is_known_by_a_full_last_page():
    starts = range(0, 61, 3)
    waves = {60: 2}
    assert decide(pages_of(REACH + 5, starts, count=None, waves=waves)).over_reach
    assert decide(pages_of(REACH, starts, waves=waves)).over_reach
    assert decide(pages_of(REACH + 5, starts, waves=waves), "oldest").complete
    assert decide(pages_of(REACH - 1, starts, waves=waves)).complete


def test_without_a_count_pages_follow_until_one_is_not_full():
    assert decide(pages_of(7, [0], count=None)).starts == (3,)
    assert decide(pages_of(8, [0, 3], count=None, waves={3: 2})).starts == (6,)
    assert decide(pages_of(7, [0, 3], count=None, waves={3: 2})).complete


def test_behind_a_full_last_page_the_next_follows_nearer_where_that_is_read():
    read = [*pages_of(8, [0, 3], count=None, waves={3: 2}), page(6, [], None, wave=3)]
    assert decide(read).starts == (4,)
    read = [*pages_of(8, [0, 3], count=None, waves={3: 2}), page(4, [], None), page(6, [], None)]
    assert decide(read).starts == (2,)


def test_an_empty_list_is_complete():
    assert decide([page(0, [], 0)]) == NextReads(complete=True)


def test_part_newest_ends_where_it_meets_what_was_read_before():
    first = pages_of(14, [0])
    assert decide(first, "newest", frozenset((n, n) for n in range(5, 14))).starts == (3,)
    met = [*pages_of(14, [0]), *pages_of(14, [3], waves={3: 1})]
    met[0] = page(0, range(5), 14, wave=2)
    assert decide(met, "newest", frozenset((n, n) for n in range(6, 14))).complete
    assert decide(met, "newest", frozenset((n, n + 1) for n in range(6, 14))).starts == (6,)
    assert decide(met, "oldest", frozenset((n, n) for n in range(6, 14))).starts == (6, 9)


@pytest.mark.parametrize(
    "odd",
    [
        {"numbers": [3, 4, 6, 7]},  # shorter than its count says
        {"numbers": [3, 4, 4, 6, 7]},
        {"numbers": [3, 4, 6, 7], "sent": 5},  # one could not be decoded
    ],
)
def test_an_odd_page_is_read_again_until_it_is_believed(odd):
    rest = pages_of(14, [0, 6, 9])

    def starts(tries):
        return decide([rest[0], page(3, count=14, tries=tries, **odd), *rest[1:]]).starts

    assert starts(1) == starts(BELIEVED_AFTER - 1) == (3,)
    assert starts(BELIEVED_AFTER) == (12,)


def test_a_page_that_is_short_because_the_list_ends_is_not_odd():
    assert decide(pages_of(8, [0, 3, 6], waves={6: 2})).complete
    assert decide([page(0, range(3), None)]).complete


def test_few_listings_far_from_where_they_stood_are_odd():
    rest = pages_of(17, [0, 3, 6, 9, 12])
    strange = [*rest[:4], page(12, [0, 1, 14, 15, 16], 17)]
    assert decide(strange).starts == (0, 12)
    three = [*rest[:4], page(12, [0, 1, 2, 15, 16], 17)]
    assert decide(three).starts != (0, 12)


def test_listings_that_moved_by_less_than_a_page_are_no_strays():
    moved = [page(0, range(5), 8), page(3, [4, 1, 2, 8, 9], 8)]
    # Listing 4 stood at 4 and stands at 3; 1 and 2 moved by three.
    assert decide(moved).starts == (6,)


def test_the_first_page_of_a_gap_is_read_from_before_it():
    gap = [page(0, range(5), 11), page(3, range(7, 12), 11, wave=2), page(6, range(10, 15), 11)]
    gap.append(page(9, [13, 14], 11, wave=2))
    assert decide(gap).starts == (1,)


def test_a_second_that_two_pages_share_is_read_whole():
    def tied(start, pairs, count):
        return PageRow(start, len(pairs), count, tuple(pairs), 1, 1)

    torn = [
        tied(0, [(1, 1), (2, 2), (3, 3), (4, 9), (5, 9)], 8),
        tied(3, [(4, 9), (5, 9), (6, 9), (7, 9), (8, 10)], 8),
        tied(6, [(7, 9), (8, 10)], 8),
    ]
    assert decide(torn).starts == (2,)
    whole = [*torn[:1], tied(2, [(3, 3), (4, 9), (5, 9), (6, 9), (7, 9)], 8), *torn[1:]]
    assert decide(whole).starts != (2,)


def test_a_list_that_shifts_too_fast_is_given_up():
    def shifting(reads):
        pages = pages_of(14, [0, 3, 6, 9, 12], waves={12: 2})
        others = [page(one.start, range(100 * n, 100 * n + 5), 14, wave=2)
                  for n, one in enumerate(pages[:4], 1)]  # fmt: skip
        others.append(page(12, [900, 901], 14, wave=2, tries=reads - 4))
        return decide(others)

    most = READS_MOST * 5 + READS_MORE
    assert shifting(most).starts
    assert not shifting(most).stuck
    assert shifting(most + 1).stuck
    assert not shifting(most + 1).starts


def test_orders_in_which_listings_move_are_read_once():
    def starts(*args):
        found = next_of_order(*args)
        assert found.complete == (not found.starts)
        return found.starts

    assert starts([], SMALL_PAGES) == (0,)
    assert starts([page(0, range(5), 12)], SMALL_PAGES) == (5, 10)
    assert starts([page(0, range(5), 10)], SMALL_PAGES) == (5,)
    assert starts([page(0, range(5), None)], SMALL_PAGES) == tuple(range(5, 61, 5))
    assert starts([page(0, range(5), 1000)], SMALL_PAGES) == tuple(range(5, 61, 5))
    assert starts(pages_of(10, [0, 5]), SMALL_PAGES) == ()
    assert starts([page(0, [], 0)], SMALL_PAGES) == ()
    assert starts([page(0, range(5), ETSY_PAGING.reach)])[-1] == ETSY_PAGING.offset_cap


def test_the_length_of_a_list_is_that_of_the_last_page_as_far_as_half_of_them_agree():
    assert counted_length([]) is None
    assert counted_length([page(0, [], None)]) is None
    assert counted_length([page(0, [], 9, wave=2), page(3, [], 8), page(6, [], None, wave=3)]) == 8
    assert counted_length([page(0, [], 9), page(3, [], 8, wave=2)]) == 8
    assert counted_length([page(0, [], 9), page(3, [], 9), page(6, [], 18, wave=2)]) == 9
    assert counted_length([page(0, [], 9), page(3, [], 9), page(6, [], 4, wave=2)]) == 4
