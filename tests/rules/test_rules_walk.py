"""The paging rule against lists that shift between any two answers."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shifting_list import ShiftingList, Walker, churning

from furnisync.catalog.frontier import PageRow
from furnisync.crawl import paging
from furnisync.limits import BELIEVED_AFTER, ETSY_PAGING, Paging

SMALL = settings(max_examples=200, deadline=None)

MOST = paging.READS_MOST + BELIEVED_AFTER
"""Reads of each page after which a walk must have ended, `READS_MORE` aside."""


SMALL_PAGES = Paging(page_size=5, offset_cap=60)
"""So that few listings meet every rule."""


def still():
    """Nothing changes."""


def pages_due(listings: int, pages: Paging = ETSY_PAGING) -> int:
    """98 new listings a page, the last one not full: so many pages at least."""
    return max(1, math.ceil((listings + 1 - pages.page_size) / pages.stride) + 1)


@pytest.mark.parametrize(
    "listings", [0, 1, 98, 99, 100, 101, 197, 198, 199, 200, 5000, 8000, 11_979, 12_000, 12_078,
                 12_079, 12_080, 12_099]
)  # fmt: skip
def test_a_still_list_is_read_in_the_fewest_pages(listings):
    world = ShiftingList(listings)
    walker = Walker(world)
    assert walker.walk(shift=still).complete
    assert walker.seen == world.first
    assert walker.reads == pages_due(listings) == len(walker.pages)


@given(st.integers(0, 64), st.sampled_from(["right", "absent", "low", "zero"]))
@SMALL
def test_a_still_list_is_read_once_whatever_the_count(listings, told):
    counts = {"right": listings, "absent": None, "low": listings // 2, "zero": 0}
    world = ShiftingList(listings, SMALL_PAGES)
    walker = Walker(world)
    assert walker.walk(
        shift=still, fault=lambda items, count, start, tries: (items, counts[told])
    ).complete
    assert walker.seen == world.first
    assert walker.reads == pages_due(listings, SMALL_PAGES)


@pytest.mark.parametrize("listings", [12_100, 12_101, 50_000])
def test_a_list_over_the_reach_is_told_after_its_first_page(listings):
    walker = Walker(ShiftingList(listings))
    decision = walker.walk(shift=still)
    assert decision.over_reach
    assert walker.reads == (1 if listings > ETSY_PAGING.reach else 124)


def test_a_list_over_the_reach_is_told_without_a_count():
    walker = Walker(ShiftingList(SMALL_PAGES.reach + 5, SMALL_PAGES))
    assert walker.walk(
        shift=still, fault=lambda items, count, start, tries: (items, None)
    ).over_reach


@pytest.mark.parametrize("part", ["oldest", "newest"])
@pytest.mark.parametrize("listings", [0, 150, 12_100, 15_000])
def test_a_part_ends_at_the_reach(part, listings):
    world = ShiftingList(listings)
    walker = Walker(world, part)
    assert walker.walk(shift=still).complete
    ordered = world.rows[::-1] if part == "newest" else world.rows
    assert walker.seen == {listing for listing, _ in ordered[: ETSY_PAGING.reach]}


class TiedList(ShiftingList):
    """Nothing changes, but listings of one second stand in another order in each answer."""

    def __init__(self, listings, seconds, rng):
        super().__init__(listings)
        self.rng = rng
        self.rows = [(1000 + place, rng.randrange(seconds)) for place in range(listings)]
        self.rows.sort(key=lambda row: row[1])

    def page(self, start, *, newest_first=False):
        self.rows.sort(key=lambda row: (row[1], self.rng.random()))
        return super().page(start, newest_first=newest_first)


@pytest.mark.parametrize("part", ["whole", "newest"])
@pytest.mark.parametrize("seconds", [20, 50, 300])
def test_a_second_that_stands_in_another_order_each_time_is_read_whole(seconds, part):
    world = TiedList(900, seconds, random.Random(7))
    walker = Walker(world, part)
    assert walker.walk(shift=still).complete
    assert walker.seen == world.first
    assert walker.reads <= 2 * pages_due(900) + 1


def test_seconds_that_no_page_can_hold_are_not_read_for_ever():
    world = TiedList(900, 1, random.Random(7))
    walker = Walker(world)
    assert walker.walk(shift=still).complete
    assert walker.reads <= paging.READS_MOST * pages_due(900)


@given(
    st.integers(0, 45),
    st.randoms(use_true_random=False),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.1, 0.5]),
)
@SMALL
def test_whoever_stayed_was_seen(listings, rng, chance, burst, kills):
    """Complete means: whoever was there all the time was in some page, renewed or not."""
    world = ShiftingList(listings, SMALL_PAGES)
    walker = Walker(world)
    decision = walker.walk(
        shift=churning(world, rng, chance, burst),
        order=rng,
        interrupted=lambda: rng.random() < kills,
        bound=MOST * (SMALL_PAGES.offset_cap // SMALL_PAGES.stride + 2) + paging.READS_MORE,
    )
    if decision.complete:
        assert world.must_be_seen() <= walker.seen
    else:
        assert decision.over_reach or decision.stuck


@given(st.integers(0, 45), st.randoms(use_true_random=False), st.integers(1, 6))
@SMALL
def test_whoever_stayed_was_seen_newest_first(listings, rng, burst):
    world = ShiftingList(listings, SMALL_PAGES)
    walker = Walker(world, "newest")
    decision = walker.walk(shift=churning(world, rng, 0.3, burst), order=rng)
    if (
        decision.complete
        and max(page.start for page in walker.pages.values()) < SMALL_PAGES.offset_cap
    ):
        assert world.must_be_seen() <= walker.seen


@given(st.integers(0, 45), st.randoms(use_true_random=False), st.integers(-3, 3))
@SMALL
def test_a_count_that_is_off_by_some_hides_nobody(listings, rng, off):
    world = ShiftingList(listings, SMALL_PAGES)
    walker = Walker(world)
    decision = walker.walk(
        shift=churning(world, rng, 0.2, 2),
        order=rng,
        fault=lambda items, count, start, tries: (items, max(0, count + rng.randint(0, 1) * off)),
    )
    if decision.complete:
        assert world.must_be_seen() <= walker.seen


@given(st.integers(1, 60), st.randoms(use_true_random=False), st.sampled_from([0.1, 0.5, 1.0]))
@SMALL
def test_pages_that_came_short_or_repeated_listings_are_read_again(listings, rng, chance):
    world = ShiftingList(listings, SMALL_PAGES)
    walker = Walker(world)

    def odd_at_first(items, count, start, tries):
        if tries > 1 or not items or rng.random() > chance:
            return items, count
        kind = rng.choice(["short", "twice", "stranger"])
        place = rng.randrange(len(items))
        if kind == "short":
            return items[:place] + items[place + 1 :], count
        if kind == "twice" and len(items) > 1:
            other = items[place - 1]
        else:
            far = [
                row
                for number, row in enumerate(world.rows)
                if not start - 2 * world.paging.page_size
                < number
                < start + 2 * world.paging.page_size
            ]
            if not far:
                return items, count
            other = rng.choice(far)
        return (*items[:place], other, *items[place + 1 :]), count

    decision = walker.walk(shift=still, order=rng, fault=odd_at_first)
    assert decision.complete
    # The pages of the end hold all: what an odd page said before is not needed.
    held = {listing for page in walker.pages.values() for listing, _ in page.items}
    assert held == world.first


def test_pages_that_stay_short_are_believed_after_some_tries():
    world = ShiftingList(1000)
    walker = Walker(world)
    decision = walker.walk(
        shift=still, fault=lambda items, count, start, tries: (items[:50] + items[51:], count)
    )
    assert decision.complete
    assert walker.reads == BELIEVED_AFTER * 10 + 1  # the last holds but ten listings


def test_a_list_that_shrank_to_before_a_page_is_not_called_complete():
    """Once: page 0 full, then 60 of its listings ended, so that the rest slid under page 99."""
    world = ShiftingList(150)
    walker = Walker(world)
    ended = False

    def shift():
        nonlocal ended
        if walker.reads == 1 and not ended:
            ended = True
            for _ in range(60):
                world.end(0.0)

    assert walker.walk(shift=shift).complete
    assert world.must_be_seen() <= walker.seen


def test_a_listing_renewed_between_its_place_and_the_end_is_seen():
    """Once: the end was read before a page whose listing then moved to the end."""
    for seed in range(200):
        rng = random.Random(seed)
        world = ShiftingList(400)
        walker = Walker(world)

        def shift(world=world, rng=rng):
            world.renew(rng.random())

        assert walker.walk(shift=shift, order=rng).complete
        assert world.must_be_seen() <= walker.seen


def test_a_neighbour_that_was_renewed_in_between_proves_nothing():
    """The shared listing of two pages counts only with the same creation time."""
    pages = [
        PageRow(0, 100, 150, tuple((n, n) for n in range(100))),
        PageRow(98, 52, 150, ((99, 5000), *((n, n) for n in range(120, 171))), wave=2),
    ]
    assert paging.next_reads(pages).starts == (48,)


def test_a_list_that_never_holds_still_ends_stuck():
    """Each answer brings other listings altogether."""
    walker = Walker(ShiftingList(300))
    serial = 0

    def all_new(items, count, start, tries):
        nonlocal serial
        serial += 1000
        return tuple((serial + n, serial + n) for n in range(len(items))), count

    decision = walker.walk(shift=still, fault=all_new, bound=MOST * 5 + paging.READS_MORE)
    assert decision.stuck
    assert "shifted too fast" in decision.stuck


class NearlyInOrder:
    """Answers of a wave arrive as they were asked for, but for near neighbours."""

    def __init__(self, rng):
        self._rng = rng

    def shuffle(self, starts):
        starts.sort(key=lambda start: start + self._rng.random() * 2 * ETSY_PAGING.page_size)


@pytest.mark.parametrize("seed", range(6))
def test_what_churn_costs(seed):
    """8,000 listings of which 1 % change while they are read: some pages more."""
    rng = random.Random(seed)
    world = ShiftingList(8000)
    walker = Walker(world)
    shift = churning(world, rng, 80 / pages_due(8000), 1)
    assert walker.walk(shift=shift, order=NearlyInOrder(rng)).complete
    assert world.must_be_seen() <= walker.seen
    assert world.events >= 60
    assert walker.reads <= pages_due(8000) * 1.15


@pytest.mark.parametrize("seed", range(6))
def test_what_a_pause_in_the_middle_costs(seed):
    """The day's calls are spent half-way and 5 % change until there are calls again.

    The pages of before stay good: about as many more are read as the list moved, and no page twice.
    """
    rng = random.Random(seed)
    world = ShiftingList(8000)
    walker = Walker(world)

    def shift():
        if walker.reads == 40:
            for _ in range(400):
                churning(world, rng, 1.0)()

    assert walker.walk(shift=shift, interrupted=lambda: walker.reads == 40).complete
    assert world.must_be_seen() <= walker.seen
    assert walker.reads <= pages_due(8000) + 400 / 50 + 3


@pytest.mark.parametrize("listings", [0, 5, 90, 250])
@pytest.mark.parametrize("left", [0, 3])
def test_a_list_that_ends_under_the_walk_costs_little(listings, left):
    world = ShiftingList(listings)
    walker = Walker(world)

    def shift():
        if walker.reads == 1:
            del world.rows[left:]

    assert walker.walk(shift=shift).complete
    assert {listing for listing, _ in world.rows} <= walker.seen
    assert walker.reads <= pages_due(listings) + 5


def length_told(walker: Walker) -> int:
    return paging.counted_length([walker.pages[start] for start in sorted(walker.pages)])


@given(st.integers(0, 64), st.integers(0, 10**6), st.floats(0, 0.5))
@SMALL
def test_a_list_that_shifts_is_never_said_to_lack_what_ended(listings, seed, chance):
    """Twenty minutes of churn once ended with "3004 of 3005 listings came"."""
    world = ShiftingList(listings, SMALL_PAGES)
    walker = Walker(world)
    decision = walker.walk(shift=churning(world, random.Random(seed), chance))
    if decision.complete:
        assert length_told(walker) <= len(walker.seen)


@given(st.integers(2, 40), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 2.0, 50.0]))
@SMALL
def test_one_page_that_says_another_count_lets_nothing_be_missed(listings, seed, factor):
    """And once with "3000 of 6000": one page of 32 had doubled its count."""
    due = pages_due(listings, SMALL_PAGES)
    lying = random.Random(seed).randrange(due)

    def fault(items, count, start, _tries):
        return items, round(count * factor) if walker.reads == 1 + lying else count

    walker = Walker(ShiftingList(listings, SMALL_PAGES))
    decision = walker.walk(shift=still, fault=fault)
    if decision.complete and due > 1:
        assert length_told(walker) <= len(walker.seen) == listings


@pytest.mark.parametrize("listings", [5, 90, 250, 3000])
def test_what_every_page_leaves_out_is_missed(listings):
    world = ShiftingList(listings)
    walker = Walker(world)
    walker.walk(shift=still, fault=lambda items, count, _start, _tries: (items[1:], count))
    assert length_told(walker) == listings > len(walker.seen)
