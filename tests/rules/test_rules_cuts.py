"""Cuts of price intervals, iterated against counts as Etsy would give them."""

from __future__ import annotations

import bisect
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furnisync.crawl.price_split import CENT, HIGHEST, TARGET, cut, merge, open_ends
from furnisync.limits import ETSY_PAGING

FAST = settings(max_examples=150, deadline=None)


class Etsy:
    """Counts by an inclusive price filter; a page shows any hundred of those."""

    def __init__(self, prices, seed=0):
        self.sorted = sorted(prices)
        self.rng = random.Random(seed)
        self.probes = 0
        self.known = []

    def ask(self, low, high):
        self.probes += 1
        return len(between(self.sorted, low, high))

    def first_page(self, low, high):
        places = between(self.sorted, low, high)
        return [
            self.sorted[at]
            for at in self.rng.sample(places, min(len(places), ETSY_PAGING.page_size))
        ]

    def sample(self, low, high):
        """As the pass does: a thousand known prices, else those and the page just read."""
        self.known.sort()
        inside = [self.known[at] for at in between(self.known, low, high)]
        return inside if len(inside) >= 1000 else inside + self.first_page(low, high)


def between(ascending, low, high):
    left = 0 if low is None else bisect.bisect_left(ascending, low)
    return range(left, len(ascending) if high is None else bisect.bisect_right(ascending, high))


def bring_within_reach(etsy, sample, breaks=(0.0, HIGHEST), limit=2000):
    """Cut as the pass does; returns the ends of the intervals that are read: (low, high, count)."""
    waiting = [
        (None if low <= 0 else low, None if high >= HIGHEST else high)
        for low, high in itertools.pairwise(breaks)
    ]
    ended = []
    while waiting:
        low, high = waiting.pop(0)
        count = etsy.ask(low, high)
        assert etsy.probes < limit, "no end"
        if count <= ETSY_PAGING.reach:
            ended.append((low, high, count))
            etsy.known += etsy.first_page(low, high)
            continue
        found = cut(low, high, count, sample(low, high))
        if not found:
            top = HIGHEST if high is None else high
            assert top - (low or 0) <= CENT + 1e-9, "an interval that could be cut"
            ended.append((low, high, count))
            continue
        assert all(one < two for one, two in itertools.pairwise(found))
        assert (low or 0) < found[0]
        assert found[-1] < (HIGHEST if high is None else high)
        waiting += itertools.pairwise([low, *found, high])
    return sorted(ended, key=lambda one: one[0] or 0)


def assert_nothing_lost(etsy, ended):
    assert ended[0][0] is None
    assert ended[-1][1] is None
    for (_, high, _), (low, _, _) in itertools.pairwise(ended):
        assert high == low  # neighbours share the cut
    # Half a cent beside all prices: nobody stands on two sides.
    assert sum(count for _, _, count in ended) == len(etsy.sorted)


def furniture_prices(number=600_000, seed=1):
    """Log-normal with heavy round prices, as far as one cent and as a million."""
    rng = random.Random(seed)
    prices = []
    for _ in range(number):
        price = math.exp(rng.gauss(5.3, 1.2))
        kind = rng.random()
        if kind < 0.25:
            price = max(5.0, round(price / 5) * 5)
        elif kind < 0.5:
            price = max(1.0, round(price)) - 0.01
        prices.append(round(max(0.2, price), 2))
    prices += [150.0] * 14_000 + [99.0] * 9_000 + [0.2] * 300 + [999_999.0] * 20
    return prices


@pytest.mark.parametrize(
    ("low", "high", "count", "prices", "cuts"),
    [
        (0.0, 100.0, 10, [40.0, 10.0, 30.0, 20.0], [29.995]),  # two pieces at least
        (0.0, 100.0, 2 * TARGET, [10.0, 20.0, 30.0, 40.0], [29.995]),
        (0.0, 100.0, 2 * TARGET + 1, [10.0, 20.0, 30.0], [19.995, 29.995]),
        (0.0, 20.0, 10, [10.0, 20.0, 500.0], [19.995]),  # the upper end counts
        (10.0, 30.0, 10, [5.0, 10.0, 10.0, 20.0], [10.005, 20.005]),  # and the lower one
        (0.0, 1000.0, 3 * TARGET, [5.0, 50.0, 50.0, 50.0, 50.0, 900.0], [49.995, 50.005]),
        (0.0, 1000.0, 3 * TARGET, [5.0, 50.0, 50.0, 60.0, 60.0, 900.0], [49.995, 59.995]),
        (None, None, 3 * TARGET, [], [1000.005]),  # the geometric middle
        (1.0, 4.0, 3 * TARGET, [], [2.505]),
        (1.0, 4.04, 3 * TARGET, [], [2.005]),
        (0.0, 4.0, 3 * TARGET, [], [2.005]),
        (0.0, 9.0, 3 * TARGET, [], [3.005]),
        (10.0, 10.01, 3 * TARGET, [], [10.005]),
        (10.0, 10.005, 3 * TARGET, [10.0], []),  # a single price
        (None, 0.02, 3 * TARGET, [], [0.005]),
    ],
)
def test_where_an_interval_is_cut(low, high, count, prices, cuts):
    assert cut(low, high, count, prices) == cuts


def test_neighbours_are_merged_below_three_quarters_of_the_target():
    def merged(*counts):
        breaks = [float(place) for place in range(len(counts))] + [HIGHEST]
        pairs = zip(itertools.pairwise(breaks), counts, strict=True)
        known = {open_ends(*pair): count for pair, count in pairs if count is not None}
        return merge(breaks, known)

    assert merged(3000, 2999) == (0.0, HIGHEST)
    assert merged(3000, 3000) == (0.0, 1.0, HIGHEST)
    assert merged(3000, 2000, 999, 1) == (0.0, 3.0, HIGHEST)
    assert merged(3000, None, 1) == (0.0, 1.0, 2.0, HIGHEST)
    assert merged(None, 3000, 1) == (0.0, 1.0, HIGHEST)
    assert merged(0, 0) == (0.0, HIGHEST)


def test_the_outermost_ends_are_open():
    assert open_ends(0.0, HIGHEST) == (None, None)
    assert open_ends(CENT, HIGHEST - CENT) == (CENT, HIGHEST - CENT)
    assert open_ends(-1.0, HIGHEST + 1) == (None, None)


@pytest.fixture(scope="module")
def furniture():
    return furniture_prices()


def test_planning_all_of_furniture_costs_three_percent_at_most(furniture):
    etsy = Etsy(furniture)
    ended = bring_within_reach(etsy, etsy.sample)
    assert_nothing_lost(etsy, ended)
    listings = len(furniture)
    floor = math.ceil(listings / ETSY_PAGING.page_size) * 2
    # A list within reach costs no probe of its own: its first page is wanted anyway.
    pages = sum(
        max(1, math.ceil(min(count, ETSY_PAGING.reach) / ETSY_PAGING.stride))
        for _, _, count in ended
    )
    cut_again = etsy.probes - len(ended)
    spent = pages + cut_again + math.ceil(listings / ETSY_PAGING.page_size)
    unread = sum(max(0, count - ETSY_PAGING.reach) for _, _, count in ended) / ETSY_PAGING.page_size
    assert cut_again <= 0.01 * floor
    assert spent <= 1.03 * (floor - unread)
    singles = [(low, high) for low, high, count in ended if count > ETSY_PAGING.reach]
    assert singles == [(149.995, 150.005)]


@pytest.mark.parametrize("sample", ["empty", "unlike", "cheapest", "one price"])
def test_any_sample_leads_within_reach(furniture, sample):
    etsy = Etsy(furniture)
    samples = {
        "empty": lambda low, high: [],
        "unlike": lambda low, high: [500_000.0 + n for n in range(100)],
        "cheapest": lambda low, high: etsy.sorted[:2000],
        "one price": lambda low, high: [20.0] * 100,
    }
    ended = bring_within_reach(etsy, samples[sample])
    assert_nothing_lost(etsy, ended)
    assert etsy.probes <= 700


prices_in_cents = st.one_of(
    st.integers(1, 100_000_000),
    st.sampled_from([1, 2, 100, 101, 1500, 1501, 99_99, 15_000, 99_999_900]),
)


@given(
    st.lists(st.tuples(prices_in_cents, st.integers(1, 30_000)), min_size=1, max_size=12),
    st.integers(0, 10),
    st.sampled_from(["page", "none", "few"]),
)
@FAST
def test_any_prices_come_within_reach(groups, seed, sampled):
    """Heavy prices a cent apart, all equal, far apart: each ends in reach, or as a single price."""
    total = sum(number for _, number in groups)
    scale = max(1, total // 60_000)  # whatever the number, few enough to be quick
    prices = [cents / 100 for cents, number in groups for _ in range(number // scale + 1)]
    etsy = Etsy(prices, seed)
    samples = {
        "page": etsy.sample,
        "none": lambda low, high: [],
        "few": lambda low, high: etsy.first_page(low, high)[:3],
    }
    ended = bring_within_reach(etsy, samples[sampled])
    assert_nothing_lost(etsy, ended)
    distinct = len(set(prices))
    # What halves prices needs no more than their bits, for each price that is to be set apart.
    assert etsy.probes <= 60 * distinct + 60
    for low, high, count in ended:
        if count > ETSY_PAGING.reach:
            top = math.inf if high is None else high
            assert len({price for price in prices if (low or 0) <= price <= top}) == 1


def test_all_equal_is_found_at_once():
    etsy = Etsy([25.0] * 20_000)
    ended = bring_within_reach(etsy, etsy.sample)
    assert (24.995, 25.005, 20_000) in ended
    assert etsy.probes <= 4


def test_two_heavy_prices_a_cent_apart_are_told_apart():
    etsy = Etsy([25.0] * 13_000 + [25.01] * 13_000)
    ended = bring_within_reach(etsy, etsy.sample)
    assert {count for _, _, count in ended} == {0, 13_000}
    assert etsy.probes <= 7


@given(
    st.floats(0, 10_000),
    st.floats(0.02, 10_000),
    st.integers(ETSY_PAGING.reach + 1, 700_000),
    st.lists(st.floats(0, 1e6), max_size=200),
)
@FAST
def test_cuts_ascend_strictly_inside(low, width, count, prices):
    high = low + width
    found = cut(low, high, count, prices)
    assert found
    assert all(one < two for one, two in itertools.pairwise([low, *found, high]))
    assert len(found) <= 3 * max(2, math.ceil(count / TARGET))


@given(st.lists(st.integers(0, 15_000), min_size=1, max_size=40), st.data())
@FAST
def test_merging_keeps_ends_and_order_and_stays_below_the_target(counts, data):
    breaks = [float(place) for place in range(len(counts))] + [HIGHEST]
    known = {
        open_ends(low, high): count
        for (low, high), count in zip(itertools.pairwise(breaks), counts, strict=True)
        if data.draw(st.booleans())
    }
    kept = merge(breaks, known)
    assert kept[0] == 0
    assert kept[-1] == HIGHEST
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(breaks)
    for low, high in itertools.pairwise(kept):
        parts = [pair for pair in itertools.pairwise(breaks) if low <= pair[0] and pair[1] <= high]
        if len(parts) > 1:
            assert sum(known[open_ends(*pair)] for pair in parts) < TARGET
